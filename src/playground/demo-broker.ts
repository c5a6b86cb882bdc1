/**
 * The RabbitMQ of the demo, where one answers: at RABBITMQ_URL, or where RabbitMQ is by default. Its exchange and queues
 * have names that nobody else has, and are deleted at the end.
 */
import { randomBytes } from 'node:crypto'
import { connect, type ChannelModel, type SocketOptions } from 'amqplib'
import { assertTopology, topologyOf, type BrokerNames, type Topology } from '../broker/topology.ts'
import { ConfigError, loadConfig } from '../config.ts'

export interface DemoBroker {
  url: string
  /** Host and port: nothing else of the URL may be shown. */
  place: string
  names: BrokerNames
  /** Resolves when it has it. */
  publish: (routingKey: string, body: object) => Promise<void>
  /** How many messages of the queue nobody has taken yet. */
  depth: () => Promise<number>
}

const defaultUrl = 'amqp://guest:guest@127.0.0.1:5672'
/** A broker of this machine answers in a few ms; nobody wants to wait longer for one that is not there. */
const connectMs = 2_000
/** Five queues and two exchanges are gone in less; who pressed Ctrl-C does not wait for a broker that is away, ms. */
const deleteMs = 3_000
/** A goodbye that takes longer is none, ms. */
const goodbyeMs = 500

/** @returns why there is none, in a few words. @throws when `signal` is aborted. */
export async function openDemoBroker(
  releases: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<DemoBroker | { why: string }> {
  const { url, doubt } = configuredUrl()
  const place = new URL(url).host
  const cut = new AbortController()
  try {
    const model = await open(url, cut, signal)
    releases.defer(async () => {
      // On a connection that is gone it throws at once.
      const goodbye = async () => model.close()
      await before(AbortSignal.timeout(goodbyeMs), goodbye()).catch(() => undefined)
      cut.abort()
    })
    const id = `rivulet-demo-${randomBytes(4).toString('hex')}`
    const names = { exchange: id, queue: `${id}.chat`, routingKey: 'chat.events' }
    const topology = topologyOf(names)
    releases.defer(() => deleteAll(url, topology, place))
    await before(signal, assertTopology(model, topology))
    const channel = await before(signal, model.createConfirmChannel())
    channel.on('error', () => undefined)
    return {
      url,
      place,
      names,
      async publish(routingKey, body) {
        const options = { persistent: true, contentType: 'application/json' }
        channel.publish(names.exchange, routingKey, Buffer.from(JSON.stringify(body)), options)
        await before(signal, channel.waitForConfirms())
      },
      depth: async () => (await before(signal, channel.checkQueue(names.queue))).messageCount,
    }
  } catch (error) {
    signal.throwIfAborted()
    return { why: `RabbitMQ at ${place}: ${wordsFor(error)}${doubt}` }
  }
}

/** The one variable that a demo reads: a broker is there to be used by many. */
function configuredUrl(): { url: string; doubt: string } {
  try {
    return { url: loadConfig().RABBITMQ_URL ?? defaultUrl, doubt: '' }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { url: defaultUrl, doubt: '; RABBITMQ_URL was not read: the configuration is wrong' }
  }
}

async function open(url: string, cut: AbortController, signal: AbortSignal): Promise<ChannelModel> {
  const options: SocketOptions & { signal: AbortSignal } = {
    signal: cut.signal,
    noDelay: true,
    clientProperties: { connection_name: 'rivulet demo' },
  }
  const connecting = connect(url, options).then((model) => {
    // An 'error' that nobody hears would end the process; who uses what is broken hears of it anyway.
    model.on('error', () => undefined)
    return model
  })
  try {
    return await before(AbortSignal.any([signal, AbortSignal.timeout(connectMs)]), connecting)
  } catch (error) {
    cut.abort()
    throw error
  }
}

/** On a connection of its own: whatever became of the other one. Says so where it cannot. */
async function deleteAll(url: string, topology: Topology, place: string): Promise<void> {
  const { queue, delays, deadQueue, deadExchange, exchange } = topology
  const within = AbortSignal.timeout(deleteMs)
  const cut = new AbortController()
  try {
    const model = await open(url, cut, within)
    const channel = await before(within, model.createChannel())
    channel.on('error', () => undefined)
    for (const name of [queue, ...delays.map((delay) => delay.queue), deadQueue])
      await before(within, channel.deleteQueue(name))
    for (const name of [exchange, deadExchange]) await before(within, channel.deleteExchange(name))
    await before(within, model.close())
  } catch (error) {
    console.error(`RabbitMQ at ${place} keeps what is called ${exchange}…: ${wordsFor(error)}`)
  } finally {
    cut.abort()
  }
}

/** @throws the signal's reason where it comes first. What it would have brought is not waited for any more. */
async function before<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const stop = () => reject(signal.reason as Error)
  signal.addEventListener('abort', stop, { once: true })
  try {
    signal.throwIfAborted()
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
    promise.catch(() => undefined)
  }
}

/** Never a URL: it may hold a password. */
function wordsFor(error: unknown): string {
  if (!(error instanceof Error)) return 'it failed'
  if (error.name === 'TimeoutError') return 'no answer in time'
  if ('code' in error && error.code === 'ECONNREFUSED') return 'nothing listens there'
  if (/ACCESS.REFUSED|403/.test(error.message)) return 'it does not let us in'
  return 'code' in error ? String(error.code) : error.message
}
