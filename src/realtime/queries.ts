/** SQL of rooms: who may be in which, who their members are, and when they were last seen. All of it as chat_system. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Pair } from './audience.ts'
import type { RoomName } from './room-names.ts'

export interface Standing {
  allowed: boolean
  /** Of a conversation; null where there is none, or no more. */
  ownerId: string | null
}

/** Of a room, with what a conversation's rights hang on. */
const conversationOf = ({ kind, of }: RoomName): string | null => (kind === 'conversation' ? of : null)

/** May they be there? A conversation's owner and members, while it is not deleted; of another room its members. */
export async function readStandings(
  tx: Tx,
  pairs: readonly { room: RoomName; userId: string }[],
): Promise<Standing[]> {
  const rows = await tx.execute<{ owner_id: string | null; allowed: boolean }>(sql`
    select c.user_id as owner_id, coalesce(c.user_id = p.user_id, false) or
      (exists (select from chat.room_members m where m.room = p.room and m.user_id = p.user_id)
        and (p.conversation_id is null or c.id is not null)) as allowed
    from unnest(${pairs.map(({ room }) => room.name)}::text[], ${pairs.map(({ room }) => conversationOf(room))}::uuid[],
        ${pairs.map(({ userId }) => userId)}::text[]) with ordinality as p (room, conversation_id, user_id, ord)
    left join chat.conversations c on c.id = p.conversation_id and c.status <> 'deleted'
    order by p.ord`)
  return rows.map(({ allowed, owner_id }) => ({ allowed, ownerId: owner_id }))
}

/** Members of rooms, of each the first `limit`. A conversation's owner is none. */
export async function readMembers(
  tx: Tx,
  rooms: readonly string[],
  limit: number,
): Promise<{ room: string; userIds: string[] }[]> {
  // One value for each room: of a row for each member the driver would make objects, thousands of them.
  const rows = await tx.execute<{ room: string; user_ids: string[] }>(sql`
    select r.room, (
      select coalesce(json_agg(m.user_id), '[]') from (
        select user_id from chat.room_members where room = r.room order by user_id limit ${limit}) m) as user_ids
    from unnest(${rooms}::text[]) as r (room)`)
  return rows.map(({ room, user_ids }) => ({ room, userIds: user_ids }))
}

/** The rooms that people are members of, of each person `limit`. A conversation's owner is no member. */
export async function readRoomsOf(tx: Tx, userIds: readonly string[], limit: number): Promise<Pair[]> {
  const rows = await tx.execute<{ room: string; user_id: string }>(sql`
    select m.room, u.user_id from unnest(${userIds}::text[]) as u (user_id)
    cross join lateral (
      select m.room from chat.room_members m where m.user_id = u.user_id limit ${limit}) m`)
  return rows.map(({ room, user_id }) => ({ room, userId: user_id }))
}

export async function readLastSeen(
  tx: Tx,
  userIds: readonly string[],
): Promise<{ userId: string; lastSeenAt: string | null }[]> {
  const rows = await tx.execute<{ user_id: string; last_seen_at: string | null }>(sql`
    select user_id, last_seen_at from chat.inbox_heads where user_id = any(${userIds}::text[])`)
  return rows.map(({ user_id, last_seen_at }) => ({ userId: user_id, lastSeenAt: last_seen_at }))
}

/** @returns undefined where there is none, or no more. */
export async function readOwner(tx: Tx, conversationId: string): Promise<string | undefined> {
  const [row] = await tx.execute<{ user_id: string }>(sql`
    select user_id from chat.conversations where id = ${conversationId} and status <> 'deleted'`)
  return row?.user_id
}

/** Who is one already stays one. */
export async function addMembers(tx: Tx, room: string, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    insert into chat.room_members (room, user_id)
    select ${room}, u.user_id from unnest(${userIds}::text[]) as u (user_id) order by u.user_id
    on conflict do nothing`)
}

export async function removeMembers(tx: Tx, room: string, userIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    with gone as (
      select user_id from chat.room_members where room = ${room} and user_id = any(${userIds}::text[])
      order by user_id for update
    )
    delete from chat.room_members m using gone where m.room = ${room} and m.user_id = gone.user_id`)
}

export async function countMembers(tx: Tx, room: string): Promise<number> {
  const [row] = await tx.execute<{ count: number }>(sql`
    select count(*)::int as count from chat.room_members where room = ${room}`)
  return row?.count ?? 0
}

/** In the order of their ids. */
export async function listMembers(tx: Tx, room: string, after: string, limit: number): Promise<string[]> {
  const rows = await tx.execute<{ user_id: string }>(sql`
    select user_id from chat.room_members where room = ${room} and user_id > ${after}
    order by user_id limit ${limit}`)
  return rows.map(({ user_id }) => user_id)
}
