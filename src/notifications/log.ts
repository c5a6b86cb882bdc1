/**
 * Door of notifications: reading the inbox's log behind cursors. The one read path of socket, event stream and poll.
 *
 * Head, unread and rows of one answer are of one snapshot: a badge is never older or newer than what comes with it.
 */
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Notification } from './schemas.ts'

/** A place in a user's log. */
export interface Cursor {
  epoch: string
  seq: number
}

export const printCursor = ({ epoch, seq }: Cursor): string => `${epoch}.${seq}`

/** @returns undefined for what `printCursor` did not make. */
export function parseCursor(text: string): Cursor | undefined {
  const [, epoch, digits] = /^([A-Za-z0-9]{1,20})\.(\d{1,15})$/.exec(text) ?? []
  return epoch === undefined || digits === undefined ? undefined : { epoch, seq: Number(digits) }
}

export interface Ask {
  userId: string
  /** Undefined: only where the log stands. */
  cursor: Cursor | undefined
}

export interface Page {
  epoch: string
  /** The log's last number, and how many are unread, as of these rows. */
  head: number
  unread: number
  /** Whether the cursor means something in this log: where not, the client has to begin anew. */
  known: boolean
  /** In the log's order. Fewer than were asked for: there are no more. */
  rows: Notification[]
}

/**
 * What is behind each cursor, in one statement.
 *
 * @param limit rows for each cursor.
 * @returns in the order of the asks; undefined for a user who has no inbox.
 */
export async function readAfter(tx: Tx, asks: readonly Ask[], limit: number): Promise<(Page | undefined)[]> {
  const rows = await tx.execute<PageRow>(sql`
    select a.ord::int as ord, h.epoch, h.seq::float8 as head, h.unread,
      coalesce(a.epoch = h.epoch and a.seq between h.floor and h.seq, false) as known, n.*
    from unnest(${asks.map(({ userId }) => userId)}::text[], ${asks.map(({ cursor }) => cursor?.epoch ?? null)}::text[],
        ${asks.map(({ cursor }) => cursor?.seq ?? null)}::bigint[]) with ordinality as a (user_id, epoch, seq, ord)
    join chat.inbox_heads h on h.user_id = a.user_id
    left join lateral (
      select ${notificationColumns} from chat.notifications n
      where n.user_id = a.user_id and n.seq > a.seq and a.epoch = h.epoch and a.seq between h.floor and h.seq
      order by n.seq limit ${limit}) n on true
    order by a.ord, n.seq`)
  const pages: (Page | undefined)[] = asks.map(() => undefined)
  for (const row of rows) {
    const { ord, epoch, head, unread, known } = row
    const page = (pages[ord - 1] ??= { epoch, head, unread, known, rows: [] })
    if (hasNotification(row)) page.rows.push(toNotification(row))
  }
  return pages
}

interface PageRow extends Partial<NotificationRow> {
  ord: number
  epoch: string
  head: number
  unread: number
  known: boolean
}

const hasNotification = (row: PageRow): row is PageRow & NotificationRow => row.id != null

/** Of `chat.notifications n`. */
export const notificationColumns: SQL = sql`
  n.id, n.seq::float8 as seq, n.type, n.priority, n.template, n.title, n.body, n.icon, n.color, n.action, n.data, n.progress,
  n.created_at, n.updated_at, n.scheduled_at, n.expires_at, n.delivered_at, n.read_at, n.archived_at, n.removed_at`

export interface NotificationRow extends Omit<Notification, 'status' | 'removed'> {
  removed_at: string | null
}

export function toNotification(row: NotificationRow): Notification {
  return {
    id: row.id,
    seq: row.seq,
    type: row.type,
    priority: row.priority,
    template: row.template,
    title: row.title,
    body: row.body,
    icon: row.icon,
    color: row.color,
    action: row.action,
    data: row.data,
    progress: row.progress,
    status: statusOf(row),
    created_at: row.created_at,
    updated_at: row.updated_at,
    scheduled_at: row.scheduled_at,
    expires_at: row.expires_at,
    delivered_at: row.delivered_at,
    read_at: row.read_at,
    archived_at: row.archived_at,
    removed: row.removed_at !== null,
  }
}

function statusOf({ seq, read_at, delivered_at }: NotificationRow): Notification['status'] {
  if (seq === null) return 'pending'
  if (read_at !== null) return 'read'
  return delivered_at === null ? 'sent' : 'delivered'
}
