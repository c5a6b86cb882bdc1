/** Something that is looked at every so often, and at once when asked to; never twice at once. */

export interface Sweeper {
  /** Looks now; where it is looking already, once more after that. */
  sweep(): void
  /** Resolves when it does not look any more. */
  close(): Promise<void>
}

/** @param look where it fails, the next time is tried all the same. */
export function createSweeper({ everyMs, look }: { everyMs: number; look: () => Promise<void> }): Sweeper {
  let looking: Promise<void> | undefined
  let again = false
  let closed = false

  function sweep(): void {
    if (closed) return
    if (looking !== undefined) {
      again = true
      return
    }
    looking = look()
      .catch(() => undefined)
      .finally(() => {
        looking = undefined
        if (again) {
          again = false
          sweep()
        }
      })
  }

  const timer = setInterval(sweep, everyMs)
  timer.unref()
  return {
    sweep,
    async close() {
      closed = true
      clearInterval(timer)
      await looking
    },
  }
}
