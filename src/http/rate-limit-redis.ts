/**
 * Counts that all instances share, in Redis.
 *
 * States: `connecting` → `up` ⇄ `away`. It is up when a probe has gone the whole way (connection, login, script, the
 * right to write), and away from the first thing that fails. Promises: only who finds out that Redis has gone waits for
 * it, and for `commandMs` at most; while it is away nobody asks it, and a probe every `retryMs` looks whether it is back.
 * The log says so once each way. No failure of Redis is ever thrown at a caller, or ends the process.
 */
import { Redis } from 'ioredis'
import type { Logger } from '../logging.ts'

export interface Counted {
  /** Those that were let through in this window, this one included; one more than allowed: it was refused. */
  count: number
  /** Until the window ends, ms. */
  leftMs: number
}

export interface SharedCounts {
  up(): boolean
  /** How often it has gone: what was counted before may be unknown to it. */
  outages(): number
  /**
   * Counts one more, unless there are `max`; a refused one is not counted.
   *
   * @param known what this instance counted while Redis was away: the count goes on from there.
   * @returns undefined when Redis has gone.
   */
  take(key: string, windowMs: number, max: number, known?: Counted): Promise<Counted | undefined>
  /** One less. */
  giveBack(key: string): Promise<void>
  /** @throws when Redis is away. */
  ping(): Promise<void>
  close(): void
}

/** What whoever finds Redis silent waits, ms: an answer is promised within 500. A connection gets as much to greet. */
const commandMs = 250
const connectMs = 1_000
/** Between two looks whether it is back, ms. */
const retryMs = 1_000
/** A connection that does not even close is destroyed, ms. */
const disconnectMs = 250

export function createSharedCounts(options: { url: string; keyPrefix: string; log: Logger }): SharedCounts {
  const { log, keyPrefix } = options
  const client = new Redis(options.url, {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: commandMs,
    connectTimeout: connectMs,
    disconnectTimeout: disconnectMs,
    retryStrategy: () => retryMs,
  })
  let state: 'connecting' | 'up' | 'away' = 'connecting'
  let outages = 0
  let closed = false
  let nextProbe: NodeJS.Timeout | undefined

  client.on('error', leave)
  client.on('close', () => leave(new Error('the connection is closed')))
  client.on('ready', () => void probe())

  function leave(error: unknown): void {
    if (closed) return
    if (state !== 'away') {
      log.warn({ event: 'redis_away', err: error }, 'Redis is away: each instance counts its limits alone')
      outages++
    }
    state = 'away'
    clearTimeout(nextProbe)
    // Without a connection the client makes a new one, and says when it is ready.
    if (client.status !== 'ready') return
    // An answer, if a wrong one: asking again may be enough. None: this connection may be dead, and nobody was told.
    if (isReply(error)) nextProbe = setTimeout(() => void probe(), retryMs).unref()
    else client.disconnect(true)
  }

  /** All who asked at that moment find it out; the first one is enough. */
  function found(error: unknown): void {
    if (state === 'up') leave(error)
  }

  async function probe(): Promise<void> {
    try {
      await client.eval(takeScript, 1, `${keyPrefix}probe`, retryMs, Number.MAX_SAFE_INTEGER, 0, retryMs)
    } catch (error) {
      leave(error)
      return
    }
    if (state === 'away') log.info({ event: 'redis_back' }, 'Redis is back: limits are shared again')
    state = 'up'
  }

  return {
    up: () => state === 'up',
    outages: () => outages,
    async take(key, windowMs, max, known) {
      const leftMs = Math.ceil(known?.leftMs ?? windowMs)
      try {
        return countedOf(
          await client.eval(takeScript, 1, keyPrefix + key, windowMs, max, known?.count ?? 0, leftMs),
        )
      } catch (error) {
        found(error)
        return undefined
      }
    },
    async giveBack(key) {
      await client.eval(giveBackScript, 1, keyPrefix + key).catch(found)
    },
    async ping() {
      if (state !== 'up') throw new Error('Redis is away')
      await client.ping()
    },
    close() {
      closed = true
      state = 'away'
      clearTimeout(nextProbe)
      client.disconnect()
    },
  }
}

/** KEYS[1]; the window, the limit, and what the asking instance knows: a count, and how long it still holds, ms. */
const takeScript = `
local stored = tonumber(redis.call('GET', KEYS[1]) or '0')
local left = redis.call('PTTL', KEYS[1])
local count = stored
if tonumber(ARGV[3]) > count then
  count = tonumber(ARGV[3])
  if left < 1 then left = tonumber(ARGV[4]) end
end
if left < 1 then left = tonumber(ARGV[1]) end
local told = count + 1
if count < tonumber(ARGV[2]) then count = told end
if count ~= stored then redis.call('SET', KEYS[1], count, 'PX', left) end
return {told, left}`

/** Not below nothing: the window may have ended in between. */
const giveBackScript = `
if tonumber(redis.call('GET', KEYS[1]) or '0') > 0 then redis.call('DECR', KEYS[1]) end`

const isReply = (error: unknown) => error instanceof Error && error.name === 'ReplyError'

function countedOf(reply: unknown): Counted {
  const [count, leftMs] = Array.isArray(reply) ? (reply as unknown[]) : []
  if (typeof count !== 'number' || typeof leftMs !== 'number')
    throw new TypeError('an unknown answer of Redis')
  return { count, leftMs }
}
