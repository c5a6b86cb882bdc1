/**
 * Door of playground: a list of notifications that takes its rows in any order, from the socket and from HTTP at once.
 * The same id keeps its higher seq; what has expired is remembered as gone, so that an older page does not bring it back.
 */
import type { Notification } from '../../notifications/schemas.ts'

export interface Rows {
  /** @returns whether it was news. */
  put(row: Notification): boolean
  clear(): void
  /** What is not archived, the newest first. */
  shown(): Notification[]
}

export function createRows(): Rows {
  const byId = new Map<string, Notification>()
  return {
    put(row) {
      const known = byId.get(row.id)
      if (known !== undefined && (known.seq ?? 0) >= (row.seq ?? 0)) return false
      byId.set(row.id, row)
      return true
    },
    clear: () => byId.clear(),
    shown: () =>
      [...byId.values()]
        .filter((row) => !row.removed && row.archived_at === null)
        .sort((a, b) => (b.seq ?? 0) - (a.seq ?? 0)),
  }
}
