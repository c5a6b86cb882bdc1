/**
 * Door of generation, for routes: answers that somebody has watched to their ends.
 *
 * What ends with an answer's end (a stream, a JSON answer, a problem) was seen when the system has taken all of it, to
 * the last byte. The generations of such responses are gathered, and their news (news.ts) taken back: the
 * first at once, then one statement a second for all. A database that is away is waited for. What is forgotten here,
 * with a killed process or beyond a bound, is a notification too many, never one too few.
 */
import type { ServerResponse } from 'node:http'
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { takeBackNews } from './news.ts'

export interface Watched {
  /** This response will end with the end of this generation's answer. To be called before it is sent. */
  by(response: ServerResponse, generationId: string): void
  /** Takes back what it still knows of, if it can be done at once. */
  close(): Promise<void>
}

/** Between two statements, ms. Far below `unwatchedAfterMs`. */
const usualEveryMs = 1_000
/** Of one statement: an instance ends some hundred answers a second, and no more. */
const batchMax = 1_000
/** While the database is away, or slow: more answers than an instance ends in ten seconds. */
const notedMax = 20_000

export function createWatched(deps: {
  transactions: Transactions
  log: Logger
  nowMs: () => number
  everyMs?: number
}): Watched {
  const { transactions, log, nowMs, everyMs = usualEveryMs } = deps
  const noted = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let flushing: Promise<boolean> | undefined
  let flushedAtMs = -Infinity
  let away = false
  let closed = false

  function note(generationId: string): void {
    noted.add(generationId)
    const [oldest] = noted
    if (noted.size > notedMax && oldest !== undefined) noted.delete(oldest)
    schedule()
  }

  function schedule(): void {
    if (timer !== undefined || flushing !== undefined || noted.size === 0 || closed) return
    timer = setTimeout(
      () => {
        timer = undefined
        void flush().then(schedule)
      },
      Math.max(flushedAtMs + everyMs - nowMs(), 0),
    )
    timer.unref()
  }

  function flush(): Promise<boolean> {
    flushedAtMs = nowMs()
    flushing = takeBack([...noted].slice(0, batchMax)).finally(() => {
      flushing = undefined
    })
    return flushing
  }

  /** @returns whether it is done with these. */
  async function takeBack(ids: readonly string[]): Promise<boolean> {
    try {
      await transactions.asSystem('answers were watched', (tx) => tx.commit(() => takeBackNews(tx, ids)))
      away = false
    } catch (error) {
      const unavailable = error instanceof AppError && error.code === 'database_unavailable'
      if (!away || !unavailable)
        log[unavailable ? 'warn' : 'error'](
          { event: 'watched_unnoted', count: ids.length, err: error },
          'who has watched their answers may be told of them all the same',
        )
      away = unavailable
      if (unavailable) return false
    }
    for (const id of ids) noted.delete(id)
    return true
  }

  return {
    by(response, generationId) {
      // Node says so of no response whose socket went before it had taken all of it (tried, and tested).
      response.once('finish', () => note(generationId))
    },
    async close() {
      closed = true
      clearTimeout(timer)
      await flushing
      while (noted.size > 0 && (await flush()));
    },
  }
}
