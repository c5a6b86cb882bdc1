/**
 * Door of bus: over Redis, by PUBLISH and SUBSCRIBE. Two connections: one that is subscribed can do nothing else.
 *
 * A channel belongs to the server, not to one of its numbered databases: the prefix tells deployments apart.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Bus } from './bus.ts'
import { answerMs, closeMs, createLinkedBus, type LinkedBusOptions, type OpenLink } from './linked-bus.ts'

export type RedisBusOptions = { url: string; keyPrefix: string } & Omit<
  LinkedBusOptions,
  'open' | 'packetBytesMax'
>

/** Redis would take 512 MB; a longer one makes all other clients wait for it. */
const packetBytesMax = 64 * 1024

export function createRedisBus({ url, keyPrefix, ...options }: RedisBusOptions): Bus {
  return createLinkedBus({ ...options, packetBytesMax, open: openLink(url, `${keyPrefix}bus`) })
}

function openLink(url: string, channel: string): OpenLink {
  return ({ packet, broken }) => {
    const publisher = connect(url, broken)
    const subscriber = connect(url, broken)
    subscriber.on('message', (name, text) => {
      if (name === channel) packet(text)
    })
    const open = async () => {
      await Promise.all([publisher.connect(), subscriber.connect()])
      await subscriber.subscribe(channel)
    }
    return {
      opened: open(),
      async send(packets) {
        const results = await publisher.pipeline(packets.map((text) => ['publish', channel, text])).exec()
        for (const [error] of results ?? []) if (error !== null) throw error
      },
      ping: () => Promise.all([publisher.ping(), subscriber.ping()]),
      close: () => Promise.all([publisher, subscriber].map(disconnect)),
    }
  }
}

function connect(url: string, broken: (error: Error) => void): Redis {
  const client = new Redis(url, {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    disconnectTimeout: closeMs,
    // A link is made anew as a whole, and whoever waits for it does not wait for ever.
    connectTimeout: answerMs,
    retryStrategy: null,
  })
  client.on('error', broken)
  client.on('close', () => broken(new Error('the connection is closed')))
  return client
}

async function disconnect(client: Redis): Promise<void> {
  if (client.status === 'end') return
  const ended = new Promise((resolve) => client.once('end', resolve))
  client.disconnect()
  // One that was still looking for its server may have nothing to end.
  await Promise.race([ended, delay(closeMs, undefined, { ref: false })])
}
