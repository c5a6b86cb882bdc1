/**
 * Messages to RabbitMQ, over one channel with confirms.
 *
 * A message is published when the broker has said that it has it on disk; what was in flight when the channel went is
 * in doubt, and its publisher is told so at once: it may have come, and is to be published again. A broker that is short
 * of memory or disk blocks who publishes: nothing more is given to it then.
 */
import { randomUUID } from 'node:crypto'
import { IllegalOperationError, type ChannelModel, type ConfirmChannel, type Options } from 'amqplib'
import { openConfirmChannel } from './link.ts'

/** `routed`: at least one queue has it, where that was asked for with `mandatory`. */
export type Fate = 'routed' | 'unroutable'

export interface Parcel {
  /** '': the default exchange, which brings it to the queue that is named by the routing key. */
  exchange: string
  routingKey: string
  body: Buffer
  /** Without a queue for it, it is `unroutable`; else it is dropped, and nobody is told. */
  mandatory: boolean
  properties: Pick<
    Options.Publish,
    | 'headers'
    | 'messageId'
    | 'type'
    | 'contentType'
    | 'contentEncoding'
    | 'correlationId'
    | 'timestamp'
    | 'appId'
  >
}

/** The broker has not taken the message, or nobody knows whether it has: it is to be published again. */
export class BrokerAway extends Error {
  override name = 'BrokerAway'
  readonly code = 'broker_away'
}

export interface Publisher {
  /** Makes its channel. @returns what resolves when that is gone, with why. */
  open: (model: ChannelModel) => Promise<{ lost: Promise<Error> }>
  /** Why the broker reads nothing from us, or undefined where it does. */
  setBlocked: (why: string | undefined) => void
  isOpen: () => boolean
  /**
   * @throws BrokerAway where the message is not confirmed within 10 s.
   * @throws another error where it cannot be written down at all, such as headers of more than 64 KiB.
   */
  publish: (parcel: Parcel) => Promise<Fate>
}

interface Flight {
  address: string
  returned: boolean
}

/** A broker that is well confirms within milliseconds; one that flushes a full disk, within seconds. */
const confirmDefaultMs = 10_000
/**
 * Published and not confirmed yet. A broker that blocks us reads nothing, so that what we publish stays in our memory:
 * also what its publisher waits for no more counts until it is confirmed or its channel is gone.
 */
const inFlightMax = 1_000

export function createPublisher({ confirmMs = confirmDefaultMs }: { confirmMs?: number }): Publisher {
  let current: { channel: ConfirmChannel; flights: Set<Flight> } | undefined
  let blocked: string | undefined

  return {
    async open(model) {
      const opened = await openConfirmChannel(model)
      const { channel, lost } = opened
      const flights = new Set<Flight>()
      channel.on('return', ({ fields, properties }) => {
        const address = addressOf(fields.exchange, fields.routingKey, properties.messageId)
        for (const flight of flights) if (flight.address === address) flight.returned = true
      })
      const mine = { channel, flights }
      current = mine
      channel.once('close', () => {
        if (current === mine) current = undefined
      })
      return { lost }
    },
    setBlocked: (why) => void (blocked = why),
    isOpen: () => current !== undefined && blocked === undefined,
    publish: (parcel) =>
      new Promise<Fate>((resolve, reject) => {
        if (current === undefined) throw new BrokerAway('no connection to the broker')
        if (blocked !== undefined) throw new BrokerAway(`the broker takes nothing now: ${blocked}`)
        const { channel, flights } = current
        if (flights.size >= inFlightMax)
          throw new BrokerAway(`${inFlightMax} messages wait for their confirms already`)
        const { exchange, routingKey, body, mandatory, properties } = parcel
        const messageId = properties.messageId ?? randomUUID()
        const fail = (why: string) => {
          clearTimeout(timer)
          reject(new BrokerAway(why))
        }
        const timer = setTimeout(() => fail(`no confirm within ${confirmMs} ms`), confirmMs)
        const flight: Flight = { address: addressOf(exchange, routingKey, messageId), returned: false }
        const options: Options.Publish = { ...properties, messageId, mandatory, persistent: true }
        try {
          // A message that comes back does so before its confirm; a channel that goes tells all that wait for one.
          channel.publish(exchange, routingKey, body, options, (error: Error | null) => {
            flights.delete(flight)
            clearTimeout(timer)
            if (error === null) resolve(flight.returned ? 'unroutable' : 'routed')
            else fail(error.message)
          })
          flights.add(flight)
        } catch (error) {
          clearTimeout(timer)
          throw error instanceof IllegalOperationError ? new BrokerAway('the channel is gone') : error
        }
      }),
  }
}

/** By what a message that comes back is known: two of the same address have the same fate. */
const addressOf = (exchange: string, routingKey: string, messageId: unknown) =>
  JSON.stringify([exchange, routingKey, messageId])
