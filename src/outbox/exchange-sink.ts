/**
 * Door of outbox: events to the broker's exchange, and what could not be dealt with to the exchange of dead letters.
 *
 * An event is sent when the broker has confirmed it. One that no queue has asked for is `unroutable`.
 */
import type { EventToSend, Sink } from './sink.ts'

/** What is needed of a broker. Messages survive its restart. */
export interface EventBroker {
  state: () => 'up' | 'down'
  /** Resolves with the broker's confirm; rejects where there is none. */
  publish: (message: {
    exchange: string
    routingKey: string
    body: Buffer
    headers?: Record<string, string>
    messageId?: string
    type?: string
    contentType?: string
    mandatory?: boolean
  }) => Promise<'routed' | 'unroutable'>
}

export function createExchangeSink({ broker, exchange }: { broker: EventBroker; exchange: string }): Sink {
  return {
    isUp: () => broker.state() === 'up',
    async send({ id, routingKey, payload }) {
      const fate = await broker.publish({
        exchange,
        routingKey,
        body: Buffer.from(JSON.stringify(payload)),
        messageId: id,
        type: routingKey,
        contentType,
        mandatory: true,
      })
      return fate === 'routed' ? 'sent' : 'unroutable'
    },
  }
}

const contentType = 'application/json'

/** Where the reason of a dead letter is. */
export const reasonHeader = 'x-rivulet-reason'

/** @param exchange that of the dead letters: `<queue>.dead`. */
export function createDeadLetterSink({ broker, exchange }: { broker: EventBroker; exchange: string }): Sink {
  return {
    isUp: () => broker.state() === 'up',
    async send({ id, routingKey, payload }) {
      const fate = await broker.publish({
        exchange,
        routingKey,
        body: Buffer.from(JSON.stringify(payload['body'] ?? null)),
        headers: { [reasonHeader]: reasonOf(payload) },
        messageId: id,
        contentType,
        mandatory: true,
      })
      // Somebody must look at it: it waits for its queue, which is ours and missing.
      if (fate === 'unroutable') throw new Error(`no queue is bound to ${exchange}`)
      return 'sent'
    },
  }
}

/** A header of more than 64 KiB cannot be sent at all. */
const reasonCharsMax = 500

const reasonOf = ({ reason }: EventToSend['payload']) =>
  typeof reason === 'string' ? reason.slice(0, reasonCharsMax) : 'unknown'
