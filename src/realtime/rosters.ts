/**
 * Who the members of rooms are, for telling whoever joins who of them is here. Kept for some seconds, since a herd that
 * comes back asks the same of every room again and again; forgotten when they change.
 */

export interface Rosters {
  /** @returns undefined where it is not known, or not any more. */
  of(room: string): readonly string[] | undefined
  keep(room: string, userIds: readonly string[]): void
  forget(room: string): void
  /** How often anything has been forgotten: what was read before may be old. */
  changes(): number
}

/** How long a lost message hides a new member from who joins, ms. */
const keptMs = 5_000
/** Ids of all rosters: some 20 MB. */
const idsMax = 200_000

export function createRosters(nowMs: () => number): Rosters {
  /** The oldest first. */
  const rosters = new Map<string, { userIds: readonly string[]; atMs: number }>()
  let ids = 0
  let changes = 0

  function remove(room: string): void {
    ids -= rosters.get(room)?.userIds.length ?? 0
    rosters.delete(room)
  }

  function tidy(): void {
    for (const [room, { atMs }] of rosters) {
      if (ids <= idsMax && nowMs() - atMs < keptMs) break
      remove(room)
    }
  }

  return {
    of(room) {
      tidy()
      return rosters.get(room)?.userIds
    },
    keep(room, userIds) {
      remove(room)
      rosters.set(room, { userIds, atMs: nowMs() })
      ids += userIds.length
      tidy()
    },
    forget(room) {
      changes++
      remove(room)
    },
    changes: () => changes,
  }
}
