/**
 * SQL of the outbox. A row is due, leased for a while (then nobody else takes it), and deleted when it is sent.
 *
 * The lease is also the fence: a row is only put back by who has it. What was sent is deleted by whoever has sent it.
 */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { EventToSend, SinkName } from './sink.ts'

export interface TakenEvent extends EventToSend {
  /** Which one this is, from 1. */
  attempt: number
  /** Since it was stored, by the database's clock, ms. */
  ageMs: number
  leasedUntil: string
}

/** Takes what is due for a sink, the longest due first. Rows that another instance is taking are left to it. */
export async function take(
  tx: Tx,
  sink: SinkName,
  { limit, leaseMs }: { limit: number; leaseMs: number },
): Promise<TakenEvent[]> {
  const rows = await tx.execute<{
    id: string
    routing_key: string
    payload: Record<string, unknown>
    created_at: string
    due_at: string
    attempts: number
    leased_until: string
    age_ms: number
  }>(sql`
    with due as (
      select id from chat.outbox
      where sink = ${sink} and due_at <= now() and (leased_until is null or leased_until <= now())
      order by due_at, id limit ${limit} for update skip locked
    )
    update chat.outbox o set attempts = attempts + 1, leased_until = now() + ${leaseMs}::float8 * interval '1 ms'
    where o.id = any(array(select id from due))
    returning o.id, o.routing_key, o.payload, o.created_at, o.due_at, o.attempts, o.leased_until,
      (extract(epoch from now() - o.created_at) * 1000)::float8 as age_ms`)
  return rows.toSorted(byDueTime).map((row) => ({
    id: row.id,
    routingKey: row.routing_key,
    payload: row.payload,
    createdAt: row.created_at,
    attempt: row.attempts,
    ageMs: row.age_ms,
    leasedUntil: row.leased_until,
  }))
}

interface Due {
  id: string
  due_at: string
}

const byDueTime = (one: Due, other: Due): number =>
  Date.parse(one.due_at) - Date.parse(other.due_at) || (one.id < other.id ? -1 : 1)

/** What became of a batch. Storing it twice does no more than storing it once. */
export interface Conclusion {
  /** Sent, or given up. */
  gone: string[]
  /** `afterMs` null: it was not tried. */
  again: { id: string; leasedUntil: string; afterMs: number | null }[]
}

export async function conclude(tx: Tx, { gone, again }: Conclusion): Promise<void> {
  await Promise.all([
    gone.length > 0 ? tx.execute(sql`delete from chat.outbox where id = any(${gone}::uuid[])`) : undefined,
    again.length > 0
      ? tx.execute(sql`
          update chat.outbox o set leased_until = null,
            attempts = case when a.after_ms is null then o.attempts - 1 else o.attempts end,
            due_at = case when a.after_ms is null then o.due_at else now() + a.after_ms * interval '1 ms' end
          from unnest(${again.map(({ id }) => id)}::uuid[], ${again.map(({ leasedUntil }) => leasedUntil)}::timestamptz[],
            ${again.map(({ afterMs }) => afterMs)}::float8[]) as a (id, leased_until, after_ms)
          where o.id = a.id and o.leased_until = a.leased_until`)
      : undefined,
  ])
}

/** What nobody has taken for so long goes, of all sinks: of those that are no longer configured, too. @returns how many, at most `limit`. */
export async function forget(
  tx: Tx,
  { keptDays, limit }: { keptDays: number; limit: number },
): Promise<number> {
  const rows = await tx.execute(sql`
    delete from chat.outbox where id = any(array(
      select id from chat.outbox where created_at < now() - make_interval(days => ${keptDays}) limit ${limit}
      for update skip locked))
    returning 1`)
  return rows.length
}
