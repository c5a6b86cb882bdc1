/** Door of notifications: where logs stand, for those who watch many of them. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { newEpoch } from './inbox.ts'

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
