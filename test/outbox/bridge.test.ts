/** Notifications to another service's inbox, over HTTP. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createBridgeSink, type BridgeSink } from '../../src/outbox/bridge-sink.ts'
import { createOutbox } from '../../src/outbox/outbox.ts'
import type { EventToSend } from '../../src/outbox/relay.ts'
import { contentOf } from '../support/content.ts'
import { startOutboxBench } from '../support/event-receiver.ts'
import { eventually } from '../support/jobs.ts'
import { startNotices } from '../support/notices.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'

const serviceKey = 'a-service-key-of-at-least-32-characters'
let receiver: Receiver
let sinks: BridgeSink[]
beforeEach(async () => {
  receiver = await startReceiver()
  sinks = []
})
afterEach(async () => {
  await Promise.all(sinks.map((sink) => sink.close()))
  await receiver.close()
})

function bridge(options: Partial<Parameters<typeof createBridgeSink>[0]> = {}): BridgeSink {
  const sink = createBridgeSink({ url: receiver.origin, serviceKey, ...options })
  sinks.push(sink)
  return sink
}

const event = (id = '01900000-0000-7000-8000-000000000001'): EventToSend => ({
  id,
  routingKey: 'notification.events',
  payload: { event_id: id, type: 'notification.events', user_id: 'ann', data: { id: 'n', title: 'Ready' } },
  createdAt: '2026-01-01T00:00:00.000Z',
})

describe('a notification', () => {
  it('is posted with the service key, its user, and its event’s id as the key of the request', async () => {
    expect(await bridge({ url: `${receiver.origin}/inner/` }).send(event())).toBe('sent')
    const [received] = receiver.received
    expect(received).toMatchObject({
      method: 'POST',
      path: '/inner/api/notifications/send',
      headers: {
        authorization: `Bearer ${serviceKey}`,
        'content-type': 'application/json',
        'idempotency-key': event().id,
      },
    })
    expect(JSON.parse(received?.body.toString() ?? '')).toEqual({
      user_id: 'ann',
      notification: { id: 'n', title: 'Ready' },
      event_id: event().id,
    })
  })

  it('goes without a key where there is none', async () => {
    expect(await bridge({ serviceKey: undefined }).send(event())).toBe('sent')
    expect(receiver.received[0]?.headers.authorization).toBeUndefined()
  })

  it.each([400, 404, 409, 413, 422])('answered with %d is refused for good', async (status) => {
    receiver.answer((response) => response.writeHead(status).end('why'))
    expect(await bridge().send(event())).toEqual({ refused: `status_${status}` })
  })

  it.each([302, 408, 425, 429, 500, 502, 503, 504])(
    'answered with %d is to be tried again',
    async (status) => {
      receiver.answer((response) => response.writeHead(status, { location: '/elsewhere' }).end())
      await expect(bridge().send(event())).rejects.toThrow(String(status))
      expect(receiver.received).toHaveLength(1)
    },
  )

  it('that is not answered in time, or by nobody, is to be tried again', async () => {
    receiver.answer(() => undefined)
    await expect(bridge({ timeoutMs: 100 }).send(event())).rejects.toThrow()
    await receiver.close()
    await expect(bridge().send(event())).rejects.toThrow()
  })

  it('is sent though the answer does not end, or is endless: within the time', async () => {
    receiver.answer((response) => response.writeHead(200).write('…'))
    expect(await bridge({ timeoutMs: 200 }).send(event())).toBe('sent')
    receiver.answer((response) => {
      const more = () => {
        while (response.write('x'.repeat(16_384)));
      }
      response.writeHead(201).on('drain', more)
      more()
    })
    expect(await bridge({ timeoutMs: 2_000 }).send(event())).toBe('sent')
  })
})

it('gets at most eight at once from a relay, and each once', async () => {
  const bench = await startOutboxBench()
  try {
    const waiting: (() => void)[] = []
    let most = 0
    receiver.answer((response) => {
      waiting.push(() => response.writeHead(200).end())
      most = Math.max(most, waiting.length)
    })
    await bench.sql`
      insert into chat.outbox (id, sink, routing_key, user_id, payload)
      select gen_random_uuid(), 'bridge', 'notification.events', 'ann', '{}' from generate_series(1, 40)`
    const sink = bridge()
    // The relay's bound, too: what waits for its turn must not spend the time that it has.
    expect(sink.atOnceMax).toBe(8)
    bench.relay({ bridge: sink })
    await eventually(() => waiting.length).toBe(8)
    while (receiver.received.length < 40 || waiting.length > 0) {
      for (const end of waiting.splice(0)) end()
      await new Promise((resolve) => void setImmediate(resolve))
    }
    await eventually(async () => (await bench.rows()).length).toBe(0)
    const keys = receiver.received.map(({ headers }) => headers['idempotency-key'])
    expect([most, keys.length, new Set(keys).size, receiver.connections()]).toEqual([8, 40, 40, 8])
  } finally {
    await bench.close()
  }
})

it('delays no notification while it hangs: sending takes as long as without it', async ({ annotate }) => {
  const bench = await startOutboxBench()
  const notices = await startNotices()
  try {
    receiver.answer(() => undefined)
    const relay = bench.relay({ bridge: bridge() }, { transactions: notices.database })
    const outbox = createOutbox({
      sinks: { exchange: false, bridge: true },
      wake: (sink) => relay.wake(sink),
    })
    const instances = {
      without: notices.instance({}, { pollMs: 600_000 }),
      hanging: notices.instance({ outbox }, { pollMs: 600_000 }),
    }
    const took = { without: [] as number[], hanging: [] as number[] }
    // In turn, so that both have the same machine.
    for (let n = 0; n < 200; n++)
      for (const name of ['without', 'hanging'] as const) {
        const startedAt = performance.now()
        await instances[name].inbox.notify([{ userId: `user-${n}`, content: contentOf() }])
        took[name].push(performance.now() - startedAt)
      }
    const median = (values: number[]) => values.toSorted((one, other) => one - other)[100] ?? Infinity
    const [without, hanging] = [median(took.without), median(took.hanging)]
    await annotate(`p50 without ${without.toFixed(1)} ms, with a bridge that hangs ${hanging.toFixed(1)} ms`)
    expect(receiver.received.length).toBeGreaterThan(0)
    // A read and a write more, in the same transaction; a hanging bridge itself would cost seconds.
    expect(hanging).toBeLessThan(without * 3 + 10)
    const [row] = await notices.sql`select count(*)::int as n from chat.outbox`
    expect(row?.['n']).toBe(200)
  } finally {
    await bench.close()
    await notices.close()
  }
})
