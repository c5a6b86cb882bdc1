/**
 * Door of upstream: the requests to free models that an account has, counted by ourselves before each. What is over would
 * be refused, and count all the same. OpenRouter's limit is 20 a minute, of all users and all instances together.
 */

export interface FreeBudget {
  max: number
  /** Takes one. @returns which one of this window it is, and how much is left of the window, ms. */
  take: () => Promise<{ count: number; leftMs: number }>
}

const windowMs = 60_000
const openRouterMax = 20

/** @param max a minute; 0: no limit; undefined: OpenRouter's, at OpenRouter. @returns undefined where there is none. */
export function createFreeBudget(options: {
  baseUrl: string
  max: number | undefined
  counts: {
    take(key: string, windowMs: number, max: number): Promise<{ count: number; leftMs: number }>
  }
}): FreeBudget | undefined {
  const isOpenRouter = /(^|\.)openrouter\.ai$/.test(new URL(options.baseUrl).hostname)
  const max = options.max ?? (isOpenRouter ? openRouterMax : 0)
  if (max === 0) return undefined
  return { max, take: () => options.counts.take('free_requests:account', windowMs, max) }
}
