/**
 * Door of broker: RabbitMQ, as one machine: messages in, messages out.
 *
 * States: down ⇄ up. Up when a connection holds, the topology is there, and messages can be published; down from the
 * first of them that goes, and then it is made again for as long as the process lives. The log says so once each way.
 * A channel that dies alone is made again on its connection, after the topology was asserted again, since a deleted
 * queue may be why.
 * Promises: a message that was taken is handled at least once; one that is `routed` is on the broker's disk; close()
 * ends all of it within two seconds, whatever the broker does.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { ChannelModel } from 'amqplib'
import type { Logger } from '../logging.ts'
import { createConsumer, type Consumer, type ConsumerStats, type Consuming } from './consumer.ts'
import { holdForEver, within } from './hold.ts'
import { closeChannel, openChannel, openLink, readBrokerUrl, type Link } from './link.ts'
import { createPublisher, type Fate } from './publisher.ts'
import { assertTopology, topologyOf, type BrokerNames } from './topology.ts'

export type { ConsumerStats, Consuming, Delivery } from './consumer.ts'
export type { Outcome } from './fate.ts'
export { BrokerAway } from './publisher.ts'
export type { BrokerNames } from './topology.ts'

export interface Broker {
  state: () => 'up' | 'down'
  /**
   * Resolves when the broker has it; persistent, always.
   * @throws BrokerAway where nobody knows that, at the latest after 10 s: it may have come, and is to be sent again.
   * @throws another error where it cannot be written down at all: headers of more than 64 KiB.
   */
  publish: (message: Outgoing) => Promise<Fate>
  /** From now on, and once. */
  consume: (consuming: Consuming) => void
  stats: () => ConsumerStats
  /** How many dead letters lie there; undefined where nobody says so within 1 s. */
  deadLetters: () => Promise<number | undefined>
  /** Takes no more, lets what runs end and be acknowledged, and goes; within 2 s. */
  close: () => Promise<void>
}

export interface Outgoing {
  exchange: string
  routingKey: string
  body: Buffer
  headers?: Record<string, unknown>
  messageId?: string
  type?: string
  contentType?: string
  /** Where no queue takes it, `unroutable` says so; without, it is dropped. */
  mandatory?: boolean
}

export interface BrokerOptions {
  /** `amqp://user:password@host:5672/vhost`, or `amqps:`. */
  url: string
  log: Logger
  names: BrokerNames
  /** Messages that we hold at once: enough to have the next ones at hand, and few to come again when we die. */
  prefetch?: number
  /** How long a message waits after each attempt that failed, ms; after the last it is dead. */
  delaysMs?: readonly number[]
  random?: () => number
  /** Seconds between two heartbeats. */
  heartbeatS?: number
  /** A message that is not confirmed in time is in doubt, ms. */
  confirmMs?: number
  /** A message that is not handled in time is tried again later, ms. */
  handleMs?: number
}

/** Who asks for figures has no more time for one of them, ms. */
const depthMs = 1_000
const idle: ConsumerStats = { consumed: 0, done: 0, dead: 0, retried: 0, unacked: 0 }

/** @throws where the URL is none, without quoting it. */
export function createBroker(options: BrokerOptions): Broker {
  const { log, names, prefetch = 20, random = Math.random, confirmMs, handleMs } = options
  const url = readBrokerUrl(options.url, options.heartbeatS)
  const topology = topologyOf(names, options.delaysMs)
  const publisher = createPublisher(confirmMs === undefined ? {} : { confirmMs })
  const closing = new AbortController()
  let consumer: Consumer | undefined
  /** Of the connection of now, since it was up. */
  let startConsuming: ((by: Consumer) => void) | undefined
  let link: Link | undefined
  let told: 'up' | 'away' | 'refused' | undefined
  let depth: Promise<number | undefined> | undefined
  let closed: Promise<void> | undefined

  /** One connection, and all that is on it. */
  async function holdLink(): Promise<void> {
    const over = new AbortController()
    const tenants: Promise<void>[] = []
    try {
      const made = (link = await openLink(url, closing.signal))
      if (closing.signal.aborted) await made.close()
      const begin = () => {
        startConsuming = (by) => void tenants.push(keepConsuming(by, made.model, over.signal))
        if (consumer !== undefined) startConsuming(consumer)
      }
      const publishing = () => holdPublishing(made.model, over.signal, begin)
      tenants.push(holdForEver(publishing, over.signal, random))
      const error = await made.broken
      over.abort()
      tellAway(error)
    } catch (error) {
      tellAway(error)
    }
    startConsuming = undefined
    await link?.close()
    link = undefined
    await Promise.all(tenants)
  }

  async function holdPublishing(model: ChannelModel, over: AbortSignal, begin: () => void): Promise<void> {
    let error: unknown
    try {
      await assertTopology(model, topology)
      const { lost } = await publisher.open(model)
      tellUp()
      // Not before: what cannot be handled needs to be sent elsewhere.
      if (startConsuming === undefined) begin()
      error = await lost
    } catch (thrown) {
      error = thrown
    }
    // A connection that breaks ends its channels first, and it alone is told of then.
    await turn()
    if (!over.aborted) tellAway(error)
  }

  function keepConsuming(by: Consumer, model: ChannelModel, over: AbortSignal): Promise<void> {
    let toldLost = false
    return holdForEver(
      async (trial) => {
        try {
          if (trial > 1) await assertTopology(model, topology)
          await by.hold(model, over, () => {
            if (toldLost) log.info({ event: 'consumer_back' }, 'messages are taken again')
            toldLost = false
          })
        } catch (error) {
          await turn()
          if (over.aborted || toldLost) return
          toldLost = true
          log.warn({ event: 'consumer_lost', err: error }, 'no messages are taken: the channel is made again')
        }
      },
      over,
      random,
    )
  }

  function tellUp(): void {
    if (told !== undefined && told !== 'up') log.info({ event: 'broker_back' }, 'the broker is back')
    else if (told === undefined) log.info({ event: 'broker_up' }, 'connected to the broker')
    told = 'up'
  }

  function tellAway(error: unknown): void {
    if (closing.signal.aborted) return
    const refused = error instanceof Error && 'code' in error && error.code === 406
    if (refused && told !== 'refused')
      log.error(
        { event: 'broker_refused', err: error },
        'the broker has a queue or an exchange of this name that is different: delete it there, or configure another name',
      )
    else if (!refused && (told === undefined || told === 'up'))
      log.warn({ event: 'broker_away', err: error }, 'the broker is away: no events come or go')
    if (refused) told = 'refused'
    else if (told !== 'refused') told = 'away'
  }

  async function countDead(): Promise<number | undefined> {
    if (link === undefined) return undefined
    // A queue that is not there closes the channel.
    const opened = await openChannel(link.model)
    try {
      return (await opened.channel.checkQueue(topology.deadQueue)).messageCount
    } finally {
      await closeChannel(opened)
    }
  }

  const living = holdForEver(holdLink, closing.signal, random)
  return {
    state: () => (publisher.isOpen() ? 'up' : 'down'),
    publish({ exchange, routingKey, body, mandatory = false, ...properties }) {
      return publisher.publish({ exchange, routingKey, body, mandatory, properties })
    },
    consume(consuming) {
      if (consumer !== undefined) throw new Error('this broker is consumed from already')
      consumer = createConsumer(consuming, { topology, publisher, prefetch, log, random, handleMs })
      startConsuming?.(consumer)
    },
    stats: () => consumer?.stats() ?? idle,
    async deadLetters() {
      // A broker that does not answer is asked one question at a time.
      depth ??= countDead()
        .catch(() => undefined)
        .finally(() => (depth = undefined))
      return await within(depthMs, depth).catch(() => undefined)
    },
    close() {
      closed ??= (async () => {
        await consumer?.stop()
        closing.abort()
        await link?.close()
        await living
      })()
      return closed
    },
  }
}
