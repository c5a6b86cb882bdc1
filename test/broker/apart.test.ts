/** What hinders one thing hinders no other: publishing and taking, one message and the next. */
import { describe, expect, it } from 'vitest'
import { handledBy, soon, startStation } from '../support/brokers.ts'
import { hasRabbit } from '../support/rabbitmq.ts'

const bodies = (count: number) => Array.from({ length: count }, (_, n) => `message ${n}`)

describe.skipIf(!(await hasRabbit()))('over RabbitMQ', () => {
  it('messages are taken and acknowledged while what we publish does not get through', async () => {
    const { broker, proxy, send, depth, topology } = await startStation()
    const handled = handledBy(broker)
    await expect.poll(broker.state, soon).toBe('up')
    const held = proxy.holdBack('held back')
    const published = broker
      .publish({ exchange: topology.exchange, routingKey: 'nobody', body: Buffer.from('held back') })
      .catch(() => 'in doubt')
    const pass = await held
    // More than are taken without being acknowledged.
    await send(...bodies(60))
    await expect.poll(() => handled.bodies.length, soon).toBe(60)
    await expect.poll(async () => (await depth(topology.queue)) + broker.stats().unacked, soon).toBe(0)
    pass()
    await published
  })

  it('a queue that was made again as another kind is told, and taken from when it is right again', async () => {
    const { broker, channel, topology, events } = await startStation()
    const handled = handledBy(broker)
    await expect.poll(broker.state, soon).toBe('up')
    const own = await channel()
    await own.deleteQueue(topology.queue)
    await own
      .assertQueue(topology.queue, { durable: true, arguments: { 'x-queue-type': 'classic' } })
      .catch(() => undefined)
    await expect.poll(events, soon).toContain('broker_refused')
    expect(broker.state()).toBe('down')
    await (await channel()).deleteQueue(topology.queue)
    await expect.poll(broker.state, soon).toBe('up')
    const again = await channel()
    again.sendToQueue(topology.queue, Buffer.from('x'))
    await expect.poll(() => handled.bodies, soon).toEqual(['x'])
  })

  it('a dead letter that has no place waits alone; the others are handled meanwhile', async () => {
    const { broker, channel, send, topology } = await startStation()
    const handled = handledBy(broker, (body) =>
      body === 'poison' ? { kind: 'dead', reason: 'on_purpose' } : { kind: 'done' },
    )
    await expect.poll(broker.state, soon).toBe('up')
    const own = await channel()
    // A queue that takes nothing, beside ours: what goes to both is not confirmed.
    const full = `${topology.deadQueue}-full`
    await own.assertQueue(full, {
      durable: true,
      arguments: { 'x-max-length': 0, 'x-overflow': 'reject-publish' },
    })
    await own.bindQueue(full, topology.deadExchange, '')
    await send('poison', ...bodies(40))
    const startedAt = performance.now()
    await expect.poll(() => handled.bodies.length, soon).toBeGreaterThanOrEqual(41)
    expect(performance.now() - startedAt).toBeLessThan(4_000)
    expect(broker.stats().unacked).toBe(1)
    await own.deleteQueue(full)
    await expect.poll(() => broker.stats().unacked, soon).toBe(0)
  })
})
