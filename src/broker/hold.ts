/** What is made again and again for as long as it is wanted, and how long is waited for an answer. */
import { setTimeout as delay } from 'node:timers/promises'
import { backoffMs, type Backoff } from '../jobs/backoff.ts'

/** Between two trials: who is back wants to be found within seconds, and a trial costs little. */
const retry: Backoff = { firstMs: 250, maxMs: 5_000 }
/** What has held so long was good: after it the next trial comes soon, ms. */
const steadyMs = 10_000

/** Calls `hold`, which makes something and resolves when that has gone, until `ended`. Never rejects if `hold` does not. */
export async function holdForEver(
  hold: (trial: number) => Promise<void>,
  ended: AbortSignal,
  random: () => number,
): Promise<void> {
  let failures = 0
  for (let trial = 1; !ended.aborted; trial++) {
    const beganAtMs = performance.now()
    await hold(trial)
    failures = performance.now() - beganAtMs > steadyMs ? 1 : failures + 1
    await pause(backoffMs(retry, failures, random), ended)
  }
}

/** Ends early, and as quietly, when `ended` does. */
export async function pause(ms: number, ended: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal: ended }).catch(() => undefined)
}

/** @throws where it takes longer, or `ended` comes first. What it would have brought is not waited for any more. */
export async function within<T>(ms: number, promise: Promise<T>, ended?: AbortSignal): Promise<T> {
  const late = Promise.withResolvers<never>()
  const stop = () => late.reject(new Error('not waited for any more'))
  ended?.addEventListener('abort', stop, { once: true })
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${ms} ms`)), ms)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
    ended?.removeEventListener('abort', stop)
    // Who came too late has nobody left to complain to.
    promise.catch(() => undefined)
  }
}
