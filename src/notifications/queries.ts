/** SQL of what is asked of an inbox, as functions of a transaction. What has expired, or did not appear yet, is not there. */
import { z } from 'zod'
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { decodeCursor, encodeCursor } from '../http/pagination.ts'
import type { NotificationType, Priority } from './kinds.ts'
import { notificationColumns, printCursor, toNotification, type NotificationRow } from './log.ts'
import type { Notification } from './schemas.ts'

export const listStatuses = [
  'all',
  'unread',
  'read',
  'archived',
  'pending',
  'sent',
  'delivered',
  'failed',
] as const
export type ListStatus = (typeof listStatuses)[number]

/** Rows of a page, unless it is told. */
export const listRowsDefault = 20

export interface ListQuery {
  /** Undefined: everything that is not archived. */
  status?: ListStatus | undefined
  type?: NotificationType | undefined
  limit: number
  cursor?: string | undefined
}

export interface NotificationPage {
  notifications: Notification[]
  unread: number
  /** Where the log stands, of the same moment; null where it never began. */
  cursor: string | null
  pagination: { limit: number; has_more: boolean; next_cursor: string | null }
}

/** Of `chat.notifications n`: what its user sees. */
const isVisible = sql`n.seq is not null and n.removed_at is null`

function statusFilter(status: ListStatus | undefined): SQL {
  switch (status) {
    case undefined:
      return sql`${isVisible} and n.archived_at is null`
    case 'all':
      return isVisible
    case 'archived':
      return sql`${isVisible} and n.archived_at is not null`
    case 'unread':
      return sql`${isVisible} and n.archived_at is null and n.read_at is null`
    case 'read':
      return sql`${isVisible} and n.archived_at is null and n.read_at is not null`
    case 'sent':
      return sql`${isVisible} and n.archived_at is null and n.read_at is null and n.delivered_at is null`
    case 'delivered':
      return sql`${isVisible} and n.archived_at is null and n.read_at is null and n.delivered_at is not null`
    case 'pending':
      return sql`n.seq is null and n.removed_at is null`
    case 'failed':
      // An inbox holds what has arrived in it; what failed on other ways services are told.
      return sql`false`
    default:
      return status satisfies never
  }
}

/** A time as we print it; PostgreSQL knows no year 0. Empty: it has not appeared yet. */
const cursorTime = z.union([
  z.literal(''),
  z.iso.datetime({ precision: 3 }).refine((time) => !time.startsWith('0000')),
])
const cursorFields = z.tuple([cursorTime, z.uuid()])

/** The newest first. @throws AppError invalid_request for a cursor of another list. */
export async function listNotifications(
  tx: Tx,
  userId: string,
  { status, type, limit, cursor }: ListQuery,
): Promise<NotificationPage> {
  const after = cursor === undefined ? undefined : decodeCursor(cursor, cursorFields)
  const from =
    after === undefined
      ? sql.empty()
      : after[0] === ''
        ? sql`and n.appeared_at is null and n.id < ${after[1]}::uuid`
        : sql`and (n.appeared_at, n.id) < (${after[0]}::timestamptz, ${after[1]}::uuid)`
  const rows = await tx.execute<ListRow>(sql`
    select h.epoch, h.seq::float8 as head, h.unread, n.*
    from chat.inbox_heads h left join lateral (
      select ${notificationColumns}, n.appeared_at from chat.notifications n
      where n.user_id = h.user_id and ${statusFilter(status)} ${type === undefined ? sql.empty() : sql`and n.type = ${type}`}
        ${from}
      order by n.appeared_at desc nulls last, n.id desc nulls last limit ${limit + 1}) n on true
    where h.user_id = ${userId}
    order by n.appeared_at desc nulls last, n.id desc nulls last`)
  const [head] = rows
  const found = rows.filter(isListed)
  const shown = found.slice(0, limit)
  const last = found.length > limit ? shown.at(-1) : undefined
  return {
    notifications: shown.map(toNotification),
    unread: head?.unread ?? 0,
    cursor: head === undefined ? null : printCursor({ epoch: head.epoch, seq: head.head }),
    pagination: {
      limit,
      has_more: last !== undefined,
      next_cursor: last === undefined ? null : encodeCursor(last.appeared_at ?? '', last.id),
    },
  }
}

interface ListRow extends Partial<NotificationRow> {
  epoch: string
  head: number
  unread: number
  appeared_at: string | null
}

const isListed = (row: ListRow): row is ListRow & NotificationRow => row.id != null

export interface Stats {
  unread: number
  total: number
  by_type: Partial<Record<NotificationType, number>>
  by_priority: Partial<Record<Priority, number>>
}

/** Of what is not archived. */
export async function readStats(tx: Tx, userId: string): Promise<Stats> {
  const rows = await tx.execute<{
    type: NotificationType
    priority: Priority
    total: number
    unread: number
  }>(sql`
    select n.type, n.priority, count(*)::int as total, (count(*) filter (where n.read_at is null))::int as unread
    from chat.notifications n where n.user_id = ${userId} and ${isVisible} and n.archived_at is null
    group by n.type, n.priority order by n.type, n.priority`)
  const stats: Stats = { unread: 0, total: 0, by_type: {}, by_priority: {} }
  for (const { type, priority, total, unread } of rows) {
    stats.total += total
    stats.unread += unread
    stats.by_type[type] = (stats.by_type[type] ?? 0) + total
    stats.by_priority[priority] = (stats.by_priority[priority] ?? 0) + total
  }
  return stats
}

/** @returns undefined for what its user does not see. */
export async function readNotification(
  tx: Tx,
  userId: string,
  id: string,
): Promise<Notification | undefined> {
  const [row] = await tx.execute<NotificationRow>(sql`
    select ${notificationColumns} from chat.notifications n
    where n.id = ${id} and n.user_id = ${userId} and ${isVisible}`)
  return row === undefined ? undefined : toNotification(row)
}
