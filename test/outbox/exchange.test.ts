/** Events and dead letters to the broker. */
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { createBroker, type Broker } from '../../src/broker/broker.ts'
import { createDeadLetterSink, createExchangeSink, type EventBroker } from '../../src/outbox/exchange-sink.ts'
import { createOutbox } from '../../src/outbox/outbox.ts'
import type { EventToSend } from '../../src/outbox/relay.ts'
import { startOutboxBench, titlesOf } from '../support/event-receiver.ts'
import { eventually } from '../support/jobs.ts'
import { hasRabbit, ownNames, rabbitUrl } from '../support/rabbitmq.ts'

type Published = Parameters<EventBroker['publish']>[0]

function scriptedBroker(answer: () => Promise<'routed' | 'unroutable'>) {
  const published: Published[] = []
  const broker: EventBroker = {
    state: () => 'up',
    publish(message) {
      published.push(message)
      return answer()
    },
  }
  return { broker, published }
}

const event: EventToSend = {
  id: 'e1',
  routingKey: 'chat.message_created',
  payload: { event_id: 'e1', data: { message_id: 'm' } },
  createdAt: '2026-01-01T00:00:00.000Z',
}
const letter: EventToSend = {
  ...event,
  routingKey: 'analysis.complete',
  payload: { body: { event_id: 'theirs' }, reason: 'r'.repeat(10_000) },
}

describe('the exchange', () => {
  it('is asked to say who takes an event, and is sent all of it as JSON under its routing key', async () => {
    const { broker, published } = scriptedBroker(() => Promise.resolve('routed'))
    expect(await createExchangeSink({ broker, exchange: 'x' }).send(event)).toBe('sent')
    expect(published).toMatchObject([
      {
        exchange: 'x',
        routingKey: 'chat.message_created',
        type: 'chat.message_created',
        messageId: 'e1',
        contentType: 'application/json',
        mandatory: true,
      },
    ])
    expect(JSON.parse(published[0]?.body.toString() ?? '')).toEqual(event.payload)
  })

  it('without a queue for it, and without a confirm: neither is sent', async () => {
    const unbound = createExchangeSink({
      ...scriptedBroker(() => Promise.resolve('unroutable')),
      exchange: 'x',
    })
    expect(await unbound.send(event)).toBe('unroutable')
    const away = createExchangeSink({
      ...scriptedBroker(() => Promise.reject(new Error('no'))),
      exchange: 'x',
    })
    await expect(away.send(event)).rejects.toThrow('no')
  })
})

describe('dead letters', () => {
  it('hold what came, and in a header of bounded length why', async () => {
    const { broker, published } = scriptedBroker(() => Promise.resolve('routed'))
    expect(await createDeadLetterSink({ broker, exchange: 'q.dead' }).send(letter)).toBe('sent')
    const [message] = published
    expect(message).toMatchObject({ exchange: 'q.dead', routingKey: 'analysis.complete', mandatory: true })
    expect(message?.body.toString()).toBe('{"event_id":"theirs"}')
    expect(message?.headers?.['x-rivulet-reason']).toBe('r'.repeat(500))
  })

  it('wait for their queue where it is missing: none is given up', async () => {
    const { broker } = scriptedBroker(() => Promise.resolve('unroutable'))
    await expect(createDeadLetterSink({ broker, exchange: 'q.dead' }).send(letter)).rejects.toThrow('q.dead')
  })
})

describe.skipIf(!(await hasRabbit()))('with RabbitMQ', () => {
  it('an event that was stored lies in its receiver’s queue, in its order; what nobody wants waits; a letter is dead', async () => {
    const own = await ownNames()
    const bench = await startOutboxBench()
    let broker: Broker | undefined
    const receivers = `${own.names.queue}.receiver`
    try {
      broker = createBroker({ url: rabbitUrl, names: own.names, log: pino({ level: 'silent' }) })
      await eventually(() => broker?.state()).toBe('up')
      const channel = await own.channel()
      await channel.assertQueue(receivers, { durable: true })
      await channel.bindQueue(receivers, own.names.exchange, 'chat.conversation_ready')
      const outbox = createOutbox({ sinks: { exchange: true, bridge: false } })
      await bench.add(300)
      await bench.database.asSystem('test', async (tx) => {
        await outbox.deadLetter(tx, { routingKey: 'analysis.complete', payload: { a: 1 }, reason: 'why' })
        await outbox.append(tx, [
          {
            routingKey: 'chat.message_created',
            userId: 'ann',
            data: {
              conversation_id: 'c',
              message_id: 'unwanted',
              parent_message_id: null,
              sender_type: 'user',
              status: 'complete',
              content_type: 'text',
              created_at: '2026-01-01T00:00:00.000Z',
            },
          },
        ])
      })
      const relay = bench.relay({
        exchange: createExchangeSink({ broker, exchange: own.names.exchange }),
        dead_letters: createDeadLetterSink({ broker, exchange: own.topology.deadExchange }),
      })
      await eventually(() => relay.stats().sent).toBe(301)
      const got: EventToSend['payload'][] = []
      for (;;) {
        const message = await own.take(receivers)
        if (message === undefined) break
        expect(message.properties.deliveryMode).toBe(2)
        const payload = JSON.parse(message.content.toString()) as EventToSend['payload']
        expect(message.properties.messageId).toBe(payload['event_id'])
        got.push(payload)
      }
      expect(titlesOf(got.map((payload) => ({ ...event, payload })))).toEqual(
        Array.from({ length: 300 }, (_, n) => String(n)),
      )
      const dead = await own.take(own.topology.deadQueue)
      expect(dead?.content.toString()).toBe('{"a":1}')
      expect(dead?.properties.headers).toMatchObject({ 'x-rivulet-reason': 'why' })
      expect((await bench.rows()).map(({ payload }) => payload.data?.['message_id'])).toEqual(['unwanted'])
      expect(relay.stats()).toMatchObject({ refused: 0, failed: 0, unroutable: 0 })
    } finally {
      await bench.close()
      await broker?.close()
      await (await own.channel()).deleteQueue(receivers)
      await own.delete()
    }
  })
})
