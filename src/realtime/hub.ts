/**
 * Door of realtime: who is watching which inbox on this instance, and what they are shown.
 *
 * A viewer of the inbox is a cursor, like a viewer of an answer: nothing is queued for it. Its states: new (not greeted)
 * → behind → live ⇄ behind; paused while its socket is full; closed. One mechanism moves all of them: who may have
 * something behind its cursor is *dirty*, and dirty viewers are read for, many in one statement, until a page comes back
 * short. A wake-up only makes dirty. So there is no seam between replay and live: what is committed while a page is being
 * read is behind the cursor that the next page begins at.
 *
 * Promises: rows of one user reach a viewer in the log's order, each version at most once; a wake-up that was lost costs
 * a sweep (2 s); a database that is away costs waiting. New and late viewers are read for in a lane of their own, so a
 * herd that comes back does not make those wait who are live.
 */
import type { Transactions, Tx } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import { noteConnected, readMoved } from '../notifications/heads.ts'
import { readAfter, type Page } from '../notifications/log.ts'
import { createEvents, groupsOf, knownTo, type Entry, type Group, type User } from './entry.ts'
import { createLane } from './lane.ts'
import { createSweeper } from './sweeper.ts'
import type { InboxEvent, Subscription, Viewer } from './viewer.ts'

export interface Hub {
  subscribe(viewer: Viewer): Subscription
  /** A log moved, here or elsewhere. */
  wake(userId: string, head: number): void
  /** Wake-ups may have been lost: looks at once. */
  sweep(): void
  /** In the order of their coming. */
  viewersOf(userId: string): Iterable<Viewer>
  viewers(): number
  users(): Iterable<string>
  /** The database did not answer when it was last asked: whoever comes now would wait to be greeted. */
  away(): boolean
  close(): Promise<void>
}

export interface HubOptions {
  transactions: Transactions
  log: Logger
  /** Rows of a page. */
  pageRows?: number
  sweepMs?: number
  nowMs?: () => number
}

/** What one statement reads for: with more, everybody waits for the slowest. */
const liveBatchMax = 200
const behindBatchMax = 100
/** Users whose heads one statement of a sweep compares. */
const sweptUsersMax = 1_000

export function createHub(options: HubOptions): Hub {
  const { transactions, log, pageRows = 50, sweepMs = 2_000, nowMs = () => performance.now() } = options
  const users = new Map<string, User>()
  let viewers = 0
  let away = false
  let closed = false

  const lane = (batchMax: number) =>
    createLane<Entry>({
      batchMax,
      nowMs,
      work: read,
      failed: (error) =>
        log.warn({ event: 'inbox_unread', err: error }, 'inboxes cannot be read: their viewers wait'),
    })
  const liveLane = lane(liveBatchMax)
  const behindLane = lane(behindBatchMax)

  async function ask<T>(why: string, issue: (tx: Tx) => Promise<T>): Promise<T> {
    try {
      const answer = await transactions.asSystem(why, (tx) => tx.commit(() => issue(tx)))
      away = false
      return answer
    } catch (error) {
      away = true
      throw error
    }
  }

  function soil(entry: Entry): void {
    if (entry.state === 'closed' || entry.state === 'paused') return
    ;(entry.state === 'live' ? liveLane : behindLane).add(entry)
  }

  /** @returns what is left to do, bit by bit. */
  async function read(batch: readonly Entry[]): Promise<(() => void)[]> {
    const groups = groupsOf(batch)
    if (groups.length === 0) return []
    const fresh = batch.filter(({ state }) => state === 'new').map(({ viewer }) => viewer.userId)
    const pages = await ask('inbox', async (tx) => {
      const [, found] = await Promise.all([
        fresh.length === 0 ? undefined : noteConnected(tx, [...new Set(fresh)]),
        readAfter(tx, groups, pageRows),
      ])
      return found
    })
    return groups.flatMap((group, index) => {
      const events = createEvents(group, pages[index])
      return group.entries.map((entry) => () => {
        try {
          take(entry, group, pages[index], events)
        } catch (error) {
          // One that fails must not cost the others their page.
          log.error({ event: 'viewer_failed', err: error }, 'a viewer of an inbox failed')
          drop(entry)
        }
      })
    })
  }

  function take(
    entry: Entry,
    { cursor }: Group,
    page: Page | undefined,
    events: () => readonly InboxEvent[],
  ): void {
    if (entry.state === 'closed') return
    const isNew = entry.state === 'new'
    if (page === undefined || (!isNew && !page.known)) {
      drop(entry)
      return
    }
    note(entry.user, page)
    if (isNew) begin(entry, page)
    // It went back while this was being read: between the two places there may be more. It is read for again.
    if (cursor !== undefined && page.known && entry.cursor < cursor.seq) return
    showRows(entry, page, events())
  }

  function note(user: User, { epoch, head }: Page): void {
    if (user.epoch === epoch) {
      user.head = Math.max(user.head, head)
      return
    }
    const replaced = user.epoch !== ''
    user.epoch = epoch
    user.head = head
    // Those who follow the log that was there before find out now: no number of the new one may ever wake them.
    if (replaced) for (const entry of user.entries) soil(entry)
  }

  function begin(entry: Entry, { epoch, head, unread, known }: Page): void {
    const { since } = entry.viewer
    entry.epoch = epoch
    entry.cursor = known && since !== undefined ? since.seq : head
    entry.state = 'behind'
    const mode = since === undefined ? 'fresh' : known ? 'resume' : 'reset'
    entry.viewer.greet({ epoch, head, unread, cursor: entry.cursor, mode })
  }

  function showRows(entry: Entry, { rows, head }: Page, events: readonly InboxEvent[]): void {
    for (const event of events) {
      // Paused and resumed since: another page has been read.
      if (event.seq <= entry.cursor) continue
      if (entry.state === 'paused' || entry.state === 'closed') return
      const prev = entry.cursor
      entry.cursor = event.seq
      if (!entry.viewer.show(event.prev === prev ? event : { ...event, prev }) && !isClosed(entry)) {
        entry.state = 'paused'
        entry.told = false
      }
    }
    if (entry.state === 'paused' || entry.state === 'closed') return
    if (rows.length >= pageRows) {
      if (entry.state === 'live') entry.told = false
      entry.state = 'behind'
      behindLane.add(entry)
      return
    }
    // Short: these were all there were.
    entry.seen = Math.max(entry.seen, head)
    entry.state = 'live'
    if (!entry.told) {
      entry.told = true
      entry.cursor = Math.max(entry.cursor, head)
      entry.viewer.live(entry.cursor)
    }
  }

  /** Asked again where a call in between may have closed it. */
  const isClosed = (entry: Entry): boolean => entry.state === 'closed'

  /** What it follows is not there any more. */
  function drop(entry: Entry): void {
    leave(entry)
    entry.viewer.close('resync')
  }

  function leave(entry: Entry): void {
    if (entry.state === 'closed') return
    entry.state = 'closed'
    liveLane.delete(entry)
    behindLane.delete(entry)
    const { user, viewer } = entry
    user.entries.delete(entry)
    if (user.entries.size === 0) users.delete(viewer.userId)
    viewers--
  }

  function wake(userId: string, head: number): void {
    const user = users.get(userId)
    if (user === undefined) return
    // Only a hint: while one read is under way, it makes another follow.
    for (const entry of user.entries) if (entry.seen < head) soil(entry)
  }

  async function sweepAll(): Promise<void> {
    const known = [...users].flatMap(([userId, { entries }]) =>
      knownTo(entries).map((log) => ({ userId, ...log })),
    )
    // With nobody here it is asked all the same once it was away: who comes is let in by that.
    for (let at = 0; (at < known.length || (at === 0 && away)) && !closed; at += sweptUsersMax) {
      const some = known.slice(at, at + sweptUsersMax)
      for (const userId of await ask('sweep inboxes', (tx) => readMoved(tx, some)))
        for (const entry of users.get(userId)?.entries ?? []) soil(entry)
    }
  }

  // Whoever reads next finds out that the database is away, and says so.
  const sweeper = createSweeper({ everyMs: sweepMs, look: sweepAll })

  function userOf(userId: string): User {
    const known = users.get(userId)
    if (known !== undefined) return known
    const user: User = { epoch: '', head: 0, entries: new Set() }
    users.set(userId, user)
    return user
  }

  return {
    subscribe(viewer) {
      const user = userOf(viewer.userId)
      const entry: Entry = { viewer, user, state: 'new', epoch: '', cursor: 0, seen: 0, told: false }
      user.entries.add(entry)
      viewers++
      behindLane.add(entry)
      return {
        resume() {
          if (entry.state !== 'paused') return
          entry.state = 'behind'
          behindLane.add(entry)
        },
        head() {
          if (entry.state !== 'live' || user.head <= entry.cursor) return entry.cursor
          soil(entry)
          return user.head
        },
        sync(from) {
          if (entry.state === 'new' || entry.state === 'closed') return
          entry.cursor = Math.min(entry.cursor, from)
          entry.told = false
          // Whoever has no room goes on from there once there is.
          if (entry.state === 'paused') return
          entry.state = 'behind'
          behindLane.add(entry)
        },
        close() {
          leave(entry)
        },
      }
    },
    wake,
    sweep: () => sweeper.sweep(),
    *viewersOf(userId) {
      for (const { viewer } of users.get(userId)?.entries ?? []) yield viewer
    },
    viewers: () => viewers,
    users: () => users.keys(),
    away: () => away,
    async close() {
      closed = true
      await Promise.all([liveLane.close(), behindLane.close(), sweeper.close()])
    },
  }
}
