/** For a server under test: how late its event loop came round, between two questions. Not before it is asked: looking costs. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Loop {
  maxMs: number
  p99Ms: number
}

/** How often the loop is expected to come round, ms. */
const resolutionMs = 1

/** A delay is seen by who waits before it begins, and when it has ended, ms. */
const settleMs = 20

export function answerLoop(): void {
  let delay: ReturnType<typeof monitorEventLoopDelay> | undefined

  async function answer(): Promise<void> {
    const seen = delay
    if (delay === undefined) {
      delay = monitorEventLoopDelay({ resolution: resolutionMs })
      delay.enable()
    }
    await sleep(settleMs)
    const lateMs = (ns = 0) => Math.max(ns / 1e6 - resolutionMs, 0)
    const loop: Loop = { maxMs: lateMs(seen?.max), p99Ms: lateMs(seen?.percentile(99)) }
    if (seen !== undefined) {
      seen.disable()
      delay = undefined
    }
    process.send?.(loop)
  }

  process.on('message', (question) => {
    if (question === 'loop') void answer()
  })
}
