/**
 * When to write: at once while the process has time to spare; when it is busy, together with what comes in the next
 * few milliseconds, since a write costs more than what is written.
 *
 * Busy is measured, not guessed: the share of the event loop's time that was not spent waiting. It is looked at when
 * somebody wants to write, so an idle process does nothing for it.
 */
import { performance, type EventLoopUtilization } from 'node:perf_hooks'

export interface Pace {
  /** Calls back now where the process has time, else within `coalesceMs`, together with all others who wait. */
  soon(write: () => void): void
  /** No longer wanted. */
  forget(write: () => void): void
}

/** How long is looked back, ms: shorter reads noise, longer reacts late. */
const windowMs = 50
/** From here on more work means that somebody waits for it. */
const busyShare = 0.75

export function createPace(options: {
  /** 0: never wait. */
  coalesceMs: number
  measure?: (since?: EventLoopUtilization) => EventLoopUtilization
}): Pace {
  const { coalesceMs, measure = (since?: EventLoopUtilization) => performance.eventLoopUtilization(since) } =
    options
  const waiting = new Set<() => void>()
  let from = measure()
  let busy = false

  function isBusy(): boolean {
    const { idle, active } = measure(from)
    if (idle + active >= windowMs) {
      busy = active > busyShare * (idle + active)
      from = measure()
    }
    return busy
  }

  function writeAll(): void {
    const all = [...waiting]
    waiting.clear()
    for (const write of all) write()
  }

  return {
    soon(write) {
      if (coalesceMs === 0 || !isBusy()) {
        write()
        return
      }
      if (waiting.size === 0) setTimeout(writeAll, coalesceMs)
      waiting.add(write)
    },
    forget: (write) => void waiting.delete(write),
  }
}
