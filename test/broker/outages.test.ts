/** What a broker does while RabbitMQ, the way to it, a channel, or all that messages are handled with, is gone. */
import { connect, type Channel } from 'amqplib'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import type { Outcome } from '../../src/broker/broker.ts'
import { handledBy, soon, startStation, upStation } from '../support/brokers.ts'
import { hasRabbit, rabbitUrl } from '../support/rabbitmq.ts'

const done: Outcome = { kind: 'done' }
const away: Outcome = { kind: 'away' }
const bodies = (count: number) => Array.from({ length: count }, (_, n) => `message ${n}`)

/** All channels that are made from now on, as amqplib makes them: to do to one what no broker under test does. */
async function channelsMade(): Promise<() => Channel[]> {
  const model = await connect(rabbitUrl)
  await model.close()
  const spy = vi.spyOn(Object.getPrototypeOf(model) as typeof model, 'createChannel')
  onTestFinished(() => spy.mockRestore())
  return () => spy.mock.settledResults.flatMap(({ type, value }) => (type === 'fulfilled' ? [value] : []))
}

describe.skipIf(!(await hasRabbit()))('a broker', () => {
  it('loses none of twenty messages that are being handled when the connection is cut', async () => {
    const { broker, proxy, send, depth, topology, events, log } = await upStation()
    const gate = Promise.withResolvers<undefined>()
    const handled = handledBy(broker, () => gate.promise.then(() => done), { concurrency: 20 })
    await send(...bodies(20))
    await expect.poll(() => handled.bodies.length, soon).toBe(20)
    proxy.cut()
    await expect.poll(broker.state, soon).toBe('down')
    gate.resolve(undefined)
    await expect.poll(() => broker.stats().done, soon).toBe(20)
    expect(new Set(handled.bodies)).toEqual(new Set(bodies(20)))
    // What was being handled came again, and only once: its first handling could not be acknowledged any more.
    expect(handled.bodies).toHaveLength(40)
    expect(handled.deliveries.slice(20).every(({ redelivered }) => redelivered)).toBe(true)
    await send('after')
    await expect.poll(() => handled.bodies, soon).toContain('after')
    await expect.poll(() => depth(topology.queue), soon).toBe(0)
    await expect.poll(events, soon).toContain('broker_back')
    await broker.close()
    expect(await depth(topology.queue)).toBe(0)
    expect(events()).toEqual(['broker_up', 'broker_away', 'broker_back'])
    // Why the connection broke, and not that its channels went with it.
    expect(log[1]).toContain('ECONNRESET')
  })

  it('loses none of sixty messages through three cuts', async () => {
    const { broker, proxy, send, depth, topology } = await upStation()
    const handled = handledBy(broker)
    for (let cut = 1; cut <= 3; cut++) {
      await send(...bodies(20).map((body) => `${cut}: ${body}`))
      await expect.poll(() => handled.bodies.length, soon).toBeGreaterThan((cut - 1) * 20)
      proxy.cut()
      await expect.poll(broker.state, soon).toBe('down')
      await expect.poll(broker.state, soon).toBe('up')
    }
    await expect.poll(() => new Set(handled.bodies).size, soon).toBe(60)
    // What was handled and could not be acknowledged comes again, until nothing is left.
    const left = async () => (await depth(topology.queue)) + broker.stats().unacked
    await expect.poll(left, soon).toBe(0)
  })

  it('that was not there at the start connects by itself, and says so once', async () => {
    let trials = 0
    const { broker, proxy, send, events } = await startStation({ refused: true, random: () => trials++ * 0 })
    const handled = handledBy(broker)
    await expect.poll(() => trials, soon).toBeGreaterThan(2)
    expect(broker.state()).toBe('down')
    expect(await broker.deadLetters()).toBeUndefined()
    await proxy.pass()
    await expect.poll(broker.state, soon).toBe('up')
    await send('x')
    await expect.poll(() => handled.bodies, soon).toEqual(['x'])
    expect(events()).toEqual(['broker_away', 'broker_back'])
  })

  it('finds that a silent connection is dead, though nothing is sent', async () => {
    const { broker, proxy, send, log } = await upStation({ heartbeatS: 1 })
    const handled = handledBy(broker)
    proxy.strand()
    await expect.poll(broker.state, soon).toBe('down')
    await expect.poll(broker.state, soon).toBe('up')
    await send('x')
    await expect.poll(() => handled.bodies, soon).toEqual(['x'])
    expect(log.filter((line) => line.includes('Heartbeat timeout'))).toHaveLength(1)
  })

  it('consumes again after its queue was deleted under it', async () => {
    const { broker, channel, depth, send, topology, events } = await upStation()
    const handled = handledBy(broker)
    await send('before')
    await expect.poll(() => handled.bodies, soon).toEqual(['before'])
    await (await channel()).deleteQueue(topology.queue)
    await expect.poll(events, soon).toEqual(['broker_up', 'consumer_lost', 'consumer_back'])
    expect(await depth(topology.queue)).toBe(0)
    await send('after')
    await expect.poll(() => handled.bodies, soon).toEqual(['before', 'after'])
    expect(broker.state()).toBe('up')
  })

  it('consumes again after RabbitMQ has closed its channel alone (406)', async () => {
    const made = await channelsMade()
    const { broker, send, events, log } = await upStation()
    const handled = handledBy(broker)
    await send('before')
    await expect.poll(() => broker.stats().done, soon).toBe(1)
    // A tag that it never gave.
    const fields = { deliveryTag: 999, redelivered: false, exchange: '', routingKey: '' }
    made()
      .at(-1)
      ?.ack({ content: Buffer.alloc(0), properties: {} as never, fields })
    await expect.poll(events, soon).toEqual(['broker_up', 'consumer_lost', 'consumer_back'])
    expect(log.join()).toContain('PRECONDITION_FAILED - unknown delivery tag 999')
    await send('after')
    await expect.poll(() => handled.bodies, soon).toEqual(['before', 'after'])
    expect(broker.state()).toBe('up')
  })

  it('stops taking while nothing can be handled, and comes back with all that was there', async () => {
    const { broker, channel, send, depth, topology, events } = await upStation()
    let database = false
    let asked = 0
    const handled = handledBy(broker, () => (database ? done : away), {
      mayConsume: () => asked++ === 0 || database,
    })
    await send(...bodies(30))
    // All of them, in the queue, and nobody takes them.
    await expect.poll(() => depth(topology.queue), soon).toBe(30)
    await expect.poll(() => asked, soon).toBeGreaterThan(3)
    expect(await (await channel()).checkQueue(topology.queue)).toMatchObject({
      messageCount: 30,
      consumerCount: 0,
    })
    expect(handled.bodies.length).toBeLessThanOrEqual(4)
    expect(broker.stats()).toEqual({
      consumed: expect.any(Number) as unknown,
      done: 0,
      dead: 0,
      retried: 0,
      unacked: 0,
    })
    expect(broker.stats().consumed).toBeLessThanOrEqual(20)
    database = true
    await expect.poll(() => broker.stats().done, soon).toBe(30)
    expect(new Set(handled.bodies)).toEqual(new Set(bodies(30)))
    expect(handled.bodies.length).toBeLessThanOrEqual(34)
    expect(events()).toEqual(['broker_up', 'consumer_paused', 'consumer_resumed'])
  })

  it('acknowledges what was done beside that which could not be', async () => {
    const { broker, send, depth, topology } = await upStation()
    const gate = Promise.withResolvers<undefined>()
    let asked = 0
    handledBy(broker, (body) => (body === 'slow' ? gate.promise.then(() => done) : away), {
      mayConsume: () => asked++ === 0,
    })
    await send('slow', 'not now')
    await expect.poll(() => broker.stats().consumed, soon).toBe(2)
    gate.resolve(undefined)
    await expect.poll(() => broker.stats().done, soon).toBe(1)
    await expect.poll(() => depth(topology.queue), soon).toBe(1)
  })

  it('asks before it takes anything, and takes a question that fails, or hangs, for a no', async () => {
    const { broker, send, depth, topology } = await upStation()
    let asked = 0
    const answers = [
      () => false,
      () => Promise.reject(new Error('no')),
      () => new Promise<never>(() => undefined),
    ]
    const handled = handledBy(broker, undefined, { mayConsume: () => answers[asked++]?.() ?? true })
    await send('x')
    await expect.poll(() => asked, soon).toBe(3)
    expect(await depth(topology.queue)).toBe(1)
    expect(handled.bodies).toEqual([])
    await expect.poll(() => handled.bodies, soon).toEqual(['x'])
  })

  it('waits longer each time where it may consume and nothing can be handled', async () => {
    const { broker, send } = await upStation({ random: () => 0 })
    const atMs: number[] = []
    handledBy(broker, () => {
      atMs.push(performance.now())
      return away
    })
    await send('x')
    await expect.poll(() => atMs.length, soon).toBe(4)
    const [first = 0, second = 0, third = 0] = atMs.slice(1).map((ms, n) => ms - (atMs[n] ?? 0))
    // A timer may come a millisecond early.
    expect(first).toBeGreaterThan(249)
    expect(second).toBeGreaterThan(499)
    expect(third).toBeGreaterThan(999)
  })

  it('sends what comes back fifty times to the dead letters: it may be what kills us', async () => {
    const { channel, names, send, depth, topology } = await upStation()
    await send('kills')
    for (let delivery = 0; delivery <= 50; delivery++) {
      const dying = await channel()
      await expect.poll(async () => (await dying.get(names.queue)) !== false, soon).toBe(true)
      await dying.close()
    }
    await expect.poll(() => depth(topology.deadQueue), soon).toBe(1)
    expect(await depth(topology.queue)).toBe(0)
  })

  it('is consumed from by several instances, each message by one of them', async () => {
    const { broker, another, send } = await upStation()
    const [here, there] = [broker, another()].map((by) => handledBy(by))
    await expect.poll(() => there !== undefined, soon).toBe(true)
    await send(...bodies(200))
    const all = () => [...(here?.bodies ?? []), ...(there?.bodies ?? [])]
    await expect.poll(() => all().length, soon).toBe(200)
    expect(new Set(all()).size).toBe(200)
  })

  it('never says its password: neither when it is refused nor when its URL is none', async () => {
    const { another, log, proxy } = await startStation()
    const password = 'open-sesame'
    another({ url: proxy.url.replace('guest:guest', `guest:${password}`) })
    await expect.poll(() => log.join(), soon).toContain('ACCESS_REFUSED')
    expect(() => another({ url: `http://guest:${password}@host` })).toThrow('the URL of the broker')
    const thrown = await Promise.resolve()
      .then(() => another({ url: `amqp://guest:${password}@:port` }))
      .catch((error: unknown) => error)
    expect(JSON.stringify(thrown, Object.getOwnPropertyNames(thrown))).toContain('the URL of the broker')
    expect(JSON.stringify(thrown, Object.getOwnPropertyNames(thrown))).not.toContain(password)
    expect(log.join()).not.toContain(password)
  })
})
