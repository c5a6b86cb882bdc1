/** What a bus does while its server, or the way to it, is gone; and how it ends. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { pino } from 'pino'
import { createPostgresBus } from '../../src/bus/postgres-bus.ts'
import { carriers, eventsOf, listen, type Carrier, type Member, type Place } from '../support/buses.ts'
import { startCluster } from '../support/cluster.ts'

/** What a close may take, ms. */
const closedWithinMs = 1_000

/** One instance behind the proxy, one that reaches the server directly; both up. */
async function meet(
  carrier: Carrier,
  { pingMs }: { pingMs?: number } = {},
): Promise<{ place: Place; here: Member; there: Member }> {
  const place = await carrier.place()
  const here = place.join({ by: 'proxy', ...(pingMs !== undefined && { pingMs }) })
  const there = place.join()
  await Promise.all([here.untilBegun(1), there.untilBegun(1)])
  return { place, here, there }
}

const untilLogged = (member: Member, event: string) =>
  expect.poll(() => eventsOf(member), { interval: 10, timeout: 15_000 }).toContain(event)

async function expectBothHear(here: Member, there: Member): Promise<void> {
  const [hearsHere, hearsThere] = [listen(here.bus, 'again'), listen(there.bus, 'again')]
  here.bus.publish('again', 'from here')
  there.bus.publish('again', 'from there')
  await Promise.all([hearsHere.until('from there'), hearsThere.until('from here')])
}

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return performance.now() - startedMs
}

for (const carrier of carriers)
  describe.skipIf(!carrier.available)(`a bus over ${carrier.name}`, () => {
    it('listens again when the server ended its connections, tells so, and logs it once each way', async () => {
      const { place, here, there } = await meet(carrier)
      await place.killConnections()
      await Promise.all([here.untilBegun(2), there.untilBegun(2)])
      expect([here.bus.state(), there.bus.state()]).toEqual(['up', 'up'])
      await expectBothHear(here, there)
      for (const member of [here, there]) {
        expect(eventsOf(member)).toEqual(['bus_away', 'bus_back'])
        expect(member.begun()).toBe(2)
      }
    })

    it('finds that a silent connection is dead, though nothing is sent', async () => {
      const { place, here, there } = await meet(carrier, { pingMs: 50 })
      place.proxy.strand()
      await here.untilBegun(2)
      await expectBothHear(here, there)
      expect(eventsOf(here)).toEqual(['bus_away', 'bus_back'])
    })

    it('finds that a silent connection is dead by sending, and loses no more than what it sent then', async () => {
      const { place, here, there } = await meet(carrier, { pingMs: 3_600_000 })
      const ear = listen(there.bus)
      place.proxy.strand()
      here.bus.publish('news', 'lost')
      await Promise.resolve()
      for (const word of ['kept 1', 'kept 2']) here.bus.publish('news', word)
      await ear.until('kept 2')
      expect(ear.messages).toEqual(['kept 1', 'kept 2'])
      await expectBothHear(here, there)
    })

    it.each(['refuse', 'freeze'] as const)(
      'starts without its server (%s): away at first, then up by itself, with what was published meanwhile',
      async (how) => {
        const place = await carrier.place()
        await place.proxy[how]()
        const there = place.join()
        await there.untilBegun(1)
        const ear = listen(there.bus)
        const here = place.join({ by: 'proxy' })
        for (let n = 0; n < 3; n++) here.bus.publish('news', n)
        await untilLogged(here, 'bus_away')
        expect([here.bus.state(), here.begun()]).toEqual(['away', 0])
        await place.proxy.pass()
        await here.untilBegun(1)
        await ear.until(2)
        expect(ear.messages).toEqual([0, 1, 2])
        await expectBothHear(here, there)
        expect(eventsOf(here)).toEqual(['bus_away', 'bus_back'])
      },
    )

    it('keeps the newest of what is published without a server: 10,000 messages, 4 MiB', async () => {
      const { place, here, there } = await meet(carrier)
      const ear = listen(there.bus)
      const other = listen(there.bus, 'large')
      await place.proxy.refuse()
      await untilLogged(here, 'bus_away')
      for (let n = 0; n < 50_000; n++) here.bus.publish('news', n)
      await place.proxy.pass()
      await ear.until(49_999)
      expect(ear.messages).toEqual(Array.from({ length: 10_000 }, (_, n) => 40_000 + n))
      await untilLogged(here, 'bus_overflowed')
      expect(here.logs).toContainEqual(expect.objectContaining({ event: 'bus_overflowed', dropped: 40_000 }))

      await place.proxy.refuse()
      while (here.bus.state() === 'up') await new Promise(setImmediate)
      const kilobyte = 'x'.repeat(1_000)
      for (let n = 0; n < 20_000; n++) here.bus.publish('large', `${n} ${kilobyte}`)
      await place.proxy.pass()
      await other.until(`19999 ${kilobyte}`)
      expect(other.messages.length).toBeGreaterThan(4_000)
      expect(JSON.stringify(other.messages).length).toBeLessThan(4 * 1024 * 1024)
      const told = ['bus_away', 'bus_overflows', 'bus_back', 'bus_overflowed']
      await expect.poll(() => eventsOf(here)).toEqual([...told, ...told])
    })

    it('says what was published last before it closes, and nothing after', async () => {
      const { place, here, there } = await meet(carrier)
      const ear = listen(there.bus)
      for (let n = 0; n < 1_000; n++) here.bus.publish('news', n)
      const closing = here.bus.close()
      here.bus.publish('news', 'too late')
      await closing
      here.bus.publish('news', 'much too late')
      await ear.until(999)
      expect(place.proxy.connections()).toBe(0)
      expect(here.bus.state()).toBe('away')
      const third = place.join()
      await third.untilBegun(1)
      third.bus.publish('news', 'end')
      await ear.until('end')
      expect(ear.messages).toEqual([...Array.from({ length: 1_000 }, (_, n) => n), 'end'])
      expect(eventsOf(here)).toEqual([])
    })

    it.each(['pass', 'refuse', 'freeze', 'strand'] as const)(
      'closes within a second, also in the middle of an outage (%s)',
      async (how) => {
        const { place, here } = await meet(carrier)
        await place.proxy[how]()
        here.bus.publish('news', 'perhaps')
        expect(await msOf(() => here.bus.close())).toBeLessThan(closedWithinMs)
        await here.bus.close()
      },
    )

    it.each(['pass', 'refuse', 'freeze'] as const)(
      'closes within a second when it has just begun (%s)',
      async (how) => {
        const place = await carrier.place()
        await place.proxy[how]()
        const { bus } = place.join({ by: 'proxy' })
        expect(await msOf(() => bus.close())).toBeLessThan(closedWithinMs)
      },
    )

    it('lets the process end when it is closed', async () => {
      const place = await carrier.place()
      const source = `${carrier.source(place.proxy.url)}
        bus.onGap(async () => {
          bus.publish('news', 'hello')
          await bus.close()
          console.log('closed')
        })`
      const options = { timeout: 15_000 }
      const { stdout } = await promisify(execFile)(
        process.execPath,
        ['--input-type=module', '--eval', source],
        options,
      )
      expect(stdout).toBe('closed\n')
    })
  })

describe('a bus over PostgreSQL', () => {
  it('outlives a crash of the server', async () => {
    const cluster = await startCluster()
    onTestFinished(() => cluster.stop())
    const logs: Record<string, unknown>[] = []
    const write = (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>)
    const log = pino({}, { write })
    const buses = ['a', 'b'].map((instanceId) => createPostgresBus({ url: cluster.url, instanceId, log }))
    for (const bus of buses) onTestFinished(() => bus.close())
    const [here, there] = buses
    if (here === undefined || there === undefined) throw new Error('two were asked for')
    const begins = () => Promise.all(buses.map((bus) => new Promise<void>((resolve) => bus.onGap(resolve))))
    await begins()
    const ear = listen(there)
    await cluster.crash()
    await expect.poll(() => buses.map((bus) => bus.state())).toEqual(['away', 'away'])
    here.publish('news', 'meanwhile')
    const again = begins()
    await cluster.revive()
    await again
    here.publish('news', 'after')
    await ear.until('after')
    expect(logs.map(({ event }) => event).sort()).toEqual(['bus_away', 'bus_away', 'bus_back', 'bus_back'])
  })
})
