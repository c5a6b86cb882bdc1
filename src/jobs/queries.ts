/**
 * SQL of jobs. A job is queued, leased for a while (then nobody else takes it), and deleted when it is done.
 *
 * The lease is also the fence: whoever ends a job names the lease that it has, and where somebody else has taken the
 * job since, nothing is changed.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'

export interface NewJob {
  kind: string
  /** What it is about. While one of this kind and key is queued or running, this one stands for nothing new. */
  key: string
  /** Whose work it is: a user's transaction adds it in that user's name only. Null: the system's own. */
  userId: string | null
  /** Ids and numbers, never what people wrote. */
  payload: Record<string, unknown>
  /** Not before so long from now, ms; default 0. */
  afterMs?: number
}

/** Adds it with the transaction, or not at all. One statement: it may leave with the transaction's last ones. */
export async function enqueue(tx: Tx, { kind, key, userId, payload, afterMs = 0 }: NewJob): Promise<void> {
  // Without a conflict target: naming one needs the right to read it, which a caller does not have.
  await tx.execute(sql`
    insert into chat.jobs (id, kind, key, user_id, payload, run_at)
    values (${uuidv7()}, ${kind}, ${key}, ${userId}, ${JSON.stringify(payload)}::jsonb,
      now() + ${afterMs}::float8 * interval '1 ms')
    on conflict do nothing`)
}

/** Takes it back: there is nothing left to do. One that is being done goes on, and writes nothing. */
export async function dismiss(tx: Tx, kind: string, key: string): Promise<void> {
  await tx.execute(sql`delete from chat.jobs where kind = ${kind} and key = ${key} and status = 'queued'`)
}

/** A job that somebody has taken. */
export interface Lease {
  id: string
  leasedUntil: string
}

export interface TakenJob extends Lease {
  kind: string
  key: string
  payload: unknown
  /** Which attempt this is, from 1. */
  attempt: number
}

/**
 * Takes due jobs, the longest due first: those whose time has come, and those whose lease ran out with their process.
 *
 * @returns them, and how long it is until the next one is due, ms.
 */
export async function takeDue(
  tx: Tx,
  { kinds, limit, leaseMs }: { kinds: readonly string[]; limit: number; leaseMs: number },
): Promise<{ jobs: TakenJob[]; nextMs: number | undefined }> {
  const [jobs, [next]] = await Promise.all([
    tx.execute<{
      id: string
      kind: string
      key: string
      payload: unknown
      attempts: number
      leased_until: string
      run_at: string
    }>(sql`
      with due as (
        select id from chat.jobs
        where status = 'queued' and run_at <= now() and (leased_until is null or leased_until <= now())
          and kind = any(${kinds}::text[])
        order by run_at limit ${limit} for update skip locked
      )
      update chat.jobs j set attempts = attempts + 1, leased_until = now() + ${leaseMs}::float8 * interval '1 ms'
      from due where j.id = due.id
      returning j.id, j.kind, j.key, j.payload, j.attempts, j.leased_until, j.run_at`),
    tx.execute<{ ms: number | null }>(sql`
      select ceil(extract(epoch from min(run_at) - now()) * 1000)::float8 as ms from chat.jobs
      where status = 'queued' and run_at > now() and kind = any(${kinds}::text[])`),
  ])
  return {
    jobs: jobs
      .toSorted((one, other) => Date.parse(one.run_at) - Date.parse(other.run_at))
      .map(({ id, kind, key, payload, attempts, leased_until }) => ({
        id,
        kind,
        key,
        payload,
        attempt: attempts,
        leasedUntil: leased_until,
      })),
    nextMs: next?.ms ?? undefined,
  }
}

const held = ({ id, leasedUntil }: Lease) => sql`id = ${id} and leased_until = ${leasedUntil}::timestamptz`

/** @returns whether it was still ours; where it was not, it is not done by us. */
export async function remove(tx: Tx, lease: Lease): Promise<boolean> {
  const rows = await tx.execute(sql`delete from chat.jobs where ${held(lease)} returning id`)
  return rows.length > 0
}

/** @returns whether it was still ours. */
export async function requeue(tx: Tx, lease: Lease, afterMs: number, why: string): Promise<boolean> {
  const rows = await tx.execute(sql`
    update chat.jobs set run_at = now() + ${afterMs}::float8 * interval '1 ms', leased_until = null, last_error = ${why}
    where ${held(lease)} returning id`)
  return rows.length > 0
}

/** Gives it back as if it had not been taken. */
export async function release(tx: Tx, lease: Lease): Promise<void> {
  await tx.execute(
    sql`update chat.jobs set leased_until = null, attempts = attempts - 1 where ${held(lease)}`,
  )
}

/** @returns whether it was still ours. */
export async function bury(tx: Tx, lease: Lease, why: string): Promise<boolean> {
  const rows = await tx.execute(sql`
    update chat.jobs set status = 'dead', leased_until = null, last_error = ${why} where ${held(lease)} returning id`)
  return rows.length > 0
}

export async function forgetDead(tx: Tx, keptDays: number): Promise<void> {
  await tx.execute(
    sql`delete from chat.jobs where status = 'dead' and created_at < now() - make_interval(days => ${keptDays})`,
  )
}
