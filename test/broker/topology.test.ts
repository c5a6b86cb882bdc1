/** What RabbitMQ has for us after a broker has connected. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { assertTopology } from '../../src/broker/topology.ts'
import { createBroker } from '../../src/broker/broker.ts'
import { openLink, readBrokerUrl } from '../../src/broker/link.ts'
import { pino } from 'pino'
import { handledBy, soon, startStation } from '../support/brokers.ts'
import { hasRabbit, ownNames, rabbitUrl } from '../support/rabbitmq.ts'

describe.skipIf(!(await hasRabbit()))('the topology', () => {
  it('is asserted as often as one likes, by several instances, and changes nothing', async () => {
    const own = await ownNames()
    onTestFinished(own.delete)
    const link = await openLink(readBrokerUrl(rabbitUrl), 'rivulet test')
    onTestFinished(link.close)
    await assertTopology(link.model, own.topology)
    await own.send('stays')
    await Promise.all([assertTopology(link.model, own.topology), assertTopology(link.model, own.topology)])
    await expect.poll(() => own.depth(own.topology.queue), soon).toBe(1)
  })

  it('has delay queues of 10 s, 60 s and 5 min unless told otherwise', async () => {
    const own = await ownNames()
    onTestFinished(own.delete)
    const broker = createBroker({ url: rabbitUrl, names: own.names, log: pino({ level: 'silent' }) })
    onTestFinished(broker.close)
    await expect.poll(broker.state, soon).toBe('up')
    const { queue } = own.names
    for (const name of [`${queue}.delay.10s`, `${queue}.delay.60s`, `${queue}.delay.300s`])
      expect(await own.depth(name)).toBe(0)
  })

  it.each(['chat.events', 'assessment.finished', 'analysis.complete'])(
    'brings what is published as %s to the queue',
    async (routingKey) => {
      const { broker, names } = await startStation()
      await expect.poll(broker.state, soon).toBe('up')
      const handled = handledBy(broker)
      const message = { exchange: names.exchange, routingKey, body: Buffer.from('x'), mandatory: true }
      expect(await broker.publish(message)).toBe('routed')
      await expect
        .poll(() => handled.deliveries.map((delivery) => delivery.routingKey), soon)
        .toEqual([routingKey])
    },
  )

  it('is there again after a cut, though somebody deleted it meanwhile', async () => {
    const { broker, proxy, topology, channel, send, events } = await startStation()
    const handled = handledBy(broker)
    await expect.poll(broker.state, soon).toBe('up')
    await proxy.refuse()
    await expect.poll(broker.state, soon).toBe('down')
    const raw = await channel()
    for (const queue of [topology.queue, topology.deadQueue]) await raw.deleteQueue(queue)
    for (const exchange of [topology.exchange, topology.deadExchange]) await raw.deleteExchange(exchange)
    await proxy.pass()
    await expect.poll(broker.state, soon).toBe('up')
    await send('again')
    await expect.poll(() => handled.bodies, soon).toEqual(['again'])
    expect(events()).toEqual(['broker_up', 'broker_away', 'broker_back'])
  })

  it('that is there and different is told once, and taken when it has gone', async () => {
    let trials = 0
    const { broker, names, channel, send, log, events } = await startStation({
      before: async (own) => (await own.channel()).assertQueue(own.names.queue, { durable: true }),
      // Asked before each trial but the first: the shortest pause.
      random: () => trials++ * 0,
    })
    const handled = handledBy(broker)
    await expect.poll(() => trials, soon).toBeGreaterThan(2)
    expect(broker.state()).toBe('down')
    const [line = ''] = log
    expect(JSON.parse(line)).toMatchObject({ event: 'broker_refused', level: 50 })
    expect(line).toContain(`for queue '${names.queue}'`)
    const raw = await channel()
    await raw.deleteQueue(names.queue)
    await expect.poll(broker.state, soon).toBe('up')
    await send('now')
    await expect.poll(() => handled.bodies, soon).toEqual(['now'])
    expect(events()).toEqual(['broker_refused', 'broker_back'])
  })
})
