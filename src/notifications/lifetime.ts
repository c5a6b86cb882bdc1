/**
 * Door of notifications: what time does to an inbox, a page of rows at a time: what was scheduled appears, what has expired
 * leaves a tombstone, and tombstones go after a month. A device that was away for longer begins anew.
 */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { headsOf, isUnread, keptDays, lockHeads, type Head, type HeadColumns } from './heads.ts'

/** Rows that a job moves at once: their users' heads are locked meanwhile. */
export const sweptRowsMax = 500

/**
 * What was scheduled and is due gets its place, the longest due first.
 *
 * @returns what appeared, at most `sweptRowsMax`, and whose logs moved.
 */
export async function appear(tx: Tx): Promise<{ appeared: { id: string; userId: string }[]; heads: Head[] }> {
  const due = await tx.execute<{ id: string; user_id: string }>(sql`
    select n.id, n.user_id from chat.notifications n
    where n.seq is null and n.scheduled_at <= now() and n.removed_at is null and n.expires_at > now()
    order by n.scheduled_at limit ${sweptRowsMax}`)
  if (due.length === 0) return { appeared: [], heads: [] }
  const [, rows] = await Promise.all([
    lockHeads(tx, usersOf(due)),
    tx.execute<HeadColumns & { id: string }>(sql`
      with target as (
        select n.id, n.user_id, row_number() over (partition by n.user_id order by n.scheduled_at, n.id) as nth
        from chat.notifications n
        where n.id = any(${due.map(({ id }) => id)}::uuid[]) and n.seq is null and n.removed_at is null
          and n.scheduled_at <= now() and n.expires_at > now()
      ), changed as (
        update chat.notifications n set seq = h.seq + t.nth, appeared_at = c.at, updated_at = c.at
        from (select clock_timestamp() as at) c, target t join chat.inbox_heads h on h.user_id = t.user_id where n.id = t.id
        returning n.id, n.user_id
      ), head as (
        update chat.inbox_heads h set seq = h.seq + c.given, unread = h.unread + c.given
        from (select user_id, count(*) as given from changed group by user_id) c where h.user_id = c.user_id
        returning h.user_id, h.epoch, h.seq, h.unread
      )
      select c.id, head.user_id, head.epoch, head.seq::float8 as head, head.unread
      from changed c join head on head.user_id = c.user_id`),
  ])
  return { appeared: rows.map(({ id, user_id }) => ({ id, userId: user_id })), heads: headsOf(rows) }
}

/**
 * What has expired leaves a tombstone: its place moves, its content goes. What never appeared just goes.
 *
 * @param userId only this user's; all users' where it is undefined.
 * @returns how many, at most `sweptRowsMax`, and whose logs moved.
 */
export async function expire(tx: Tx, userId?: string): Promise<{ expired: number; heads: Head[] }> {
  const whose = userId === undefined ? sql.empty() : sql`and n.user_id = ${userId}`
  const due = await tx.execute<{ id: string; user_id: string }>(sql`
    select n.id, n.user_id from chat.notifications n
    where n.removed_at is null and n.expires_at <= now() ${whose} order by n.expires_at limit ${sweptRowsMax}`)
  if (due.length === 0) return { expired: 0, heads: [] }
  const ids = due.map(({ id }) => id)
  const [, , rows] = await Promise.all([
    lockHeads(tx, usersOf(due)),
    tx.execute(sql`delete from chat.notifications n where n.id = any(${ids}::uuid[]) and n.seq is null
        and n.expires_at <= now()`),
    tx.execute<HeadColumns>(sql`
      with target as (
        select n.id, n.user_id, ${isUnread} as was_unread,
          row_number() over (partition by n.user_id order by n.seq) as nth
        from chat.notifications n
        where n.id = any(${ids}::uuid[]) and n.seq is not null and n.removed_at is null and n.expires_at <= now()
      ), changed as (
        update chat.notifications n set seq = h.seq + t.nth, removed_at = clock_timestamp(), updated_at = clock_timestamp(), template = null,
          title = '', body = '', icon = null, color = null, action = null, data = '{}'
        from target t join chat.inbox_heads h on h.user_id = t.user_id where n.id = t.id
        returning n.user_id, t.was_unread
      )
      update chat.inbox_heads h set seq = h.seq + c.given, unread = h.unread - c.unread
      from (select user_id, count(*) as given, count(*) filter (where was_unread) as unread from changed group by user_id) c
      where h.user_id = c.user_id
      returning h.user_id, h.epoch, h.seq::float8 as head, h.unread`),
  ])
  return { expired: due.length, heads: headsOf(rows) }
}

/** Tombstones older than `days` go for good, and the floors of their logs rise over them. @returns how many went. */
export async function purge(tx: Tx, days = keptDays): Promise<number> {
  const old = await tx.execute<{ id: string; user_id: string }>(sql`
    select n.id, n.user_id from chat.notifications n
    where n.removed_at <= now() - make_interval(days => ${days}) order by n.removed_at limit ${sweptRowsMax}`)
  if (old.length === 0) return 0
  const [, gone] = await Promise.all([
    lockHeads(tx, usersOf(old)),
    tx.execute(sql`
      with gone as (
        delete from chat.notifications n where n.id = any(${old.map(({ id }) => id)}::uuid[])
          and n.removed_at <= now() - make_interval(days => ${days})
        returning n.id, n.user_id, n.seq
      ), raised as (
        update chat.inbox_heads h set floor = greatest(h.floor, g.seq)
        from (select user_id, max(seq) as seq from gone group by user_id) g where h.user_id = g.user_id
      )
      select id from gone`),
  ])
  return gone.length
}

const usersOf = (rows: readonly { user_id: string }[]) => [...new Set(rows.map(({ user_id }) => user_id))]
