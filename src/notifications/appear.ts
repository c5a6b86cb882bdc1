/**
 * What is scheduled appears when it is due: page by page, each with the ways that it takes, and then a job for the next
 * time at which something is due. So one job is enough for any number of times, and one that was lost costs a minute
 * (tidy.ts adds it again).
 */
import { enqueue, type JobHandler } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Head } from './heads.ts'
import { appear, sweptRowsMax } from './lifetime.ts'
import type { Channel, Priority } from './kinds.ts'
import { appearJob } from './notify.ts'
import type { Planner } from './plan.ts'

export interface AppearDeps {
  transactions: Transactions
  planner: Planner
  wake: (heads: readonly Head[]) => void
  wakeJobs: () => void
  /** The planner's, where other services are told. */
  outbox?: Pick<Outbox, 'wake'> | undefined
}

export function createAppearHandler(deps: AppearDeps): JobHandler {
  const { transactions, planner, wake, wakeJobs, outbox } = deps

  /** @returns whether there may be more. */
  async function page(): Promise<boolean> {
    const { count, heads, planned } = await transactions.asSystem('appear', async (tx) => {
      const { appeared, heads } = await appear(tx)
      const rows = appeared.length === 0 ? [] : await readWays(tx, appeared)
      return { count: appeared.length, heads, planned: await planner.plan(tx, rows) }
    })
    if (heads.length > 0) wake(heads)
    if (planned) wakeJobs()
    if (heads.length > 0) outbox?.wake('notification.events')
    return count === sweptRowsMax
  }

  return {
    attemptsMax: 20,
    backoff: { firstMs: 500, maxMs: 30_000 },
    async run(_job, signal) {
      while (await page()) if (signal.aborted) return { kind: 'retry', why: 'stopped' }
      return { kind: 'done', write: enqueueNext, committed: wakeJobs }
    },
  }
}

/** The next time at which something is due, if it is not over already. */
export async function enqueueNext(tx: Tx): Promise<void> {
  const [next] = await tx.execute<{ at: string | null }>(sql`
    select min(scheduled_at) as at from chat.notifications n
    where n.seq is null and n.removed_at is null and n.expires_at > now()`)
  if (next?.at != null) await enqueue(tx, appearJob(next.at))
}

async function readWays(tx: Tx, appeared: readonly { id: string; userId: string }[]) {
  const rows = await tx.execute<{ id: string; user_id: string; priority: Priority; channels: Channel[] }>(sql`
    select id, user_id, priority, channels from chat.notifications
    where id = any(${appeared.map(({ id }) => id)}::uuid[])`)
  return rows.map(({ user_id, ...row }) => ({ ...row, userId: user_id, isNew: true }))
}
