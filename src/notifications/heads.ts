/**
 * Door of notifications: the heads of logs: where each stands, what locks it, and who is there.
 */
import { randomBytes } from 'node:crypto'
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'

/** Where a log stands after a change: what its viewers are woken with. */
export interface Head {
  userId: string
  epoch: string
  seq: number
  unread: number
}

/** What a head says after a statement that may have moved it. */
export interface HeadColumns {
  user_id: string
  epoch: string | null
  head: number | null
  unread: number | null
}

/** How long a notification stays, unless it says when it ends; and how long what is left of it. */
export const keptDays = 30

/** Of the log's beginning. Long enough that a database put back, or an inbox made anew, never has it again. */
export const newEpoch = () => randomBytes(6).toString('base64url').replaceAll(/[-_]/g, 'x')

/** For those who have none yet. Before their locks: a head that is not there cannot be locked. */
export async function ensureHeads(tx: Tx, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    insert into chat.inbox_heads (user_id, epoch)
    select u.user_id, ${newEpoch()} from unnest(${userIds}::text[]) as u (user_id)
    order by u.user_id on conflict do nothing`)
}

/** In one order, so that no two transactions wait for each other. */
export async function lockHeads(tx: Tx, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    select from chat.inbox_heads where user_id = any(${userIds}::text[]) order by user_id for update`)
}

/** One for each user whose log moved. */
export function headsOf(rows: readonly HeadColumns[]): Head[] {
  const heads = new Map<string, Head>()
  for (const { user_id, epoch, head, unread } of rows)
    if (epoch !== null && head !== null && unread !== null)
      heads.set(user_id, { userId: user_id, epoch, seq: head, unread })
  return [...heads.values()]
}

/** Of `chat.notifications n`. */
export const isUnread: SQL = sql`(n.seq is not null and n.removed_at is null and n.read_at is null and n.archived_at is null)`

/** They are here: from now on broadcasts reach them. Makes the inbox of who has none. */
export async function noteConnected(tx: Tx, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    insert into chat.inbox_heads (user_id, epoch, connected_at, last_seen_at)
    select u.user_id, ${newEpoch()}, now(), now() from unnest(${userIds}::text[]) as u (user_id) order by u.user_id
    on conflict (user_id) do update set connected_at = coalesce(inbox_heads.connected_at, now()), last_seen_at = now()`)
}

/** They were here until now. Those who are being written to are left out: they are seen again. */
export async function noteSeen(tx: Tx, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    with here as (
      select user_id from chat.inbox_heads where user_id = any(${userIds}::text[])
      order by user_id for no key update skip locked
    )
    update chat.inbox_heads h set last_seen_at = now() from here where h.user_id = here.user_id`)
}

/** @returns whose log is further than was known, or another one, or gone. */
export async function readMoved(
  tx: Tx,
  known: readonly { userId: string; epoch: string; head: number }[],
): Promise<string[]> {
  const rows = await tx.execute<{ user_id: string }>(sql`
    select k.user_id
    from unnest(${known.map(({ userId }) => userId)}::text[], ${known.map(({ epoch }) => epoch)}::text[],
      ${known.map(({ head }) => head)}::bigint[]) as k (user_id, epoch, head)
    left join chat.inbox_heads h on h.user_id = k.user_id and h.epoch = k.epoch and h.seq <= k.head
    where h.user_id is null`)
  return rows.map(({ user_id }) => user_id)
}
