/** How a broker ends: with what runs, without what does not end, and in time. */
import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/broker/broker.ts'
import { handledBy, msOf, soon, startStation, upStation } from '../support/brokers.ts'
import { hasRabbit } from '../support/rabbitmq.ts'

const done: Outcome = { kind: 'done' }
const bodies = (count: number) => Array.from({ length: count }, (_, n) => `message ${n}`)

describe.skipIf(!(await hasRabbit()))('a broker that is closed', () => {
  it('lets what runs end, and acknowledges it', async () => {
    const { broker, send, depth, topology, proxy, channel } = await upStation()
    const gate = Promise.withResolvers<undefined>()
    const handled = handledBy(broker, () => gate.promise.then(() => done))
    await send(...bodies(10))
    await expect.poll(() => handled.bodies.length, soon).toBe(4)
    const closed = broker.close()
    gate.resolve(undefined)
    await closed
    // Those that had not begun are in the queue again.
    await expect.poll(() => depth(topology.queue), soon).toBe(6)
    expect(await (await channel()).checkQueue(topology.queue)).toMatchObject({ consumerCount: 0 })
    expect(handled.bodies).toHaveLength(4)
    expect(broker.stats()).toMatchObject({ done: 4 })
    await expect.poll(() => proxy.connections(), soon).toBe(0)
  })

  it('leaves what does not end to the next one, and is gone within 2 s', async () => {
    const { broker, another, send } = await upStation()
    const handled = handledBy(broker, () => new Promise(() => undefined))
    await send('hangs')
    await expect.poll(() => handled.bodies, soon).toEqual(['hangs'])
    expect(await msOf(broker.close)).toBeLessThan(2_000)
    const next = handledBy(another())
    await expect.poll(() => next.bodies, soon).toEqual(['hangs'])
  })

  it.each([
    ['while nothing comes back from the broker, and a handler hangs', false],
    ['while a new connection hears nothing', true],
  ])('is gone within 2 s %s', async (_when, anew) => {
    const { broker, proxy, send } = await upStation()
    let asked = 0
    const handled = handledBy(broker, () => new Promise(() => undefined), {
      // The second question is not answered either.
      mayConsume: () => asked++ === 0 || new Promise<never>(() => undefined),
    })
    await send('hangs')
    await expect.poll(() => handled.bodies, soon).toEqual(['hangs'])
    proxy.freeze()
    if (anew) {
      proxy.cut()
      await expect.poll(broker.state, soon).toBe('down')
      await expect.poll(() => proxy.connections(), soon).toBe(2)
    }
    const inFlight = broker.publish({ exchange: '', routingKey: 'x', body: Buffer.from('x') })
    const settled = inFlight.catch((error: unknown) => error)
    expect(await msOf(broker.close)).toBeLessThan(2_000)
    expect(await settled).toMatchObject({ code: 'broker_away' })
    await proxy.pass()
    await expect.poll(() => proxy.connections(), soon).toBe(0)
  })

  it('is gone at once where the broker is away, and when it was only just made', async () => {
    const { broker, another, proxy, events } = await startStation({ refused: true })
    await expect.poll(events, soon).toContain('broker_away')
    expect(await msOf(broker.close)).toBeLessThan(500)
    expect(await msOf(another().close)).toBeLessThan(500)
    await proxy.pass()
    expect(await msOf(another().close)).toBeLessThan(500)
    await expect.poll(() => proxy.connections(), soon).toBe(0)
  })

  it('at any moment of its beginning is gone, and stays gone', async () => {
    const { another, proxy, broker } = await startStation()
    await expect.poll(broker.state, soon).toBe('up')
    await broker.close()
    for (let afterMs = 0; afterMs < 60; afterMs += 3) {
      const starting = another()
      handledBy(starting)
      await new Promise((resolve) => setTimeout(resolve, afterMs))
      expect(await msOf(starting.close)).toBeLessThan(2_000)
      expect(starting.state()).toBe('down')
    }
    await expect.poll(() => proxy.connections(), soon).toBe(0)
  })

  it('publishes nothing any more, and may be closed twice', async () => {
    const { broker, names } = await upStation()
    await Promise.all([broker.close(), broker.close()])
    await expect(
      broker.publish({ exchange: names.exchange, routingKey: 'chat.events', body: Buffer.from('x') }),
    ).rejects.toMatchObject({ code: 'broker_away' })
    expect(broker.state()).toBe('down')
  })
})
