/**
 * Says so when nothing is said: a `status: waiting` event after `firstMs` without text, and again every `againMs`.
 *
 * One timer, looked at when it fires: text costs it nothing.
 */
import type { Log } from './log.ts'

const firstMs = 10_000
const againMs = 15_000

export interface Silence {
  /** Text, or another model begins. */
  broken(): void
  over(): void
}

export function createSilence(
  log: Log,
  options: { model: () => string; nowMs: () => number; firstMs?: number; againMs?: number },
): Silence {
  const { model, nowMs } = options
  const first = options.firstMs ?? firstMs
  const again = options.againMs ?? againMs
  let sinceMs = nowMs()
  let said = 0
  let timer = setTimeout(look, first)

  function look(): void {
    const dueMs = sinceMs + first + said * again - nowMs()
    if (dueMs > 1) {
      timer = setTimeout(look, dueMs)
      return
    }
    said++
    const seconds = Math.round((nowMs() - sinceMs) / 1000)
    log.append({
      type: 'status',
      state: 'waiting',
      model: model(),
      detail: `No text for ${seconds} seconds: the model is slow, the answer is still being waited for.`,
    })
    log.wake()
    timer = setTimeout(look, again)
  }

  return {
    broken() {
      sinceMs = nowMs()
      said = 0
    },
    over: () => clearTimeout(timer),
  }
}
