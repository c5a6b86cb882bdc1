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
  let probes = 0
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
    return promise.finally(() => {
      clearTimeout(timer)
      waiting.delete(wake)
      signal.removeEventListener('abort', wake)
    })
  }

  return {
    async enter(signal) {
      if (!known && probes >= probesMax) await wait(signal)
      if (known) return nothing
      probes++
      let left = false
      return () => {
        if (!left) probes--
        left = true
        wakeAll()
      }
    },
    allowed() {
      known = true
      wakeAll()
    },
    refused() {
      known = false
      wakeAll()
    },
  }
}
