/**
 * Door of broker: RabbitMQ, as one machine: messages in, messages out.
 *
 * Two connections: one publishes, the other takes and acknowledges. RabbitMQ that is short of memory or disk reads
 * nothing more from who publishes, and what we do not acknowledge may be what fills it.
 *
 * States: down ⇄ up. Up when both hold, the topology is there, messages can be published, and, where that was asked for,
 * are taken or are not on purpose; down from the first of them that goes, and then it is made again for as long as the
 * process lives. The log says so once each way. A channel that dies alone is made again on its connection, after the
 * topology was asserted again, since a deleted queue may be why. Once a minute it is asserted in any case: who publishes
 * to an exchange that lost its binding, or is gone, tells only himself.
 * Promises: a message that was taken is handled at least once; one that is `routed` is on the broker's disk; close()
 * ends all of it within two seconds, whatever the broker does.
 */
import { setImmediate as turn } from 'node:timers/promises'
import type { ChannelModel } from 'amqplib'
import type { Logger } from '../logging.ts'
import { createConsumer, type Consumer, type ConsumerStats, type Consuming } from './consumer.ts'
import { holdForEver, pause, within } from './hold.ts'
import { closeChannel, openChannel, openLink, readBrokerUrl, type Link } from './link.ts'
import { createNews, isRefused } from './news.ts'
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
  /** Between two looks whether the topology is still there, ms. */
  assertEveryMs?: number
}

/** Nobody tells us that an exchange or a binding was deleted; to assert it all takes some 10 ms. */
const assertDefaultMs = 60_000
/** Who asks for figures has no more time for one of them, ms. */
const depthMs = 1_000
const idle: ConsumerStats = { consumed: 0, done: 0, dead: 0, retried: 0, unacked: 0 }

/** @throws where the URL is none, without quoting it. */
export function createBroker(options: BrokerOptions): Broker {
  const { log, names, prefetch = 20, random = Math.random, confirmMs, handleMs } = options
  const { assertEveryMs = assertDefaultMs } = options
  const url = readBrokerUrl(options.url, options.heartbeatS)
  const topology = topologyOf(names, options.delaysMs)
  const publisher = createPublisher(confirmMs === undefined ? {} : { confirmMs })
  const closing = new AbortController()
  const news = createNews(log, closing.signal)
  const links = new Set<Link>()
  let consumer: Consumer | undefined
  /** On the connection that takes of now, since the topology is there. */
  let startConsuming: ((by: Consumer) => void) | undefined
  /** The connection that takes. */
  let taking: ChannelModel | undefined
  /** All was there when it was last asserted. */
  let asserted = false
  let depth: Promise<number | undefined> | undefined
  let closed: Promise<void> | undefined

  /** One connection, and all that is on it. */
  async function holdLink(
    name: string,
    tenantsOf: (model: ChannelModel, over: AbortSignal) => Promise<unknown>,
    blocked?: (why: string | undefined) => void,
  ): Promise<void> {
    const over = new AbortController()
    let link: Link | undefined
    let tenants: Promise<unknown> | undefined
    try {
      link = await openLink(url, name, closing.signal, blocked)
      links.add(link)
      if (closing.signal.aborted) await link.close()
      tenants = tenantsOf(link.model, over.signal)
      const error = await link.broken
      over.abort()
      news.away(error)
    } catch (error) {
      news.away(error)
    }
    await link?.close()
    if (link !== undefined) links.delete(link)
    await tenants
  }

  async function holdPublishingLink(): Promise<void> {
    await holdLink(
      'rivulet publishes',
      (model, over) => holdForEver(() => holdPublishing(model, over), over, random),
      (why) => {
        publisher.setBlocked(why)
        news.blocked(why)
      },
    )
    publisher.setBlocked(undefined)
  }

  async function holdPublishing(model: ChannelModel, over: AbortSignal): Promise<void> {
    let error: unknown
    try {
      await assertTopology(model, topology)
      const { lost } = await publisher.open(model)
      tellUp()
      error = await lost
    } catch (thrown) {
      error = thrown
    }
    // A connection that breaks ends its channels first, and it alone is told of then.
    await turn()
    if (!over.aborted) news.away(error)
  }

  async function holdTakingLink(): Promise<void> {
    await holdLink('rivulet takes', async (model, over) => {
      taking = model
      over.addEventListener('abort', () => (taking = startConsuming = undefined), { once: true })
      const consuming: Promise<void>[] = []
      const begin = () => {
        startConsuming = (by) => void consuming.push(keepConsuming(by, model, over))
        if (consumer !== undefined) startConsuming(consumer)
      }
      await holdForEver(() => keepTopology(model, over, begin), over, random)
      await Promise.all(consuming)
    })
    asserted = false
  }

  async function keepTopology(model: ChannelModel, over: AbortSignal, begin: () => void): Promise<void> {
    try {
      await assertTopology(model, topology)
      asserted = !over.aborted
      if (asserted) tellUp()
      if (asserted && startConsuming === undefined) begin()
      await pause(assertEveryMs, over)
    } catch (error) {
      await turn()
      if (over.aborted) return
      asserted = false
      news.away(error)
    }
  }

  function keepConsuming(by: Consumer, model: ChannelModel, over: AbortSignal): Promise<void> {
    let toldLost = false
    return holdForEver(
      async (trial) => {
        const seen = { began: false }
        try {
          if (trial > 1) await assertTopology(model, topology)
          await by.hold(model, over, () => {
            seen.began = true
            if (toldLost) log.info({ event: 'consumer_back' }, 'messages are taken again')
            toldLost = false
            asserted = !over.aborted
            tellUp()
          })
        } catch (error) {
          await turn()
          if (over.aborted) return
          if (isRefused(error) && !seen.began) {
            asserted = false
            news.away(error)
          } else if (!toldLost) {
            toldLost = true
            log.warn(
              { event: 'consumer_lost', err: error },
              'no messages are taken: the channel is made again',
            )
          }
        }
      },
      over,
      random,
    )
  }

  function tellUp(): void {
    if (asserted && publisher.isOpen()) news.up()
  }

  async function countDead(): Promise<number | undefined> {
    if (taking === undefined) return undefined
    // A queue that is not there closes the channel.
    const opened = await openChannel(taking)
    try {
      return (await opened.channel.checkQueue(topology.deadQueue)).messageCount
    } finally {
      await closeChannel(opened)
    }
  }

  const living = Promise.all([
    holdForEver(holdPublishingLink, closing.signal, random),
    holdForEver(holdTakingLink, closing.signal, random),
  ])
  return {
    state: () => (asserted && publisher.isOpen() && (consumer?.isWell() ?? true) ? 'up' : 'down'),
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
        await Promise.all([...links].map((link) => link.close()))
        await living
      })()
      return closed
    },
  }
}
