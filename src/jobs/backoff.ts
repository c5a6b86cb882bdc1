/** Door of jobs, for whoever tries again: how long it takes before the next try: twice as long each time, up to a bound, and never all at once. */

export interface Backoff {
  /** After the first attempt, ms. */
  firstMs: number
  /** The longest, ms. */
  maxMs: number
}

/** @param attempt that failed, from 1. @returns from half of the step to all of it: what failed together does not return together. */
export function backoffMs({ firstMs, maxMs }: Backoff, attempt: number, random: () => number): number {
  const stepMs = Math.min(firstMs * 2 ** (attempt - 1), maxMs)
  return Math.round(stepMs * (0.5 + random() / 2))
}
