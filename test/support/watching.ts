/**
 * A user whose log moves while viewers come, wait, go on and go back: every step is taken when a test says so. What each
 * viewer was told is judged against what is stored.
 */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { expect } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { publish } from '../../src/notifications/inbox.ts'
import { readAfter, type Cursor, type Page } from '../../src/notifications/log.ts'
import { createHub, type Hub } from '../../src/realtime/hub.ts'
import type { Greeting, InboxEvent, Subscription, Viewer } from '../../src/realtime/viewer.ts'
import { createGate } from './gate.ts'
import { contentOf } from './content.ts'

export interface Watcher {
  greeting: Greeting | undefined
  events: InboxEvent[]
  /** What `live` said, each time. */
  lives: number[]
  /** How many more it takes before it has no room. */
  room: number
  closed: string | undefined
  /** It has room for so many more. */
  resume(room: number): void
  /** It has lost what came behind this place. */
  sync(from: number): void
  head(): number
  close(): void
}

export interface Watching {
  hub: Hub
  userId: string
  /** Reads that wait for the test. */
  reads: ReturnType<typeof createGate>['held']
  /** Commits; wakes nobody. A name that was published before is that row again: it moves. @returns the head. */
  publish(names: readonly string[]): Promise<number>
  /** @param since undefined: nothing. */
  come(since: 'start' | undefined, room?: number): Watcher
  /** Resolves when the hub does nothing more by itself. */
  settle(): Promise<void>
  stored(): Promise<Page>
  /** From now on reads pass. */
  open(): Promise<void>
  close(): Promise<void>
}

export async function startWatching(
  database: Database,
  options: { pageRows?: number; held?: boolean } = {},
): Promise<Watching> {
  const userId = `ann-${randomUUID()}`
  const gate = createGate(database, options.held === false ? '' : 'inbox')
  const hub = createHub({
    transactions: gate.transactions,
    log: pino({ level: 'silent' }),
    sweepMs: 3_600_000,
    ...(options.pageRows !== undefined && { pageRows: options.pageRows }),
  })
  let texts = 0
  let epoch = ''

  async function commit(names: readonly string[]): Promise<number> {
    const { heads } = await database.asSystem('test', (tx) =>
      publish(
        tx,
        names.map((name) => ({
          userId,
          content: contentOf({ title: `${name} ${texts++}` }),
          dedupeKey: name,
        })),
      ),
    )
    epoch = heads[0]?.epoch ?? epoch
    return heads[0]?.seq ?? 0
  }
  // What was there before anybody watched.
  await commit(['base'])

  async function read(cursor: Cursor | undefined): Promise<Page> {
    const [page] = await database.asSystem('test', (tx) => readAfter(tx, [{ userId, cursor }], 10_000))
    if (page === undefined) throw new Error('no inbox')
    return page
  }

  return {
    hub,
    userId,
    reads: gate.held,
    publish: commit,
    come: (since, room = Infinity) => watch(hub, userId, since && { epoch, seq: 0 }, room),
    async settle() {
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
    },
    stored: () => read({ epoch, seq: 0 }),
    open: () => gate.open(),
    async close() {
      await gate.open()
      await hub.close()
    },
  }
}

function watch(hub: Hub, userId: string, since: Cursor | undefined, room: number): Watcher {
  const viewer: Viewer = {
    userId,
    since,
    greet(greeting) {
      expect(watcher.greeting, 'greeted twice').toBeUndefined()
      watcher.greeting = greeting
    },
    show(event) {
      watcher.events.push(event)
      watcher.room--
      return watcher.room > 0
    },
    live(seq) {
      watcher.lives.push(seq)
    },
    close(reason) {
      watcher.closed = reason
    },
  }
  const subscription: Subscription = hub.subscribe(viewer)
  const watcher: Watcher = {
    greeting: undefined,
    events: [],
    lives: [],
    room,
    closed: undefined,
    resume(more) {
      watcher.room = more
      subscription.resume()
    },
    sync(from) {
      watcher.events.splice(0, watcher.events.length, ...watcher.events.filter(({ seq }) => seq <= from))
      watcher.lives.splice(0)
      subscription.sync(from)
    },
    head: () => subscription.head(),
    close: () => subscription.close(),
  }
  return watcher
}

/** It was told everything, in the log's order, no version twice, and knows that it has all. */
export function expectAll(watcher: Watcher, stored: Page): void {
  const { greeting, events, lives } = watcher
  if (greeting === undefined) throw new Error('never greeted')
  const numbers = events.map(({ seq }) => seq)
  expect(numbers, 'in order').toEqual([...new Set(numbers)].toSorted((one, other) => one - other))
  const told = [greeting.cursor, ...numbers, ...lives]
  for (const { seq, prev } of events) {
    expect(prev, 'before it').toBeLessThan(seq)
    expect(told, 'told before').toContain(prev)
  }
  // The last version of each row that it was shown, and of each that moved since it was greeted.
  const latest = new Map(events.map(({ notification }) => [notification.id, notification.seq]))
  for (const { id, seq } of stored.rows)
    if ((seq ?? 0) > greeting.cursor || latest.has(id)) expect(latest.get(id), `row ${seq}`).toBe(seq)
  expect(Math.max(...told), 'where it stands').toBe(stored.head)
  expect(lives.length, 'live').toBeGreaterThan(0)
  if (events.at(-1)?.seq === stored.head) expect(events.at(-1)?.unread).toBe(stored.unread)
}
