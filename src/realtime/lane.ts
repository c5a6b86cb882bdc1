/**
 * A lane: what is to be done for many, a batch at a time, one batch in flight.
 *
 * Whoever is added while a batch is in flight goes with the next one, once, however often it was added. What a batch leaves
 * to do here is done in slices, so that thousands of sockets never hold the event loop. A batch that fails is tried
 * again, later each time.
 */
import { backoffMs } from '../jobs/backoff.ts'

export interface Lane<T> {
  add(item: T): void
  delete(item: T): void
  /** Resolves when nothing is in flight. */
  close(): Promise<void>
}

/** What one turn of the event loop does for a batch, ms: others are served in between. */
const sliceMs = 5
const retry = { firstMs: 100, maxMs: 2_000 }

export function createLane<T>(options: {
  batchMax: number
  nowMs: () => number
  /** @returns what is left to do, in pieces that take well under a slice each. */
  work: (batch: readonly T[]) => Promise<(() => void)[]>
  /** Told of the first of several failures. */
  failed: (error: unknown) => void
  random?: () => number
}): Lane<T> {
  const { batchMax, nowMs, work, failed, random = Math.random } = options
  const waiting = new Set<T>()
  let running: Promise<void> | undefined
  let failures = 0
  let closed = false
  let pause: NodeJS.Timeout | undefined

  function begin(): void {
    if (running !== undefined || pause !== undefined || closed || waiting.size === 0) return
    // At the end of this turn: what else it wakes goes along.
    running = new Promise<void>((resolve) => setImmediate(resolve)).then(once).finally(() => {
      running = undefined
      begin()
    })
  }

  async function once(): Promise<void> {
    const batch: T[] = []
    for (const item of waiting) {
      if (batch.length >= batchMax) break
      waiting.delete(item)
      batch.push(item)
    }
    if (batch.length === 0 || isClosed()) return
    try {
      const rest = await work(batch)
      failures = 0
      await inSlices(rest)
    } catch (error) {
      if (isClosed()) return
      if (failures === 0) failed(error)
      failures++
      for (const item of batch) waiting.add(item)
      pause = setTimeout(
        () => {
          pause = undefined
          begin()
        },
        backoffMs(retry, failures, random),
      )
      pause.unref()
    }
  }

  const isClosed = () => closed

  async function inSlices(pieces: readonly (() => void)[]): Promise<void> {
    let sinceMs = nowMs()
    for (const piece of pieces) {
      if (nowMs() - sinceMs > sliceMs) {
        await new Promise<void>((resolve) => setImmediate(resolve))
        sinceMs = nowMs()
      }
      if (isClosed()) return
      piece()
    }
  }

  return {
    add(item) {
      waiting.add(item)
      begin()
    },
    delete: (item) => void waiting.delete(item),
    async close() {
      closed = true
      clearTimeout(pause)
      await running
    },
  }
}
