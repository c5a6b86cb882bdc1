/**
 * What time does to notifications: they expire, their tombstones are purged, and what was kept for a while goes.
 *
 * One job for all instances, about once a minute: it plants the next one as it ends, and each instance does so too, for
 * one that was lost; where one is planted already that is enough.
 */
import { enqueue, type JobHandler } from '../jobs/jobs.ts'
import { sql, type SQL } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import { enqueueNext } from './appear.ts'
import type { Head } from './heads.ts'
import { expire, purge, sweptRowsMax } from './lifetime.ts'

export const tidyKind = 'tidy'

export interface Tidying {
  handler: JobHandler
  /** All that is due now. @returns how many rows expired and were purged. */
  sweep(signal?: AbortSignal): Promise<{ expired: number; purged: number }>
  /** Plants the job, from now on. */
  start(): void
  close(): void
}

export interface TidyDeps {
  transactions: Transactions
  wake: (heads: readonly Head[]) => void
  everyMs?: number | undefined
}

const defaultEveryMs = 60_000
/** Pages of one sweep: 20,000 rows. What is left has its turn a minute later. */
const pagesMax = 40
/** What services asked for once is remembered so long, days: longer than anybody tries again. */
const processedKeptDays = 7
/** What became of deliveries and broadcasts can be asked so long, days: longer than a notification lives. */
const outcomesKeptDays = 60
/** Rows that one statement deletes. */
const deletedRowsMax = 5_000

export function createTidying({ transactions, wake, everyMs = defaultEveryMs }: TidyDeps): Tidying {
  let timer: NodeJS.Timeout | undefined

  /** @returns how many pages' rows there were. */
  async function pages(
    why: string,
    page: (tx: Tx) => Promise<{ count: number; heads: Head[] }>,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    let total = 0
    for (let n = 0; n < pagesMax && signal?.aborted !== true; n++) {
      const { count, heads } = await transactions.asSystem(why, page)
      if (heads.length > 0) wake(heads)
      total += count
      if (count < sweptRowsMax) break
    }
    return total
  }

  async function sweep(signal?: AbortSignal) {
    const expired = await pages(
      'expire notifications',
      async (tx) => {
        const { expired: count, heads } = await expire(tx)
        return { count, heads }
      },
      signal,
    )
    const purged = await pages(
      'purge tombstones',
      async (tx) => ({ count: await purge(tx), heads: [] }),
      signal,
    )
    return { expired, purged }
  }

  const job = (afterMs: number) => ({ kind: tidyKind, key: tidyKind, userId: null, payload: {}, afterMs })

  function plant(afterMs: number): void {
    transactions
      .asSystem('plant', (tx) => tx.commit(() => enqueue(tx, job(afterMs))))
      // The next time, then.
      .catch(() => undefined)
  }

  return {
    sweep,
    handler: {
      attemptsMax: 3,
      backoff: { firstMs: 1_000, maxMs: 10_000 },
      async run(_job, signal) {
        await sweep(signal)
        if (signal.aborted) return { kind: 'retry', why: 'stopped' }
        await transactions.asSystem('forget', (tx) => tx.commit(() => forget(tx)))
        return {
          kind: 'done',
          async write(tx) {
            await Promise.all([enqueueNext(tx), enqueue(tx, job(everyMs))])
          },
        }
      },
    },
    start() {
      plant(0)
      timer = setInterval(() => plant(everyMs), everyMs)
      timer.unref()
    },
    close: () => clearInterval(timer),
  }
}

async function forget(tx: Tx): Promise<void> {
  const older = (days: number): SQL => sql`now() - make_interval(days => ${days})`
  await Promise.all([
    tx.execute(sql`
      delete from chat.processed_events where (source, event_id) in (
        select source, event_id from chat.processed_events where created_at < ${older(processedKeptDays)}
        limit ${deletedRowsMax})`),
    tx.execute(sql`
      delete from chat.deliveries where (notification_id, channel, target) in (
        select notification_id, channel, target from chat.deliveries where created_at < ${older(outcomesKeptDays)}
        limit ${deletedRowsMax})`),
    tx.execute(sql`delete from chat.broadcasts where finished_at < ${older(outcomesKeptDays)}`),
    tx.execute(sql`delete from chat.tickets where expires_at < now()`),
  ])
}
