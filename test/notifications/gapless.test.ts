/**
 * 64 writers at once, in transactions of any size and length, of which some are rolled back; and readers who page by
 * cursor all the time. Nothing is committed behind a cursor that has passed it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { sql } from '../../src/db/sql.ts'
import { publish, type NewNotification } from '../../src/notifications/inbox.ts'
import { readAfter, type Cursor } from '../../src/notifications/log.ts'
import type { Notification } from '../../src/notifications/schemas.ts'
import { randomOf, type Random } from '../soak/random.ts'
import { contentOf } from '../support/content.ts'
import { cloneDatabase } from '../support/service.ts'

const writers = 64
const transactionsEach = Number(process.env['GAPLESS_TRANSACTIONS'] ?? 12)
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const users = Array.from({ length: 12 }, (_, n) => `user-${n}`)

let writing: Database
let reading: Database
let drop: () => Promise<void>
beforeAll(async () => {
  const clone = await cloneDatabase()
  drop = clone.drop
  const open = async (poolMax: number) => {
    const database = createDatabase({ url: clone.url, poolMax, log: pino({ level: 'silent' }) })
    await database.prepare(new AbortController().signal)
    return database
  }
  writing = await open(writers)
  // One statement of all readers at a time is enough of a race, and never waits for a connection.
  reading = await open(4)
})
afterAll(async () => {
  await Promise.all([writing.close(), reading.close()])
  await drop()
})

interface Shelf {
  /** Every row as a reader has it. */
  rows: Map<string, Notification>
  /** In the order of their coming. */
  seqs: number[]
}

/** Follows one inbox from its beginning, a few rows at a time, until it is told to stop and has it all. */
async function follow(userId: string, random: Random, isOver: () => boolean): Promise<Shelf> {
  const shelf: Shelf = { rows: new Map(), seqs: [] }
  let cursor: Cursor | undefined
  for (;;) {
    const over = isOver()
    const limit = random.int(1, 7)
    const [page] = await reading.asSystem('read', (tx) =>
      tx.commit(() => readAfter(tx, [{ userId, cursor }], limit)),
    )
    if (page !== undefined && cursor === undefined) cursor = { epoch: page.epoch, seq: 0 }
    else if (page !== undefined) {
      expect(page.known).toBe(true)
      for (const row of page.rows) {
        const seq = row.seq ?? 0
        shelf.seqs.push(seq)
        shelf.rows.set(row.id, row)
        cursor = { epoch: page.epoch, seq }
      }
      if (over && page.rows.length < limit) return shelf
    } else if (over) return shelf
    await delay(random.int(0, 2))
  }
}

/** A busy machine may be too slow for a connection, or for a lock, in time: nothing that this is about. */
const isBusy = (error: unknown) =>
  error instanceof Error &&
  'code' in error &&
  (error.code === 'database_unavailable' || error.code === '55P03')

const rolledBack = new Error('on purpose')

/** One of the writers. @returns how many of its transactions were committed */
async function write(random: Random, name: number): Promise<number> {
  let committed = 0
  for (let n = 0; n < transactionsEach; n++) {
    const entries = Array.from(
      { length: random.int(1, random.chance(0.1) ? 60 : 5) },
      (_, index): NewNotification => ({
        userId: users[random.int(0, users.length - 1)] ?? '',
        content: contentOf({ title: `${name}/${n}/${index}` }),
        // Some of them move a row that others move, too.
        dedupeKey: random.chance(0.3) ? `key ${random.int(0, 3)}` : null,
      }),
    )
    const [beforeS, afterS] = [random.int(0, 5) / 1_000, random.int(0, 3) / 1_000]
    try {
      await writing.asSystem('write', async (tx) => {
        await tx.execute(sql`select pg_sleep(${beforeS})`)
        await publish(tx, entries)
        await tx.execute(sql`select pg_sleep(${afterS})`)
        if (random.chance(0.2)) throw rolledBack
      })
      committed++
    } catch (error) {
      if (error !== rolledBack && !isBusy(error)) throw error
    }
  }
  return committed
}

it(`skips nothing: ${writers} writers, seed ${seed}`, { timeout: 120_000 }, async ({ annotate }) => {
  let over = false
  const readers = users.map((userId, index) => follow(userId, randomOf(seed, 'reader', index), () => over))
  // The first who fails ends it, and nobody goes on behind it.
  const writes = Array.from({ length: writers }, (_, name) => write(randomOf(seed, 'writer', name), name))
  const committed = await Promise.all(writes).finally(async () => {
    over = true
    await Promise.allSettled([...writes, ...readers])
  })
  const shelves = await Promise.all(readers)
  let seen = 0
  for (const [index, userId] of users.entries()) {
    const { rows, seqs } = shelves[index] ?? { rows: new Map<string, Notification>(), seqs: [] }
    const stored = await reading.asSystem('compare', (tx) =>
      tx.execute<{ id: string; seq: number; title: string }>(sql`
        select id, seq::float8 as seq, title from chat.notifications where user_id = ${userId} order by id`),
    )
    // Every row in its last version; each in the log's order, and none twice.
    const shown = [...rows.values()].map(({ id, seq, title }) => ({ id, seq, title }))
    expect(
      shown.toSorted((one, other) => (one.id < other.id ? -1 : 1)),
      userId,
    ).toEqual(stored)
    expect(seqs).toEqual([...new Set(seqs)].toSorted((one, other) => one - other))
    const [head] = await reading.asSystem('compare', (tx) =>
      tx.execute<{ seq: number; unread: number }>(
        sql`select seq::float8 as seq, unread from chat.inbox_heads where user_id = ${userId}`,
      ),
    )
    expect(head).toEqual({ seq: Math.max(...seqs), unread: stored.length })
    seen += seqs.length
  }
  await annotate(
    `seed ${seed}: ${committed.reduce((sum, n) => sum + n, 0)} of ${writers * transactionsEach} transactions committed, ${seen} versions read`,
  )
})
