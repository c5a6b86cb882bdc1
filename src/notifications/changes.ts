/** A poll of the log: what a socket would have been told, a page at a time. */
import type { Tx } from '../db/database.ts'
import { noteConnected } from './heads.ts'
import { printCursor, readAfter, type Cursor } from './log.ts'
import type { Notification } from './schemas.ts'

export interface Changes {
  /** `reset`: the cursor means nothing in this log, or is older than what is kept. `fresh`: there was none. */
  mode: 'resume' | 'fresh' | 'reset'
  notifications: Notification[]
  /** To go on from; null where there is no log. */
  cursor: string | null
  head: number
  unread: number
  has_more: boolean
}

/** Whoever polls is here: from the first poll on broadcasts reach them. */
export async function readChanges(
  tx: Tx,
  userId: string,
  cursor: Cursor | undefined,
  limit: number,
): Promise<Changes> {
  const [, [page]] = await tx.commit(() =>
    Promise.all([
      cursor === undefined ? noteConnected(tx, [userId]) : undefined,
      readAfter(tx, [{ userId, cursor }], limit + 1),
    ]),
  )
  const mode = cursor === undefined ? 'fresh' : page?.known === true ? 'resume' : 'reset'
  if (page === undefined)
    return { mode, notifications: [], cursor: null, head: 0, unread: 0, has_more: false }
  const { epoch, head, unread, rows } = page
  const shown = rows.slice(0, limit)
  const has_more = rows.length > limit
  const seq = has_more ? (shown.at(-1)?.seq ?? head) : head
  return { mode, notifications: shown, cursor: printCursor({ epoch, seq }), head, unread, has_more }
}
