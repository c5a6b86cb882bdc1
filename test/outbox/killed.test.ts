/** Processes that are killed while they send: nothing is lost, and what comes twice can be told to be the same. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createBridgeSink, type BridgeSink } from '../../src/outbox/bridge-sink.ts'
import { startOutboxBench, type OutboxBench } from '../support/event-receiver.ts'
import { eventually } from '../support/jobs.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'

let bench: OutboxBench
let receiver: Receiver
let bridge: BridgeSink
const victims = new Set<ChildProcess>()
beforeEach(async () => {
  bench = await startOutboxBench()
  receiver = await startReceiver()
  bridge = createBridgeSink({ url: receiver.origin })
})
afterEach(async () => {
  for (const victim of victims) await kill(victim)
  await bench.close()
  await bridge.close()
  await receiver.close()
})

async function startVictim(): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'relay-victim.ts')
  const victim = spawn(process.execPath, [program, bench.url, receiver.origin], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  victims.add(victim)
  await once(victim.stdout, 'data')
  return victim
}

async function kill(victim: ChildProcess): Promise<void> {
  victims.delete(victim)
  if (victim.exitCode !== null || victim.signalCode !== null) return
  const gone = once(victim, 'exit')
  victim.kill('SIGKILL')
  await gone
}

const ids = () => receiver.received.map(({ headers }) => headers['idempotency-key'])
const survivor = () => bench.relay({ exchange: { isUp: () => true, send: (event) => bridge.send(event) } })
const countRows = async () => (await bench.rows()).length

it('between sending and deleting: it is sent again as the same event', { timeout: 60_000 }, async () => {
  // Deleting takes for ever.
  await bench.sql.unsafe(`
    create function chat.wait() returns trigger language plpgsql as 'begin perform pg_sleep(60); return old; end';
    create trigger slow before delete on chat.outbox for each row execute function chat.wait()`)
  await bench.add(3)
  const victim = await startVictim()
  await eventually(() => bench.sql`select from pg_stat_activity where wait_event = 'PgSleep'`).toHaveLength(1)
  await kill(victim)
  await bench.sql`select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`
  await bench.sql`drop trigger slow on chat.outbox`
  expect(new Set(ids()).size).toBe(3)
  expect(await bench.rows()).toMatchObject([{ attempts: 1 }, { attempts: 1 }, { attempts: 1 }])
  survivor()
  await eventually(countRows).toBe(0)
  expect([ids().length, new Set(ids()).size]).toEqual([6, 3])
})

it(
  'again and again: every event arrives, at worst once more for each kill',
  { timeout: 120_000 },
  async () => {
    receiver.answer((response) => void setTimeout(() => response.writeHead(204).end(), 5))
    await bench.add(2_000)
    const stored = (await bench.rows()).map(({ id }) => id)
    for (let killed = 0; killed < 3; killed++) {
      const before = receiver.received.length
      const victim = await startVictim()
      await expect
        .poll(() => receiver.received.length, { timeout: 20_000, interval: 1 })
        .toBeGreaterThan(before + 50)
      await kill(victim)
    }
    expect(await countRows()).toBeGreaterThan(0)
    survivor()
    await expect.poll(countRows, { timeout: 30_000, interval: 50 }).toBe(0)
    expect(new Set(ids())).toEqual(new Set(stored))
    // A batch each, at most.
    expect(ids().length).toBeLessThanOrEqual(2_000 + 3 * 200)
  },
)
