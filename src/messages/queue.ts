/**
 * Door: sends that wait for the running answer of their conversation, in the order of arrival on this instance.
 *
 * A waiter's turn comes when the one before it has begun its own answer, or given up; it then waits for that answer to
 * settle. On several instances each keeps its own order, and the database lets one of their firsts through.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { within } from './claim.ts'

/** What is done about a running answer; its settling, where that is known here. */
export type Clear = (refusal: AppError) => Promise<{ settled: Promise<unknown> } | undefined>

export interface SendQueue {
  /**
   * Runs `attempt` until it is not refused with `generation_in_progress`, for at most 30 s.
   *
   * @param clear is called with each refusal.
   * @throws what `attempt` throws; generation_in_progress when the patience is at its end, or too many wait already.
   */
  enter<T>(conversationId: string, attempt: () => Promise<T>, clear: Clear): Promise<T>
}

/** The contract's patience, ms. */
const patienceMs = 30_000
/** Where the answer is another instance's: how often it is tried again, ms. */
const retryMs = 250
/** Sends of one conversation that wait at once. More is no conversation. */
const waitingMax = 20

export function createSendQueue(): SendQueue {
  const lines = new Map<string, { last: Promise<unknown>; waiting: number }>()

  return {
    async enter(conversationId, attempt, clear) {
      const deadlineMs = performance.now() + patienceMs
      const line = lines.get(conversationId) ?? { last: Promise.resolve(), waiting: 0 }
      // Too many: an attempt of its own, and its answer as it is.
      if (line.waiting >= waitingMax) return attempt()
      lines.set(conversationId, line)
      line.waiting++
      const turn = line.last.then(() => persist(deadlineMs, attempt, clear))
      line.last = turn.catch(() => undefined)
      try {
        return await turn
      } finally {
        line.waiting--
        if (line.waiting === 0) lines.delete(conversationId)
      }
    },
  }
}

/**
 * Tries until it is not refused with `generation_in_progress`, or the deadline (of performance.now) has passed.
 *
 * @param clear is called with each refusal.
 */
export async function persist<T>(deadlineMs: number, attempt: () => Promise<T>, clear: Clear): Promise<T> {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      const refused = error instanceof AppError && error.code === 'generation_in_progress'
      const leftMs = deadlineMs - performance.now()
      if (!refused || leftMs <= 0) throw error
      const cleared = await clear(error)
      if (cleared === undefined) await delay(Math.min(retryMs, leftMs))
      else await within(leftMs, cleared.settled)
    }
  }
}
