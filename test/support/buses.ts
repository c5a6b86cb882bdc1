/** Places where instances talk: a database or a Redis prefix of a test's own, with a faulty network before it. */
import { onTestFinished } from 'vitest'
import pg from 'pg'
import { pino } from 'pino'
import type { Bus } from '../../src/bus/bus.ts'
import { createPostgresBus } from '../../src/bus/postgres-bus.ts'
import type { LinkedBusOptions } from '../../src/bus/linked-bus.ts'
import { createRedisBus } from '../../src/bus/redis-bus.ts'
import { hasRedis, ownKeys, redisUrl } from './redis.ts'
import { cloneDatabase } from './service.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface JoinOptions {
  instanceId?: string
  /** The server itself, or the proxy before it. */
  by?: 'wire' | 'proxy'
  pingMs?: number
}

export interface Member {
  bus: Bus
  instanceId: string
  /** What it logged, one parsed line each. */
  logs: Record<string, unknown>[]
  /** How often listening has begun. */
  begun(): number
  /** Resolves when listening has begun so many times. */
  untilBegun(times: number): Promise<void>
}

export interface Place {
  proxy: TcpProxy
  /** An instance, which may not be up yet; it is closed with the test. */
  join(options?: JoinOptions): Member
  /** Packets as they came over the channel, whoever sent them. */
  packets: string[]
  /** Sends this to everybody, as a stranger. */
  say(packet: string): Promise<void>
  /** The server ends all connections of all buses. */
  killConnections(): Promise<void>
}

export interface Carrier {
  name: string
  available: boolean
  place(): Promise<Place>
  /** Source of a module that makes a bus at `url`, named `bus`. */
  source(url: string): string
}

const postgres: Carrier = {
  name: 'PostgreSQL',
  available: true,
  source: (url) => `
    import { createPostgresBus } from '${import.meta.resolve('../../src/bus/postgres-bus.ts')}'
    const bus = createPostgresBus({ url: '${url}', instanceId: 'child', log: console })`,
  async place() {
    const database = await cloneDatabase()
    onTestFinished(() => database.drop())
    const stranger = new pg.Client({ connectionString: database.url })
    // The database is dropped under it.
    stranger.on('error', () => undefined)
    await stranger.connect()
    onTestFinished(() => stranger.end())
    await stranger.query('listen rivulet')
    const packets: string[] = []
    stranger.on('notification', ({ payload }) => packets.push(payload ?? ''))
    return placeAt(database.url, {
      make: (url, options) => createPostgresBus({ url, ...options }),
      packets,
      say: async (packet) => {
        await stranger.query('select pg_notify($1, $2)', ['rivulet', packet])
      },
      async killConnections() {
        await stranger.query(`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'rivulet bus'`)
      },
    })
  },
}

const redis: Carrier = {
  name: 'Redis',
  available: await hasRedis(),
  source: (url) => `
    import { createRedisBus } from '${import.meta.resolve('../../src/bus/redis-bus.ts')}'
    const bus = createRedisBus({ url: '${url}', keyPrefix: 'child:', instanceId: 'child', log: console })`,
  async place() {
    const keys = await ownKeys()
    onTestFinished(() => keys.delete())
    const channel = `${keys.prefix}bus`
    const listener = keys.client.duplicate()
    onTestFinished(() => listener.disconnect())
    await listener.connect()
    await listener.subscribe(channel)
    const packets: string[] = []
    listener.on('message', (_channel, packet) => packets.push(packet))
    // Only ours: other tests use this server at the same time.
    const name = `bus-${keys.prefix}`
    return placeAt(redisUrl, {
      make: (url, options) => createRedisBus({ url: named(url, name), keyPrefix: keys.prefix, ...options }),
      packets,
      say: async (packet) => {
        await keys.client.publish(channel, packet)
      },
      async killConnections() {
        const clients = String(await keys.client.client('LIST')).split('\n')
        const ids = clients
          .filter((line) => line.includes(`name=${name}`))
          .map((line) => line.match(/id=(\d+)/)?.[1])
        for (const id of ids) if (id !== undefined) await keys.client.client('KILL', 'ID', id)
      },
    })
  },
}

export const carriers: readonly Carrier[] = [postgres, redis]

/** The driver takes its options from the URL too. */
function named(url: string, connectionName: string): string {
  const withName = new URL(url)
  withName.searchParams.set('connectionName', connectionName)
  return withName.href
}

interface Means extends Omit<Place, 'proxy' | 'join'> {
  make: (url: string, options: Omit<LinkedBusOptions, 'open' | 'packetBytesMax'>) => Bus
}

async function placeAt(url: string, { make, ...means }: Means): Promise<Place> {
  const proxy = await startTcpProxy(url)
  onTestFinished(() => proxy.close())
  let joined = 0
  return {
    ...means,
    proxy,
    join({ instanceId = `instance-${++joined}`, by = 'wire', pingMs } = {}) {
      const logs: Member['logs'] = []
      const write = (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>)
      const bus = make(by === 'wire' ? url : proxy.url, {
        instanceId,
        log: pino({ level: 'trace' }, { write }),
        ...(pingMs !== undefined && { pingMs }),
      })
      onTestFinished(() => bus.close())
      let begun = 0
      const waiting: { times: number; resolve: () => void }[] = []
      bus.onGap(() => {
        begun++
        for (const { times, resolve } of waiting) if (begun >= times) resolve()
      })
      return {
        bus,
        instanceId,
        logs,
        begun: () => begun,
        untilBegun: (times) =>
          begun >= times ? Promise.resolve() : new Promise((resolve) => waiting.push({ times, resolve })),
      }
    },
  }
}

export const eventsOf = ({ logs }: Member): unknown[] => logs.map(({ event }) => event)

/** What comes to a bus under a topic, and a way to wait for it. */
export interface Ear {
  messages: unknown[]
  /** Who sent them. */
  from: string[]
  /** Resolves when a message that equals this one, as JSON, has come. */
  until(message: unknown): Promise<void>
}

export function listen(bus: Bus, topic = 'news'): Ear {
  const messages: unknown[] = []
  const from: string[] = []
  const seen = new Set<string>()
  const waiting = new Map<string, () => void>()
  bus.subscribe(topic, (message, instance) => {
    messages.push(message)
    from.push(instance)
    const text = JSON.stringify(message)
    seen.add(text)
    waiting.get(text)?.()
  })
  return {
    messages,
    from,
    until: (message) =>
      new Promise((resolve) => {
        const text = JSON.stringify(message)
        if (seen.has(text)) resolve()
        else waiting.set(text, resolve)
      }),
  }
}
