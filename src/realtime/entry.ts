/** What the hub knows of its viewers, and which of them are read for together. */
import type { Cursor, Page } from '../notifications/log.ts'
import type { InboxEvent, Viewer } from './viewer.ts'

/** A viewer as the hub knows it. */
export interface Entry {
  viewer: Viewer
  user: User
  state: 'new' | 'behind' | 'live' | 'paused' | 'closed'
  epoch: string
  /** The last that the viewer was told of: a row's number, or that of `live`. */
  cursor: number
  /** Where the log stood when it was last read to its end: nothing up to there is missing. */
  seen: number
  /** `live` has been told since it was last behind. */
  told: boolean
}

/** A user who is here: what was last read of where the log stands, and who watches it. */
export interface User {
  epoch: string
  head: number
  entries: Set<Entry>
}

/** Viewers of one user who stand at the same place. */
export interface Group {
  userId: string
  cursor: Cursor | undefined
  entries: Entry[]
}

export function groupsOf(batch: readonly Entry[]): Group[] {
  const groups = new Map<string, Group>()
  for (const entry of batch) {
    const { state, viewer, epoch, cursor } = entry
    if (state === 'closed' || state === 'paused') continue
    const { userId } = viewer
    const key = state === 'new' ? `?${groups.size}` : `${cursor}.${epoch}.${userId}`
    const group = groups.get(key)
    if (group === undefined)
      groups.set(key, {
        userId,
        cursor: state === 'new' ? viewer.since : { epoch, seq: cursor },
        entries: [entry],
      })
    else group.entries.push(entry)
  }
  return [...groups.values()]
}

/** Made when the first viewer of a group is shown them: the same for all. */
export function createEvents({ cursor }: Group, page: Page | undefined): () => readonly InboxEvent[] {
  let events: InboxEvent[] | undefined
  return () => {
    if (events !== undefined) return events
    let prev = cursor?.seq ?? 0
    events = (page?.rows ?? []).map((notification) => {
      const event = { notification, seq: notification.seq ?? 0, prev, unread: page?.unread ?? 0 }
      prev = event.seq
      return event
    })
    return events
  }
}

/**
 * What all of them have who think that they have everything: nobody reads for them unless their log is further. Who is
 * behind is being read for.
 *
 * @returns one, or none.
 */
export function knownTo(entries: Iterable<Entry>): { epoch: string; head: number }[] {
  let last: Entry | undefined
  for (const entry of entries)
    if (entry.state === 'live' && entry.seen < (last?.seen ?? Infinity)) last = entry
  return last === undefined ? [] : [{ epoch: last.epoch, head: last.seen }]
}
