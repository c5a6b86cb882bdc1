/**
 * Door of broker: what RabbitMQ must have for us: exchanges, queues and bindings, by name.
 *
 *   exchange ─routing keys→ queue ─50 deliveries in vain→ queue.dead (exchange) → queue.dead
 *              queue.delay.10s, .60s, .300s ─after their time→ queue
 *
 * All of it is durable and asserted by us on each connection, and once a minute while it holds: asserting what is there
 * already changes nothing.
 */
import type { ChannelModel } from 'amqplib'
import { within } from './hold.ts'
import { answerMs, closeChannel, openChannel } from './link.ts'

export interface BrokerNames {
  exchange: string
  queue: string
  routingKey: string
}

export interface Topology {
  exchange: string
  queue: string
  bindings: readonly string[]
  /** In the order in which a message that fails goes through them. */
  delays: readonly { queue: string; ms: number }[]
  deadExchange: string
  deadQueue: string
}

/** Of attempts that failed: what is transient is over after seconds, a minute, or some minutes, or is not transient. */
const delaysDefaultMs = [10_000, 60_000, 300_000]
/**
 * So often a message may come back unacknowledged. What kills the process each time it comes would otherwise kill it
 * for ever; connections that break and databases that go away count as well, so it may not be a handful: one that answers
 * whether it is there and nothing else costs each message in hand one delivery a round, and 20 rounds were over in 8.5 min.
 */
const deliveriesMax = 50
/** RabbitMQ 4 drops what was looked at 20 times in a queue that does not say otherwise, and "never" has no number in 3.10. */
const looksMax = 1_000_000

export function topologyOf(
  { exchange, queue, routingKey }: BrokerNames,
  delaysMs: readonly number[] = delaysDefaultMs,
): Topology {
  return {
    exchange,
    queue,
    bindings: [...new Set([routingKey, 'assessment.*', 'analysis.*'])],
    delays: delaysMs.map((ms) => ({ queue: `${queue}.delay.${spell(ms)}`, ms })),
    deadExchange: `${queue}.dead`,
    deadQueue: `${queue}.dead`,
  }
}

/** @throws with `code` 406 where something of the same name is there and is different. */
export async function assertTopology(model: ChannelModel, topology: Topology): Promise<void> {
  const { exchange, queue, bindings, delays, deadExchange, deadQueue } = topology
  // A refusal closes the channel: this one is for nothing else.
  const opened = await openChannel(model)
  const { channel } = opened
  const quorum = (name: string, more: Record<string, unknown>) =>
    within(
      answerMs,
      channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum', ...more } }),
    )
  // Dead-lettering loses messages by default; at least once works only in a queue that refuses when it is full.
  const safely = { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' }
  try {
    await within(answerMs, channel.assertExchange(deadExchange, 'fanout', { durable: true }))
    await quorum(deadQueue, { 'x-delivery-limit': looksMax })
    await within(answerMs, channel.bindQueue(deadQueue, deadExchange, ''))
    await quorum(queue, {
      ...safely,
      'x-dead-letter-exchange': deadExchange,
      'x-delivery-limit': deliveriesMax,
    })
    for (const { queue: name, ms } of delays)
      await quorum(name, {
        ...safely,
        'x-message-ttl': ms,
        // The default exchange brings it to the queue of this name.
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': queue,
      })
    await within(answerMs, channel.assertExchange(exchange, 'topic', { durable: true }))
    for (const key of bindings) await within(answerMs, channel.bindQueue(queue, exchange, key))
  } finally {
    await closeChannel(opened)
  }
}

const spell = (ms: number) => (ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`)
