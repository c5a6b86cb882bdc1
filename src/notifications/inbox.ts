/**
 * Door of notifications: the inbox, a compacted log for each user, as functions of a transaction.
 *
 * A change locks its users' heads in a statement of its own, near the end of its transaction; then rows get the heads'
 * next numbers, and `unread` moves by what really changed. A changed row moves to the end of its log, so `readAfter` a
 * cursor gives the latest version of everything that changed behind it: bounded by rows, not by changes. Numbers of one
 * user are given and committed in one order, so nothing appears behind a cursor that has passed it.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { ensureHeads, headsOf, isUnread, keptDays, lockHeads, type Head, type HeadColumns } from './heads.ts'
import type { Channel, NotificationType, Priority } from './kinds.ts'

/** What a notification says; the same object may go to many. */
export interface Content {
  type: NotificationType
  priority: Priority
  template: string | null
  title: string
  body: string
  icon: string | null
  color: string | null
  action: { type?: 'redirect' | undefined; label?: string | undefined; url: string } | null
  data: Readonly<Record<string, unknown>>
  /** Percent. A row's progress never goes back. */
  progress: number | null
  /** Where it goes besides the inbox. */
  channels: readonly Channel[]
}

export interface NewNotification {
  userId: string
  content: Content
  /** Names the row: what comes under the same key again changes it. */
  dedupeKey?: string | null
  /** Later than now: it appears then. RFC 3339. */
  scheduledAt?: string | null
  /** Default: 30 days from now. RFC 3339. */
  expiresAt?: string | null
}

export interface Published {
  userId: string
  /** The row's: an older one where `dedupeKey` was known. */
  id: string
  /** `same`: nothing new was said, or something older than what is known. */
  outcome: 'new' | 'changed' | 'same' | 'scheduled'
  seq: number | null
}

/**
 * What is scheduled under the key of a row that has its place in the log is a row of its own, and gets the key: what is there
 * stays as it is until then, and a tombstone is still needed by devices that have not seen it. After the locks.
 */
async function handKeysOver(tx: Tx, entries: readonly NewNotification[]): Promise<void> {
  const later = entries.filter(({ dedupeKey, scheduledAt }) => dedupeKey != null && scheduledAt != null)
  if (later.length === 0) return
  await tx.execute(sql`
    update chat.notifications n set dedupe_key = null
    from unnest(${later.map(({ userId }) => userId)}::text[], ${later.map(({ dedupeKey }) => dedupeKey)}::text[],
      ${later.map(({ scheduledAt }) => scheduledAt)}::timestamptz[]) as e (user_id, dedupe_key, scheduled_at)
    where n.user_id = e.user_id and n.dedupe_key = e.dedupe_key and n.seq is not null and e.scheduled_at > now()`)
}

/** Puts notifications into their users' logs, any number of users at once. The transaction's last work: locks are held from here on. */
export async function publish(
  tx: Tx,
  entries: readonly NewNotification[],
): Promise<{ published: Published[]; heads: Head[] }> {
  const [first, later] = inTurn(entries)
  const one = await publishOnce(tx, first)
  if (later.length === 0) return one
  const other = await publish(tx, later)
  const early = new Set(first)
  const [earlier, behind] = [one.published.values(), other.published.values()]
  return {
    published: entries.flatMap((entry) => (early.has(entry) ? earlier : behind).next().value ?? []),
    heads: [...new Map([...one.heads, ...other.heads].map((head) => [head.userId, head])).values()],
  }
}

/** A key that comes more than once: the second finds what the first has made. */
function inTurn(entries: readonly NewNotification[]): [first: NewNotification[], later: NewNotification[]] {
  const named = new Set<string>()
  const first: NewNotification[] = []
  const later: NewNotification[] = []
  for (const entry of entries) {
    const name = entry.dedupeKey == null ? undefined : JSON.stringify([entry.userId, entry.dedupeKey])
    if (name !== undefined && named.has(name)) later.push(entry)
    else first.push(entry)
    if (name !== undefined) named.add(name)
  }
  return [first, later]
}

async function publishOnce(
  tx: Tx,
  entries: readonly NewNotification[],
): Promise<{ published: Published[]; heads: Head[] }> {
  if (entries.length === 0) return { published: [], heads: [] }
  const users = [...new Set(entries.map(({ userId }) => userId))]
  const contents = [...new Set(entries.map(({ content }) => content))]
  const numbered = new Map(contents.map((content, n) => [content, n]))
  const column = <T>(of: (entry: NewNotification) => T) => entries.map(of)
  const [, , , rows] = await Promise.all([
    ensureHeads(tx, users),
    lockHeads(tx, users),
    handKeysOver(tx, entries),
    tx.execute<PublishedRow>(sql`
      with entry as (
        select e.ord, e.user_id, e.id, e.dedupe_key, e.scheduled_at,
          e.expires_at as ends_at,
          coalesce(e.expires_at, greatest(now(), e.scheduled_at) + make_interval(days => ${keptDays})) as expires_at,
          coalesce(e.scheduled_at > now(), false) as later,
          -- Behind the locks: whoever waited for them comes after those for whom it waited.
          (select clock_timestamp()) as at, c.*
        from unnest(${column(({ userId }) => userId)}::text[], ${column(() => uuidv7())}::uuid[],
            ${column(({ content }) => numbered.get(content))}::int[], ${column(({ dedupeKey }) => dedupeKey ?? null)}::text[],
            ${column(({ scheduledAt }) => scheduledAt ?? null)}::timestamptz[],
            ${column(({ expiresAt }) => expiresAt ?? null)}::timestamptz[])
          with ordinality as e (user_id, id, content, dedupe_key, scheduled_at, expires_at, ord)
        join json_to_recordset(${JSON.stringify(contents.map((content, n) => ({ n, ...content })))}::json) as c
          (n int, type text, priority text, template text, title text, body text, icon text, color text, action jsonb,
            data jsonb, progress smallint, channels text[]) on c.n = e.content
      ), known as (
        select e.ord, n.id, ${isUnread} as unread,
          -- What has expired is gone, whether it was swept already or not.
          n.removed_at is null and n.expires_at > e.at and (coalesce(n.seq is not null and e.progress < n.progress, false)
            or ((n.type, n.priority, n.title, n.body, n.icon, n.color, n.action, n.data, n.progress)
              is not distinct from (e.type, e.priority, e.title, e.body, e.icon, e.color, e.action, e.data, e.progress)
              and (e.ends_at is null or e.ends_at = n.expires_at)
              and (n.seq is not null or n.scheduled_at is not distinct from e.scheduled_at))) as same
        -- One by one, by their index: a plan for a table that was empty once would read all of it.
        from entry e cross join lateral (
          select * from chat.notifications n where n.user_id = e.user_id and n.dedupe_key = e.dedupe_key limit 1) n
      ), fresh as (
        select e.*, k.id as known_id, coalesce(k.unread, false) as was_unread,
          case when not e.later then h.seq + row_number() over (partition by e.user_id, e.later order by e.ord) end as seq
        from entry e join chat.inbox_heads h on h.user_id = e.user_id left join known k on k.ord = e.ord
        where k.same is not true
      ), inserted as (
        insert into chat.notifications (id, user_id, seq, type, priority, template, title, body, icon, color, action, data,
          progress, dedupe_key, channels, scheduled_at, appeared_at, expires_at, created_at, updated_at)
        select id, user_id, seq, type, priority, template, title, body, icon, color, action, data,
          progress, dedupe_key, channels, scheduled_at, case when not later then at end, expires_at, at, at
        from fresh where known_id is null
      ), moved as (
        update chat.notifications n set seq = f.seq, type = f.type, priority = f.priority, template = f.template,
          title = f.title, body = f.body, icon = f.icon, color = f.color, action = f.action, data = f.data,
          progress = f.progress, channels = f.channels, scheduled_at = f.scheduled_at, expires_at = f.expires_at,
          appeared_at = case when f.later then null when n.removed_at is null and n.expires_at > f.at
            then coalesce(n.appeared_at, f.at) else f.at end,
          updated_at = f.at, delivered_at = null, read_at = null, archived_at = null, removed_at = null
        from fresh f where n.id = f.known_id
      ), head as (
        update chat.inbox_heads h set seq = h.seq + d.given, unread = h.unread + d.unread
        from (select user_id, count(seq) as given, sum((seq is not null)::int - was_unread::int) as unread
          from fresh group by user_id) d
        where h.user_id = d.user_id and d.given > 0
        returning h.user_id, h.epoch, h.seq, h.unread
      )
      select e.user_id, coalesce(k.id, e.id) as id, f.seq::float8 as seq,
        case when f.ord is null then 'same' when e.later then 'scheduled' when k.id is null then 'new' else 'changed' end
          as outcome,
        head.epoch, head.seq::float8 as head, head.unread
      from entry e left join known k on k.ord = e.ord left join fresh f on f.ord = e.ord
        left join head on head.user_id = e.user_id
      order by e.ord`),
  ])
  return {
    published: rows.map(({ user_id, id, outcome, seq }) => ({ userId: user_id, id, outcome, seq })),
    heads: headsOf(rows),
  }
}

interface PublishedRow extends HeadColumns {
  id: string
  seq: number | null
  outcome: Published['outcome']
}

/** Which of a user's notifications: those named, or all up to a place in the log. */
export type Selection = { ids: readonly string[] } | { upTo: number }

/** Marks as read, or archives. @returns which rows changed, and where the log stands now; undefined where it never began. */
export async function mark(
  tx: Tx,
  userId: string,
  selection: Selection,
  as: 'read' | 'archived',
): Promise<{ changed: string[]; head: Head | undefined }> {
  const column = sql.raw(as === 'read' ? 'read_at' : 'archived_at')
  const selected =
    'ids' in selection ? sql`n.id = any(${selection.ids}::uuid[])` : sql`n.seq <= ${selection.upTo}`
  const [, [row]] = await Promise.all([
    lockHeads(tx, [userId]),
    tx.execute<HeadColumns & { changed: string[] }>(sql`
      with target as (
        select n.id, ${isUnread} as was_unread, row_number() over (order by n.seq) as nth
        from chat.notifications n
        where n.user_id = ${userId} and n.seq is not null and n.removed_at is null and n.${column} is null and ${selected}
      ), changed as (
        update chat.notifications n set seq = h.seq + t.nth, ${column} = clock_timestamp(), updated_at = clock_timestamp()
        from target t, chat.inbox_heads h where n.id = t.id and h.user_id = ${userId}
        returning n.id, t.was_unread
      ), moved as (
        select count(*) as given, count(*) filter (where was_unread) as read, coalesce(array_agg(id::text), '{}') as ids
        from changed
      ), head as (
        update chat.inbox_heads h set seq = h.seq + m.given, unread = h.unread - m.read from moved m
        where h.user_id = ${userId} and m.given > 0
        returning h.user_id, h.seq, h.unread
      )
      select h.user_id, h.epoch, coalesce(head.seq, h.seq)::float8 as head, coalesce(head.unread, h.unread) as unread,
        m.ids as changed
      from chat.inbox_heads h cross join moved m left join head on head.user_id = h.user_id
      where h.user_id = ${userId}`),
  ])
  return { changed: row?.changed ?? [], head: row === undefined ? undefined : headsOf([row])[0] }
}
