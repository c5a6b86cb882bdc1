/** SQL of operations: what the metrics count in everybody's rows. */
import { v7 as uuidv7 } from 'uuid'
import type { Tx } from '../db/database.ts'
import { sql } from '../db/sql.ts'

export interface Counts {
  conversationsActive: number
  jobsQueued: number
  jobsDead: number
  outboxPending: number
  /** The most that one user used within the last hour. */
  userTokensHourMax: number
}

/** What it may take, ms: it holds one of the requests' connections. */
const statementMs = 3_000
const hourMs = 3_600_000

/**
 * One statement. Usage has no index by time, but its ids begin with the time at which they were made: the last hour is a
 * piece of the primary key, however old the table is. Its clock is the process's, `created_at` the database's: an hour of
 * margin lies between them.
 */
export async function countForMetrics(tx: Tx, nowMs = Date.now()): Promise<Counts> {
  const since = uuidv7({ msecs: nowMs - 2 * hourMs, random: new Uint8Array(16) })
  const [, [row]] = await tx.commit(() =>
    Promise.all([
      tx.execute(sql`select set_config('statement_timeout', ${String(statementMs)}, true)`),
      tx.execute<{ active: string; queued: string; dead: string; outbox: string; tokens: string }>(sql`
        select (select count(*) from chat.conversations where status = 'active') as active,
          (select count(*) from chat.jobs where status = 'queued' and run_at <= now()
            and (leased_until is null or leased_until <= now())) as queued,
          (select count(*) from chat.jobs where status = 'dead') as dead,
          (select count(*) from chat.outbox) as outbox,
          (select coalesce(max(tokens), 0) from (
            select sum(total_tokens) as tokens from chat.usage_tracking
            where id >= ${since}::uuid and created_at > now() - interval '1 h' group by user_id) as users) as tokens`),
    ]),
  )
  if (row === undefined) throw new Error('a count without a row')
  return {
    conversationsActive: Number(row.active),
    jobsQueued: Number(row.queued),
    jobsDead: Number(row.dead),
    outboxPending: Number(row.outbox),
    userTokensHourMax: Number(row.tokens),
  }
}
