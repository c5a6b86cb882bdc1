/** What becomes of a message that was not done: where it goes, and what is written on it. Decides, and does nothing. */
import type { ConsumeMessage, GetMessage } from 'amqplib'
import type { Parcel } from './publisher.ts'
import type { Topology } from './topology.ts'

/** How handling a message ended. */
export type Outcome =
  | { kind: 'done' }
  /** There is no point in trying again. The reason is a word that quotes nobody. */
  | { kind: 'dead'; reason: string }
  /** It may go well later. */
  | { kind: 'retry'; reason: string }
  /** Nothing can be handled now, this message no more than any other. */
  | { kind: 'away' }

export const headerNames = {
  /** How often it was tried in vain. */
  attempts: 'x-rivulet-attempts',
  /** Why it was not done the last time. */
  reason: 'x-rivulet-reason',
  /** ISO 8601. */
  deadAt: 'x-rivulet-dead-at',
  /** What it was published with: on its way back from a delay it has the queue's name instead. */
  routingKey: 'x-rivulet-routing-key',
} as const

/** A word, not a text. */
const reasonCharsMax = 100

/** Where a message goes that was tried once more in vain. */
export function parcelAfter(
  outcome: Extract<Outcome, { reason: string }>,
  message: ConsumeMessage,
  topology: Topology,
  now: Date,
): Parcel & { dead: boolean; reason: string } {
  const attempts = attemptsOf(message) + 1
  const reason = outcome.reason.slice(0, reasonCharsMax)
  const delay = outcome.kind === 'retry' ? topology.delays[attempts - 1] : undefined
  const headers = {
    [headerNames.attempts]: attempts,
    [headerNames.reason]: reason,
    [headerNames.routingKey]: routingKeyOf(message),
    ...(delay === undefined && { [headerNames.deadAt]: now.toISOString() }),
  }
  return {
    ...parcelOf(message, headers),
    ...(delay === undefined
      ? { exchange: topology.deadExchange, routingKey: '' }
      : { exchange: '', routingKey: delay.queue }),
    dead: delay === undefined,
    reason,
  }
}

/** A dead message as it was before it was tried, on its way back into its queue. */
export function parcelAgain(message: GetMessage, topology: Topology): Parcel {
  const key: unknown = message.properties.headers?.[headerNames.routingKey]
  const headers = typeof key === 'string' ? { [headerNames.routingKey]: key } : {}
  return { ...parcelOf(message, headers), exchange: '', routingKey: topology.queue }
}

/** The same without the producer's headers, where they are what cannot be written down. */
export function bareOf<P extends Parcel>(parcel: P): P {
  const own = Object.entries(headersOf(parcel.properties.headers)).filter(([name]) => isOwn(name))
  return { ...parcel, properties: { ...parcel.properties, headers: Object.fromEntries(own) } }
}

export function routingKeyOf(message: ConsumeMessage): string {
  const key: unknown = message.properties.headers?.[headerNames.routingKey]
  return typeof key === 'string' ? key : message.fields.routingKey
}

/** What a producer wrote there instead of us is nothing. */
export function attemptsOf({ properties }: ConsumeMessage): number {
  const attempts: unknown = properties.headers?.[headerNames.attempts]
  return typeof attempts === 'number' && Number.isSafeInteger(attempts) && attempts > 0 ? attempts : 0
}

/**
 * Its body as it is, and of its properties what belongs to it. Not its `expiration`, which would end it where it is
 * kept; nor `userId`, which RabbitMQ accepts only from that user.
 */
function parcelOf(
  { content, properties }: ConsumeMessage | GetMessage,
  headers: Record<string, unknown>,
): Pick<Parcel, 'body' | 'mandatory' | 'properties'> {
  const { timestamp } = properties as { timestamp: unknown }
  const kept = {
    messageId: textOf(properties.messageId),
    type: textOf(properties.type),
    contentType: textOf(properties.contentType),
    contentEncoding: textOf(properties.contentEncoding),
    correlationId: textOf(properties.correlationId),
    appId: textOf(properties.appId),
    timestamp: typeof timestamp === 'number' ? timestamp : undefined,
  }
  const theirs = Object.entries(headersOf(properties.headers)).filter(
    ([name]) => !isOwn(name) && !isBrokers(name),
  )
  const present = Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined))
  return {
    body: content,
    // One that no queue takes must not be acknowledged.
    mandatory: true,
    properties: { ...present, headers: { ...Object.fromEntries(theirs), ...headers } },
  }
}

const textOf = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)
const headersOf = (headers: unknown) => headers as Record<string, unknown>
const isOwn = (name: string) => Object.values<string>(headerNames).includes(name)
/** What the broker writes on it by itself, and CC and BCC, which would send it elsewhere once more. */
const isBrokers = (name: string) =>
  /^(x-death|x-(first|last)-death-\w+|x-delivery-count|x-acquired-count|cc|bcc)$/i.test(name)
