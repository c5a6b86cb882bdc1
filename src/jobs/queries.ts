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
  /** Instead: not before then, by the database's clock. RFC 3339. */
  at?: string
}

/** Adds it with the transaction, or not at all. One statement: it may leave with the transaction's last ones. */
export async function enqueue(
  tx: Tx,
  { kind, key, userId, payload, afterMs = 0, at }: NewJob,
): Promise<void> {
  // Without a conflict target: naming one needs the right to read it, which a caller does not have.
  await tx.execute(sql`
    insert into chat.jobs (id, kind, key, user_id, payload, run_at)
    values (${uuidv7()}, ${kind}, ${key}, ${userId}, ${JSON.stringify(payload)}::jsonb,
      coalesce(${at ?? null}::timestamptz, now() + ${afterMs}::float8 * interval '1 ms'))
    on conflict do nothing`)
}

/**
 * Adds many, as the system; where one of the same key is queued, that one gets the new payload and begins anew. One that
 * is being done goes on with what it was given: its outcome's `write` sees what has been committed since, and says
 * whether there is more to do.
 */
export async function renew(
  tx: Tx,
  kind: string,
  jobs: readonly Pick<NewJob, 'key' | 'userId' | 'payload'>[],
  afterMs = 0,
): Promise<void> {
  await tx.execute(sql`
    insert into chat.jobs (id, kind, key, user_id, payload, run_at)
    select j.id, ${kind}, j.key, j.user_id, j.payload, now() + ${afterMs}::float8 * interval '1 ms'
    from unnest(${jobs.map(() => uuidv7())}::uuid[], ${jobs.map(({ key }) => key)}::text[],
      ${jobs.map(({ userId }) => userId)}::text[], ${jobs.map(({ payload }) => JSON.stringify(payload))}::jsonb[])
      as j (id, key, user_id, payload)
    on conflict (kind, key) where status = 'queued' do update set payload = excluded.payload,
      run_at = case when jobs.leased_until > now() then jobs.run_at else excluded.run_at end,
      attempts = case when jobs.leased_until > now() then jobs.attempts else 0 end`)
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
 * Takes due jobs, the longest due of each lane first: those whose time has come, and those whose lease ran out with
 * their process.
 *
 * @param lanes kinds that share room, and how much there is.
 * @returns them, and how long it is until the next one is due, ms.
 */
export async function takeDue(
  tx: Tx,
  lanes: readonly { kinds: readonly string[]; limit: number }[],
  leaseMs: number,
): Promise<{ jobs: TakenJob[]; nextMs: number | undefined }> {
  const all = lanes.flatMap(({ kinds, limit }, lane) => kinds.map((kind) => ({ kind, limit, lane })))
  const kinds = all.map(({ kind }) => kind)
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
        select j.id, k.room, row_number() over (partition by k.lane order by j.run_at) as nth
        from unnest(${kinds}::text[], ${all.map(({ limit }) => limit)}::int[], ${all.map(({ lane }) => lane)}::int[])
          as k (kind, room, lane)
        cross join lateral (
          select id, run_at from chat.jobs
          where status = 'queued' and kind = k.kind and run_at <= now() and (leased_until is null or leased_until <= now())
          order by run_at limit k.room for update skip locked
        ) j
      )
      update chat.jobs j set attempts = attempts + 1, leased_until = now() + ${leaseMs}::float8 * interval '1 ms'
      where j.id = any(array(select id from due where nth <= room))
      returning j.id, j.kind, j.key, j.payload, j.attempts, j.leased_until, j.run_at`),
    tx.execute<{ ms: number | null }>(sql`
      select ceil(extract(epoch from min(j.run_at) - now()) * 1000)::float8 as ms
      from unnest(${kinds}::text[]) as k (kind) cross join lateral (
        select run_at from chat.jobs where status = 'queued' and kind = k.kind and run_at > now()
        order by run_at limit 1) j`),
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

/** Gives it back as if it had not been taken; due in so many ms, at once where that is undefined. */
export async function release(tx: Tx, lease: Lease, afterMs?: number): Promise<void> {
  const due = afterMs === undefined ? sql`run_at` : sql`now() + ${afterMs}::float8 * interval '1 ms'`
  await tx.execute(
    sql`update chat.jobs set leased_until = null, attempts = attempts - 1, run_at = ${due} where ${held(lease)}`,
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

export interface DeadJob {
  id: string
  kind: string
  key: string
  user_id: string | null
  attempts: number
  why: string | null
  created_at: string
}

/** Those that were given up, the newest first. */
export async function listDead(tx: Tx, kinds: readonly string[], limit: number): Promise<DeadJob[]> {
  return tx.execute<DeadJob>(sql`
    select id, kind, key, user_id, attempts, last_error as why, created_at from chat.jobs
    where status = 'dead' and kind = any(${kinds}::text[]) order by created_at desc, id desc limit ${limit}`)
}

/**
 * Queues again what was given up, from its first attempt. Of several with one key there is one afterwards.
 *
 * @param ids only these; all of these kinds where it is undefined.
 * @returns the keys that have work again.
 */
export async function redrive(
  tx: Tx,
  kinds: readonly string[],
  ids: readonly string[] | undefined,
): Promise<{ kind: string; key: string }[]> {
  const which = ids === undefined ? sql.empty() : sql`and id = any(${ids}::uuid[])`
  return tx.execute<{ kind: string; key: string }>(sql`
    with risen as (
      delete from chat.jobs where status = 'dead' and kind = any(${kinds}::text[]) ${which}
      returning kind, key, user_id, payload, created_at
    )
    insert into chat.jobs (id, kind, key, user_id, payload)
    select distinct on (kind, key) gen_random_uuid(), kind, key, user_id, payload from risen
    order by kind, key, created_at desc
    on conflict do nothing returning kind, key`)
}
