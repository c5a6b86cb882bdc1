/**
 * A figure that has to be asked for, from somebody who may be slow or away: read in the background when it is looked at,
 * at most every `everyMs`. Looking never waits: it shows what was read last, or nothing when that is too old.
 */
export interface Sample<T> {
  latest(): T | undefined
}

export function createSample<T>(options: {
  read: () => Promise<T>
  everyMs: number
  /** How long a figure is shown while no newer one can be had. */
  keptMs: number
  /** Told of the first failure after a success. */
  onError: (error: unknown) => void
  nowMs?: () => number
}): Sample<T> {
  const { read, everyMs, keptMs, onError, nowMs = () => performance.now() } = options
  let newest: { value: T; atMs: number } | undefined
  let askedAtMs = -Infinity
  let asking = false
  let failing = false

  async function ask(): Promise<void> {
    asking = true
    askedAtMs = nowMs()
    try {
      newest = { value: await read(), atMs: nowMs() }
      failing = false
    } catch (error) {
      if (!failing) onError(error)
      failing = true
    } finally {
      asking = false
    }
  }

  return {
    latest() {
      if (!asking && nowMs() - askedAtMs >= everyMs) void ask()
      return newest !== undefined && nowMs() - newest.atMs <= keptMs ? newest.value : undefined
    },
  }
}
