/**
 * One connection to RabbitMQ, and channels on it.
 *
 * States: opening → up → broken. It is not mended: who holds it makes another. amqplib's own `recovery` would bring
 * back the connection alone, and wait for a half-dead one when it is closed; what counts here is that channels,
 * consumers and what was in flight end with their connection, at once, and that all of it ends when it is told to.
 */
import { connect, type Channel, type ChannelModel, type ConfirmChannel, type SocketOptions } from 'amqplib'
import { within } from './hold.ts'

export interface Link {
  model: ChannelModel
  /** Resolves when it is over, with why. */
  broken: Promise<Error>
  /** Says goodbye, and cuts it where that is not answered soon. */
  close: () => Promise<void>
}

export interface Opened<C extends Channel> {
  channel: C
  /** Resolves when it is over, with why. */
  lost: Promise<Error>
}

/** A broker that is there has said all of its greeting in less, ms. */
const connectMs = 5_000
/** The same for one question on a connection that is up, ms: a quorum queue may be electing its leader. */
export const answerMs = 5_000
/** A goodbye that takes longer is none, ms: close() as a whole has two seconds. */
export const goodbyeMs = 150
/** Seconds between two heartbeats: a peer that is silent for two to three of them is gone, 10 to 15 s. */
const heartbeatDefaultS = 5

/**
 * @param url with the credentials: nothing that is thrown quotes it.
 * @throws where it is no URL of a broker.
 */
export function readBrokerUrl(url: string, heartbeatS = heartbeatDefaultS): string {
  // An error of URL's own would hold what it was given.
  const read = URL.parse(url)
  if (read === null || !['amqp:', 'amqps:'].includes(read.protocol))
    throw new Error('the URL of the broker is not one: amqp://user:password@host:5672/vhost is expected')
  if (!read.searchParams.has('heartbeat')) read.searchParams.set('heartbeat', String(heartbeatS))
  return read.href
}

/**
 * @param name as the broker lists it.
 * @param ended: it is not to be made any more.
 * @param blocked is told why the broker reads nothing from it any more, and undefined when it does again.
 */
export async function openLink(
  url: string,
  name: string,
  ended: AbortSignal = new AbortController().signal,
  blocked?: (why: string | undefined) => void,
): Promise<Link> {
  ended.throwIfAborted()
  const socket = new AbortController()
  const cut = () => socket.abort(new Error('cut'))
  ended.addEventListener('abort', cut, { once: true })
  const options: SocketOptions & { signal: AbortSignal } = {
    signal: socket.signal,
    noDelay: true,
    clientProperties: { connection_name: name },
  }
  const broken = Promise.withResolvers<Error>()
  // It is listened to from its first moment: an 'error' that nobody hears would end the process.
  const opening = connect(url, options).then((model) => {
    let first: Error | undefined
    model.on('error', (error) => (first ??= error))
    model.on('blocked', (why) => blocked?.(why))
    model.on('unblocked', () => blocked?.(undefined))
    model.once('close', (error?: Error) => {
      broken.resolve(first ?? error ?? new Error('the connection was closed'))
    })
    return model
  })
  try {
    const model = await within(connectMs, opening)
    const close = async () => {
      // A goodbye to a socket that is gone is never answered, and one to a connection that is closed is refused.
      await within(goodbyeMs, Promise.race([model.close(), broken.promise])).catch(() => undefined)
      cut()
      broken.resolve(new Error('cut'))
    }
    return { model, broken: broken.promise, close }
  } catch (error) {
    cut()
    throw error
  } finally {
    ended.removeEventListener('abort', cut)
  }
}

export const openChannel = (model: ChannelModel): Promise<Opened<Channel>> => inTime(model.createChannel())

export const openConfirmChannel = (model: ChannelModel): Promise<Opened<ConfirmChannel>> =>
  inTime(model.createConfirmChannel())

async function inTime<C extends Channel>(opening: Promise<C>): Promise<Opened<C>> {
  const opened = opening.then(watched)
  return await within(answerMs, opened).catch((error: unknown) => {
    // A broker that is blocked opens them all when it no longer is.
    opened.then(closeChannel).catch(() => undefined)
    throw error
  })
}

/**
 * Never throws. What was not acknowledged on it goes back into its queue; what was, and is still to be sent, goes
 * before it: a connection's goodbye would overtake that.
 */
export async function closeChannel({ channel, lost }: Opened<Channel>): Promise<void> {
  await within(goodbyeMs, Promise.race([channel.close(), lost])).catch(() => undefined)
}

function watched<C extends Channel>(channel: C): Opened<C> {
  const { promise: lost, resolve } = Promise.withResolvers<Error>()
  let first: Error | undefined
  channel.on('error', (error) => (first ??= error))
  channel.once('close', () => resolve(first ?? new Error('the channel was closed')))
  return { channel, lost }
}
