/**
 * Door of upstream: careful asking. While it is not known whether the account may ask free models at all (at the start, and
 * after its quota was used up), few ask at once, and the others wait a moment for what those learn: a used up quota is
 * then found out by three requests, not by all that came at the same time.
 */

export interface FreeTurns {
  /** Resolves when it may be asked: at once as a rule, after `waitMaxMs` in any case. @returns the way to leave. */
  enter(signal: AbortSignal): Promise<() => void>
  /** A free model was asked, and the account was not refused. */
  allowed(): void
  /** It was. */
  refused(): void
}

const probesMax = 3
/** Longer than an upstream takes to refuse, shorter than a person's patience. */
const waitMaxMs = 2_000

const nothing = () => undefined

export function createFreeTurns(): FreeTurns {
  let known = false
  const probing = new Set<object>()
  const waiting = new Set<() => void>()

  const wakeAll = () => {
    for (const wake of waiting) wake()
    waiting.clear()
  }

  function wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const wake = () => resolve(undefined)
    const timer = setTimeout(wake, waitMaxMs)
    waiting.add(wake)
    signal.addEventListener('abort', wake)
    if (signal.aborted) wake()
    return promise.finally(() => {
      clearTimeout(timer)
      waiting.delete(wake)
      signal.removeEventListener('abort', wake)
    })
  }

  return {
    async enter(signal) {
      if (!known && probing.size >= probesMax) await wait(signal)
      if (known) return nothing
      const probe = {}
      probing.add(probe)
      return () => {
        if (probing.delete(probe)) wakeAll()
      }
    },
    allowed() {
      known = true
      // They have found out, and may go on speaking for minutes.
      probing.clear()
      wakeAll()
    },
    refused() {
      known = false
      wakeAll()
    },
  }
}
