/**
 * Where limits are counted: in this process, and with Redis in all of them.
 *
 * A window begins with the first request that it counts and has a fixed length. With Redis its count is the one that
 * holds, and what is kept here follows it; without, this instance counts on from what it has seen, and tells Redis when
 * it is back. A request that is refused is not counted, so that one given back makes room for exactly one other.
 */
import type { Counted, SharedCounts } from './rate-limit-redis.ts'

export interface LimitStore {
  /** @param key `<limit>:<who>` */
  take(key: string, windowMs: number, max: number): Promise<Counted>
  /** What was taken at most `leftMs` ago was used for nothing. Never rejects. */
  giveBack(key: string): Promise<void>
}

interface Window {
  count: number
  endsAtMs: number
  /** Redis's outages when it last knew of this window; NaN: it never did. */
  outages: number
}

/** Windows kept for one limit: about 10 MB. Beyond, the oldest is forgotten: it would have ended first. */
const windowsMax = 50_000

export function createLimitStore(options: {
  shared?: SharedCounts | undefined
  /** default: performance.now */
  nowMs?: () => number
  windowsMax?: number
}): LimitStore {
  const { shared, nowMs = () => performance.now() } = options
  const max = options.windowsMax ?? windowsMax
  // One table per limit: its windows are equally long, so that the order of coming is the order of ending; and a flood
  // of addresses pushes out no user's count.
  const tables = new Map<string, Map<string, Window>>()

  function tableOf(key: string): Map<string, Window> {
    const limit = key.slice(0, key.indexOf(':'))
    const table = tables.get(limit) ?? new Map<string, Window>()
    tables.set(limit, table)
    return table
  }

  function find(key: string): Window | undefined {
    const window = tableOf(key).get(key)
    return window === undefined || window.endsAtMs <= nowMs() ? undefined : window
  }

  function open(key: string, endsAtMs: number): Window {
    const table = tableOf(key)
    for (const [oldest, { endsAtMs: endedAtMs }] of table) {
      if (endedAtMs > nowMs() && table.size < max) break
      table.delete(oldest)
    }
    const window = { count: 0, endsAtMs, outages: NaN }
    table.delete(key)
    table.set(key, window)
    return window
  }

  function takeAlone(key: string, windowMs: number, limit: number): Counted {
    const window = find(key) ?? open(key, nowMs() + windowMs)
    const counted = { count: window.count + 1, leftMs: window.endsAtMs - nowMs() }
    if (window.count < limit) window.count++
    return counted
  }

  async function takeShared(key: string, windowMs: number, limit: number): Promise<Counted | undefined> {
    if (shared?.up() !== true) return undefined
    const seen = find(key)
    const outages = shared.outages()
    const known =
      seen === undefined || seen.outages === outages
        ? undefined
        : { count: seen.count, leftMs: seen.endsAtMs - nowMs() }
    const counted = await shared.take(key, windowMs, limit, known)
    if (counted === undefined) return undefined
    const window = find(key) ?? open(key, 0)
    window.count = Math.min(counted.count, limit)
    window.endsAtMs = nowMs() + counted.leftMs
    window.outages = outages
    return counted
  }

  return {
    take: async (key, windowMs, limit) =>
      (await takeShared(key, windowMs, limit)) ?? takeAlone(key, windowMs, limit),
    async giveBack(key) {
      const window = find(key)
      if (window === undefined || window.count === 0) return
      window.count--
      if (shared?.up() === true && window.outages === shared.outages()) await shared.giveBack(key)
    },
  }
}
