/** What becomes of the messages in the queue, by how handling them ends. */
import { describe, expect, it } from 'vitest'
import { handledBy, soon, upStation, type Station } from '../support/brokers.ts'
import { hasRabbit } from '../support/rabbitmq.ts'

/** No message is anywhere but, maybe, dead. */
async function expectAllSettled({ topology, depth, broker }: Station): Promise<void> {
  expect(broker.stats().unacked).toBe(0)
  for (const queue of [topology.queue, ...topology.delays.map((delay) => delay.queue)])
    expect(await depth(queue)).toBe(0)
}

describe.skipIf(!(await hasRabbit()))('a consumer', () => {
  it('acknowledges what is done: nobody gets it again', async () => {
    const station = await upStation()
    const { broker, send } = station
    handledBy(broker)
    await send('a', 'b', 'c')
    await expect.poll(broker.stats, soon).toEqual({ consumed: 3, done: 3, dead: 0, retried: 0, unacked: 0 })
    await broker.close()
    const next = handledBy(station.another())
    await send('d')
    await expect.poll(() => next.bodies, soon).toEqual(['d'])
  })

  it('sends what is dead to the dead letters, with why, and does what is behind it within 5 s', async () => {
    const station = await upStation()
    const { broker, send, take, topology, log } = station
    const handled = handledBy(broker, (body) =>
      body === 'bad' ? { kind: 'dead', reason: 'malformed' } : { kind: 'done' },
    )
    const sentAtMs = performance.now()
    await send('bad', 'good')
    await expect.poll(() => [broker.stats().dead, broker.stats().done], soon).toEqual([1, 1])
    expect(performance.now() - sentAtMs).toBeLessThan(5_000)
    expect(handled.bodies.toSorted()).toEqual(['bad', 'good'])
    const letter = await take(topology.deadQueue)
    expect(letter?.content.toString()).toBe('bad')
    expect(letter?.properties.headers).toEqual({
      'x-rivulet-reason': 'malformed',
      'x-rivulet-attempts': 1,
      'x-rivulet-dead-at': expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown,
      'x-rivulet-routing-key': 'chat.events',
      // The broker's own, since it is taken by hand here.
      'x-delivery-count': expect.anything() as unknown,
    })
    expect(log.filter((line) => line.includes('message_dead'))).toHaveLength(1)
    await expectAllSettled(station)
  })

  it('tries again after each delay, and no more after the last', async () => {
    const station = await upStation()
    const { broker, send, take, topology } = station
    const atMs: number[] = []
    const handled = handledBy(broker, () => {
      atMs.push(performance.now())
      return { kind: 'retry', reason: 'archive_away' }
    })
    await send('x')
    await expect.poll(broker.stats, soon).toEqual({ consumed: 4, done: 0, dead: 1, retried: 3, unacked: 0 })
    const gapsMs = atMs.slice(1).map((ms, n) => ms - (atMs[n] ?? 0))
    for (const [n, { ms }] of topology.delays.entries()) expect(gapsMs[n]).toBeGreaterThanOrEqual(ms)
    expect(handled.deliveries.map(({ routingKey }) => routingKey)).toEqual(Array(4).fill('chat.events'))
    expect((await take(topology.deadQueue))?.properties.headers).toMatchObject({
      'x-rivulet-reason': 'archive_away',
      'x-rivulet-attempts': 4,
    })
    await expectAllSettled(station)
  })

  it('tries again what a handler throws at, says its code or name, and never its message', async () => {
    const station = await upStation({ delaysMs: [] })
    const { broker, send, take, topology, log } = station
    handledBy(broker, (body) => {
      throw body === 'coded'
        ? Object.assign(new Error('Budi said'), { code: '23505' })
        : new TypeError('Budi said')
    })
    await send('coded', 'named')
    await expect.poll(() => broker.stats().dead, soon).toBe(2)
    const reasons = [await take(topology.deadQueue), await take(topology.deadQueue)].map(
      (letter) => letter?.properties.headers?.['x-rivulet-reason'] as string,
    )
    expect(reasons.toSorted()).toEqual(['23505', 'TypeError'])
    expect(log.join()).not.toContain('Budi')
  })

  it('tries again what is not handled in time, and gives its place to the next', async () => {
    const station = await upStation({ delaysMs: [], handleMs: 50 })
    const { broker, send, take, topology } = station
    handledBy(broker, (body) => (body.startsWith('hangs') ? new Promise(() => undefined) : { kind: 'done' }))
    await send('hangs 1', 'hangs 2', 'hangs 3', 'hangs 4', 'good')
    await expect.poll(() => [broker.stats().done, broker.stats().dead], soon).toEqual([1, 4])
    expect((await take(topology.deadQueue))?.properties.headers).toMatchObject({
      'x-rivulet-reason': 'timeout',
    })
  })

  it('handles four at once and no more, and holds twenty', async () => {
    const { broker, send } = await upStation()
    const gate = Promise.withResolvers<undefined>()
    let now = 0
    let most = 0
    const handled = handledBy(broker, async () => {
      most = Math.max(most, ++now)
      await gate.promise
      now--
      return { kind: 'done' }
    })
    await send(...Array.from({ length: 30 }, (_, n) => `${n}`))
    await expect.poll(broker.stats, soon).toMatchObject({ consumed: 20, unacked: 20 })
    expect(handled.bodies).toHaveLength(4)
    gate.resolve(undefined)
    await expect.poll(() => broker.stats().done, soon).toBe(30)
    expect(most).toBe(4)
  })

  it('sends 10 MB to the dead letters without handling it, and its neighbours are done', async () => {
    const station = await upStation()
    const { broker, send, take, topology } = station
    const handled = handledBy(broker)
    const large = Buffer.alloc(10 * 1024 * 1024, 7)
    await send('before', large, 'after')
    await expect.poll(() => [broker.stats().done, broker.stats().dead], soon).toEqual([2, 1])
    expect(handled.bodies.toSorted()).toEqual(['after', 'before'])
    const letter = await take(topology.deadQueue)
    expect(letter?.content.equals(large)).toBe(true)
    expect(letter?.properties.headers).toMatchObject({
      'x-rivulet-reason': 'too_large',
      'x-rivulet-attempts': 1,
    })
    await expectAllSettled(station)
  })

  it('handles 256 KiB, and not one byte more', async () => {
    const { broker, send } = await upStation()
    const handled = handledBy(broker)
    await send(Buffer.alloc(256 * 1024), Buffer.alloc(256 * 1024 + 1))
    await expect.poll(() => [broker.stats().done, broker.stats().dead], soon).toEqual([1, 1])
    expect(handled.deliveries[0]?.body).toHaveLength(256 * 1024)
  })

  it('sends on what has headers that can be read and not written: without them', async () => {
    const station = await upStation()
    const { broker, channel, names, take, topology } = station
    handledBy(broker, () => ({ kind: 'dead', reason: 'malformed' }))
    const raw = await channel()
    // As large as amqplib writes; ours do not fit in beside it.
    const headers = { long: 'x'.repeat(65_400) }
    raw.publish(names.exchange, 'chat.events', Buffer.from('x'), { headers, persistent: true })
    await expect.poll(() => broker.stats().dead, soon).toBe(1)
    const letter = await take(topology.deadQueue)
    expect(letter?.properties.headers).toMatchObject({ 'x-rivulet-reason': 'malformed' })
    expect(letter?.properties.headers).not.toHaveProperty('long')
    expect(broker.stats().consumed).toBe(1)
  })

  it('does not acknowledge what no queue takes: it comes again, and is dead when there is one', async () => {
    const station = await upStation()
    const { broker, channel, send, depth, topology, events } = station
    await (await channel()).deleteQueue(topology.deadQueue)
    handledBy(broker, () => ({ kind: 'dead', reason: 'malformed' }))
    await send('x')
    await expect.poll(() => broker.stats().dead, soon).toBe(1)
    await expect.poll(() => depth(topology.deadQueue), soon).toBe(1)
    expect(broker.stats()).toMatchObject({ consumed: 2, unacked: 0 })
    expect(events()).toContain('consumer_lost')
  })

  it('counts the dead letters, and says so where it cannot', async () => {
    const station = await upStation()
    const { broker, send, proxy } = station
    handledBy(broker, () => ({ kind: 'dead', reason: 'malformed' }))
    await send('a', 'b')
    await expect.poll(broker.deadLetters, soon).toBe(2)
    proxy.freeze()
    const startedMs = performance.now()
    expect(await Promise.all([broker.deadLetters(), broker.deadLetters()])).toEqual([undefined, undefined])
    expect(performance.now() - startedMs).toBeLessThan(1_500)
    await proxy.pass()
    await expect.poll(broker.deadLetters, soon).toBe(2)
    await proxy.refuse()
    await expect.poll(broker.state, soon).toBe('down')
    expect(await broker.deadLetters()).toBeUndefined()
  })

  it('is one: who asks for a second is told so', async () => {
    const { broker } = await upStation()
    handledBy(broker)
    expect(() => handledBy(broker)).toThrow('consumed from already')
  })
})
