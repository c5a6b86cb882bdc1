/**
 * Escalation: what is of high priority and nobody acknowledges goes on to web push, and what stays unread to e-mail.
 *
 * One job for each notification; it looks how long the row has rested since it last changed, so it can be late, or be
 * run twice, and does the right thing. All of it is done in the transaction that ends the job: one attempt at a time. A
 * row that changes again begins anew. What is read or archived is left alone.
 */
import { renew, type JobHandler, type TakenJob } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { escalateKind, pushAfterMs, type Planner } from './plan.ts'

export interface EscalateDeps {
  planner: Planner
  /** There are deliveries. */
  wakeJobs: () => void
  /** After how long without an acknowledgement, and without being read, ms. */
  after?: { pushMs: number; emailMs: number } | undefined
}

const defaultAfter = { pushMs: pushAfterMs, emailMs: 10 * 60_000 }

export function createEscalateHandler({ planner, wakeJobs, after = defaultAfter }: EscalateDeps): JobHandler {
  async function step(tx: Tx, id: string): Promise<void> {
    const row = await readResting(tx, id)
    if (row === undefined) return
    const again = (afterMs: number) =>
      renew(tx, escalateKind, [{ key: id, userId: row.user_id, payload: {} }], afterMs)
    if (row.rested_ms < after.pushMs) return again(after.pushMs - row.rested_ms)
    if (!row.acknowledged && planner.open.includes('web_push')) await planner.planOne(tx, id, 'web_push')
    if (!planner.open.includes('email')) return
    if (row.rested_ms < after.emailMs) return again(after.emailMs - row.rested_ms)
    await planner.planOne(tx, id, 'email')
  }

  return {
    attemptsMax: 8,
    backoff: { firstMs: 1_000, maxMs: 60_000 },
    run: ({ key }: TakenJob) =>
      Promise.resolve({ kind: 'done', write: (tx) => step(tx, key), committed: wakeJobs }),
  }
}

interface Resting extends Record<string, unknown> {
  user_id: string
  rested_ms: number
  /** A device said that it has this version. */
  acknowledged: boolean
}

/** @returns undefined where nobody need be told of it any more. */
async function readResting(tx: Tx, id: string): Promise<Resting | undefined> {
  const [row] = await tx.execute<Resting>(sql`
    select n.user_id, extract(epoch from now() - n.updated_at)::float8 * 1000 as rested_ms,
      n.delivered_at is not null as acknowledged
    from chat.notifications n
    where n.id = ${id} and n.seq is not null and n.read_at is null and n.archived_at is null and n.removed_at is null
      and n.expires_at > now()`)
  return row
}
