/** Time bounds on a machine that may do other things at the same time: slow for a while, and never too fast. */
import { setTimeout as delay } from 'node:timers/promises'

/** Between two tries, ms: what slows a machine down is over after a while. */
const pauseMs = 500

/**
 * Measures until it was quick enough once.
 *
 * @param measure @returns ms
 * @returns the least that was measured, ms: `bound` or more where it was never quick enough within `withinMs`.
 */
export async function quickest(
  bound: number,
  measure: () => Promise<number>,
  withinMs = 30_000,
): Promise<number> {
  const untilMs = performance.now() + withinMs
  let least = await measure()
  while (least >= bound && performance.now() < untilMs) {
    await delay(pauseMs)
    least = Math.min(least, await measure())
  }
  return least
}
