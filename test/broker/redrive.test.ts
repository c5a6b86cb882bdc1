/** Dead letters, moved back into their queue. */
import { describe, expect, it } from 'vitest'
import { redrive } from '../../src/broker/redrive.ts'
import { handledBy, soon, upStation, type Station, type StationOptions } from '../support/brokers.ts'
import { hasRabbit, rabbitUrl } from '../support/rabbitmq.ts'
import { pino } from 'pino'

const log = pino({ level: 'silent' })

/** A station that is closed, and these are its dead letters. */
async function deadStation(bodies: string[], options: StationOptions = {}): Promise<Station> {
  const station = await upStation(options)
  const { broker, send, depth, topology } = station
  handledBy(broker, () => ({ kind: 'dead', reason: 'malformed' }), { concurrency: 1 })
  await send(...bodies)
  await expect.poll(() => depth(topology.deadQueue), soon).toBe(bodies.length)
  await broker.close()
  return station
}

async function bodiesIn({ take }: Station, queue: string): Promise<string[]> {
  const bodies: string[] = []
  for (let letter = await take(queue); letter !== undefined; letter = await take(queue))
    bodies.push(letter.content.toString())
  return bodies
}

describe.skipIf(!(await hasRabbit()))('redrive', () => {
  it('moves all dead letters back, in their order, as they were before they were tried', async () => {
    const station = await deadStation(['a', 'b', 'c'])
    const { names, topology, depth, another } = station
    expect(await redrive({ url: rabbitUrl, names, log })).toBe(3)
    expect(await depth(topology.deadQueue)).toBe(0)
    const handled = handledBy(another(), () => ({ kind: 'done' }), { concurrency: 1 })
    await expect.poll(() => handled.bodies, soon).toEqual(['a', 'b', 'c'])
    for (const { headers, routingKey } of handled.deliveries) {
      expect(routingKey).toBe('chat.events')
      expect(Object.keys(headers).filter((name) => name.startsWith('x-rivulet'))).toEqual([
        'x-rivulet-routing-key',
      ])
    }
  })

  it('gives a message all its delays again', async () => {
    const { names, another, depth, topology } = await deadStation(['x'])
    await redrive({ url: rabbitUrl, names, log })
    const broker = another()
    handledBy(broker, () => ({ kind: 'retry', reason: 'still' }))
    await expect.poll(broker.stats, soon).toMatchObject({ retried: 3, dead: 1 })
    await expect.poll(() => depth(topology.deadQueue), soon).toBe(1)
  })

  it('moves as many as it is told, the oldest', async () => {
    const station = await deadStation(['a', 'b', 'c'])
    expect(await redrive({ url: rabbitUrl, names: station.names, limit: 2, log })).toBe(2)
    expect(await bodiesIn(station, station.topology.deadQueue)).toEqual(['c'])
  })

  it('ends when all that lay there was moved once, though it dies again at once', async () => {
    const { names, another, depth, topology } = await deadStation(['a', 'b', 'c'])
    const broker = another()
    handledBy(broker, () => ({ kind: 'dead', reason: 'malformed' }))
    await expect.poll(broker.state, soon).toBe('up')
    expect(await redrive({ url: rabbitUrl, names, log })).toBe(3)
    await expect.poll(() => depth(topology.deadQueue), soon).toBe(3)
  })

  it('says so where there is no such queue, and makes none that nobody would read', async () => {
    const { names, channel } = await deadStation(['a'])
    const queue = `${names.queue}-typo`
    await expect(redrive({ url: rabbitUrl, names: { ...names, queue }, log })).rejects.toThrow(
      `there is no queue ${queue}.dead: is CHAT_QUEUE_NAME right?`,
    )
    await expect((await channel()).checkQueue(queue)).rejects.toThrow('NOT_FOUND')
  })

  it('of nothing is nothing', async () => {
    const { names } = await deadStation([])
    expect(await redrive({ url: rabbitUrl, names, log })).toBe(0)
  })

  it('makes the queue where it is not there: the letters have somewhere to go', async () => {
    const { names, channel, depth, topology } = await deadStation(['a', 'b'])
    await (await channel()).deleteQueue(topology.queue)
    expect(await redrive({ url: rabbitUrl, names, log })).toBe(2)
    await expect.poll(() => depth(topology.queue), soon).toBe(2)
  })

  it('that is cut in the middle loses none, and leaves at most one twice', async () => {
    const letters = ['letter 1', 'letter 2', 'letter 3', 'letter 4', 'letter 5']
    const station = await deadStation(letters)
    const { names, proxy, topology, depth } = station
    const heard = proxy.heard('letter 3')
    const moving = redrive({ url: proxy.url, names, log })
    const failed = expect(moving).rejects.toMatchObject({ code: 'broker_away' })
    await heard
    proxy.cut()
    await failed
    // What was not acknowledged is there again when the broker has seen the end of the connection.
    await expect.poll(() => depth(topology.deadQueue), soon).toBe(3)
    expect(await redrive({ url: rabbitUrl, names, log })).toBe(3)
    const all = await bodiesIn(station, topology.queue)
    expect(new Set(all)).toEqual(new Set(letters))
    expect(all.length).toBeLessThanOrEqual(6)
  })

  it('says that the broker is away', async () => {
    const { names, proxy } = await deadStation([])
    await proxy.refuse()
    await expect(redrive({ url: proxy.url, names, log })).rejects.toThrow('ECONNREFUSED')
  })
})
