/** The inbox's log: one order for each user, an exact count, rows that move, and nothing behind a cursor that has passed it. */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Database, Tx } from '../../src/db/database.ts'
import { mark, publish, type Content, type NewNotification } from '../../src/notifications/inbox.ts'
import { appear, expire, purge } from '../../src/notifications/lifetime.ts'
import { readAfter, type Page } from '../../src/notifications/log.ts'
import { contentOf } from '../support/content.ts'
import { ownDatabase } from '../support/own-database.ts'

let database: Database
ownDatabase(10, (own) => ({ database } = own))

const content = (title: string, more: Partial<Content> = {}) => contentOf({ title, ...more })
const user = () => `user-${randomUUID()}`
const asSystem = <T>(fn: (tx: Tx) => Promise<T>) => database.asSystem('test', fn)
const send = (
  userId: string,
  title: string,
  more: Partial<Content> = {},
  rest: Partial<NewNotification> = {},
) => asSystem((tx) => publish(tx, [{ userId, content: content(title, more), ...rest }]))

async function page(userId: string, seq: number, limit = 1_000): Promise<Page> {
  const [, found] = await asSystem(async (tx) => {
    const [head] = await readAfter(tx, [{ userId, cursor: undefined }], 1)
    const epoch = head?.epoch ?? ''
    return [head, ...(await readAfter(tx, [{ userId, cursor: { epoch, seq } }], limit))]
  })
  if (found === undefined) throw new Error('no inbox')
  return found
}
const shown = ({ rows }: Page) => rows.map(({ seq, title }) => [seq, title])

describe('the log', () => {
  it('numbers what is published from 1 on, and counts it as unread', async () => {
    const ann = user()
    const { published, heads } = await send(ann, 'one')
    expect(published).toMatchObject([{ outcome: 'new', seq: 1 }])
    expect(heads).toMatchObject([{ userId: ann, seq: 1, unread: 1 }])
    await send(ann, 'two')
    const all = await page(ann, 0)
    expect(all).toMatchObject({ head: 2, unread: 2, known: true })
    expect(shown(all)).toEqual([
      [1, 'one'],
      [2, 'two'],
    ])
  })

  it('keeps users apart, and publishes to many in one go', async () => {
    const users = Array.from({ length: 20 }, user)
    const one = content('to all')
    const { published, heads } = await asSystem((tx) =>
      publish(
        tx,
        users.toReversed().map((userId) => ({ userId, content: one })),
      ),
    )
    expect(published.map(({ userId, seq }) => [userId, seq])).toEqual(users.toReversed().map((id) => [id, 1]))
    expect(heads).toHaveLength(20)
    for (const userId of users) expect(shown(await page(userId, 0))).toEqual([[1, 'to all']])
  })

  it('gives several of one user in one go their numbers in their order', async () => {
    const ann = user()
    await asSystem((tx) =>
      publish(
        tx,
        ['a', 'b', 'c'].map((title) => ({ userId: ann, content: content(title) })),
      ),
    )
    expect(shown(await page(ann, 0))).toEqual([
      [1, 'a'],
      [2, 'b'],
      [3, 'c'],
    ])
  })

  it('moves a row that is published again under its key: one row, at the end of the log, unread', async () => {
    const ann = user()
    const first = await send(ann, '25 %', { progress: 25 }, { dedupeKey: 'a' })
    await send(ann, 'other')
    await asSystem((tx) => mark(tx, ann, { upTo: 2 }, 'read'))
    const again = await send(ann, '50 %', { progress: 50 }, { dedupeKey: 'a' })
    expect(again.published).toMatchObject([{ id: first.published[0]?.id, outcome: 'changed', seq: 5 }])
    const all = await page(ann, 0)
    expect(shown(all)).toEqual([
      [4, 'other'],
      [5, '50 %'],
    ])
    expect(all.unread).toBe(1)
  })

  it('changes nothing where the same is said again, or progress would go back', async () => {
    const ann = user()
    const { published } = await send(
      ann,
      '75 %',
      { progress: 75, data: { b: 1, a: [2] } },
      { dedupeKey: 'a' },
    )
    const same = await send(ann, '75 %', { progress: 75, data: { a: [2], b: 1 } }, { dedupeKey: 'a' })
    const back = await send(ann, '50 %', { progress: 50 }, { dedupeKey: 'a' })
    for (const late of [same, back])
      expect(late).toMatchObject({
        published: [{ id: published[0]?.id, outcome: 'same', seq: null }],
        heads: [],
      })
    expect(await page(ann, 0)).toMatchObject({ head: 1, unread: 1, rows: [{ title: '75 %' }] })
  })

  it('takes the same key twice in one go one after the other, and of two users apart', async () => {
    const [ann, bob] = [user(), user()]
    const entry = (userId: string, progress: number) => ({
      userId,
      content: content(`${progress}`, { progress }),
      dedupeKey: 'k',
    })
    const { published } = await asSystem((tx) =>
      publish(tx, [entry(ann, 25), entry(bob, 10), entry(ann, 50), entry(ann, 30)]),
    )
    expect(published.map(({ userId, outcome, seq }) => [userId, outcome, seq])).toEqual([
      [ann, 'new', 1],
      [bob, 'new', 1],
      [ann, 'changed', 2],
      [ann, 'same', null],
    ])
    expect(shown(await page(ann, 0))).toEqual([[2, '50']])
  })

  it('pages in order, and is of one moment: head, unread and rows', async () => {
    const ann = user()
    for (const title of ['a', 'b', 'c', 'd', 'e']) await send(ann, title)
    const first = await page(ann, 0, 2)
    expect([shown(first), first.head]).toEqual([
      [
        [1, 'a'],
        [2, 'b'],
      ],
      5,
    ])
    expect(shown(await page(ann, 2, 2))).toEqual([
      [3, 'c'],
      [4, 'd'],
    ])
  })

  it('does not know a cursor beyond its head, of another epoch, or of nobody', async () => {
    const ann = user()
    await send(ann, 'one')
    expect(await page(ann, 2)).toMatchObject({ known: false, rows: [] })
    const [other, none] = await asSystem((tx) =>
      readAfter(
        tx,
        [
          { userId: ann, cursor: { epoch: 'else', seq: 0 } },
          { userId: user(), cursor: undefined },
        ],
        10,
      ),
    )
    expect(other).toMatchObject({ known: false, rows: [], head: 1 })
    expect(none).toBeUndefined()
  })
})

describe('reading and archiving', () => {
  it('moves what was read, and tells every device: by ids, up to a place, once', async () => {
    const ann = user()
    const ids: string[] = []
    for (const title of ['a', 'b', 'c', 'd'])
      for (const { id } of (await send(ann, title)).published) ids.push(id)
    const [, b = ''] = ids
    const one = await asSystem((tx) => mark(tx, ann, { ids: [b] }, 'read'))
    expect(one).toMatchObject({ changed: [b], head: { seq: 5, unread: 3 } })
    const upTo = await asSystem((tx) => mark(tx, ann, { upTo: 3 }, 'read'))
    expect(upTo).toMatchObject({ changed: [ids[0], ids[2]], head: { seq: 7, unread: 1 } })
    const again = await asSystem((tx) => mark(tx, ann, { ids }, 'archived'))
    expect(again.head).toMatchObject({ seq: 11, unread: 0 })
    const nothing = await asSystem((tx) => mark(tx, ann, { ids }, 'archived'))
    expect(nothing).toMatchObject({ changed: [], head: { seq: 11, unread: 0 } })
  })

  it('reads nobody else’s, as a caller too', async () => {
    const [ann, bob] = [user(), user()]
    const { published } = await send(ann, 'secret')
    const ids = published.map(({ id }) => id)
    await send(bob, 'own')
    const tried = await database.asCaller({ userId: bob }, (tx) => mark(tx, bob, { ids }, 'read'))
    expect(tried.changed).toEqual([])
    expect(await page(ann, 0)).toMatchObject({ unread: 1, head: 1 })
    const own = await database.asCaller({ userId: ann }, (tx) => mark(tx, ann, { ids }, 'read'))
    expect(own.changed).toEqual(ids)
  })

  it('says nothing of an inbox that never began', async () => {
    expect(await asSystem((tx) => mark(tx, user(), { upTo: 9 }, 'read'))).toEqual({
      changed: [],
      head: undefined,
    })
  })
})

describe('time', () => {
  const soon = (ms: number) => new Date(Date.now() + ms).toISOString()

  it('lets a scheduled row appear when it is due, and not before', async () => {
    const ann = user()
    const { published, heads } = await send(ann, 'later', {}, { scheduledAt: soon(3_600_000) })
    expect([published[0]?.outcome, heads]).toEqual(['scheduled', []])
    expect((await asSystem(appear)).appeared).toEqual([])
    expect(await page(ann, 0)).toMatchObject({ head: 0, unread: 0, rows: [] })
    await asSystem((tx) =>
      tx.execute(sql.raw(`update chat.notifications set scheduled_at = now() where user_id = '${ann}'`)),
    )
    const { appeared, heads: moved } = await asSystem(appear)
    expect(appeared).toEqual([{ id: published[0]?.id, userId: ann }])
    expect(moved).toMatchObject([{ userId: ann, seq: 1, unread: 1 }])
    expect((await asSystem(appear)).appeared).toEqual([])
  })

  it('changes what is still scheduled, and shows it at once where it is sent without a time', async () => {
    const ann = user()
    await send(ann, 'first', {}, { dedupeKey: 'k', scheduledAt: soon(3_600_000) })
    const again = await send(ann, 'second', {}, { dedupeKey: 'k', scheduledAt: soon(7_200_000) })
    expect(again.published[0]?.outcome).toBe('scheduled')
    await send(ann, 'now', {}, { dedupeKey: 'k' })
    expect(await page(ann, 0)).toMatchObject({ unread: 1, rows: [{ title: 'now', seq: 1 }] })
  })

  it('leaves a tombstone of what has expired: moved, empty, not unread; then it is purged and the floor rises', async () => {
    const ann = user()
    await send(ann, 'stays')
    const { published } = await send(ann, 'goes', {}, { expiresAt: soon(-1) })
    const { heads } = await asSystem((tx) => expire(tx, ann))
    expect(heads).toMatchObject([{ seq: 3, unread: 1 }])
    const behind = await page(ann, 2)
    expect(behind.rows).toMatchObject([{ id: published[0]?.id, seq: 3, removed: true, title: '', body: '' }])
    await asSystem((tx) =>
      tx.execute(
        sql.raw(
          `update chat.notifications set removed_at = now() - interval '31 days' where user_id = '${ann}' and removed_at is not null`,
        ),
      ),
    )
    expect(await asSystem((tx) => purge(tx))).toBe(1)
    expect(await page(ann, 2)).toMatchObject({ known: false })
    expect(await page(ann, 3)).toMatchObject({ known: true, rows: [] })
  })

  it('leaves a tombstone its place when something is scheduled under its key', async () => {
    const ann = user()
    const { published } = await send(ann, 'old', {}, { dedupeKey: 'k', expiresAt: soon(-1) })
    await asSystem((tx) => expire(tx, ann))
    const again = await send(ann, 'later', {}, { dedupeKey: 'k', scheduledAt: soon(3_600_000) })
    expect(again.published[0]?.outcome).toBe('scheduled')
    expect((await page(ann, 1)).rows).toMatchObject([{ id: published[0]?.id, seq: 2, removed: true }])
    await send(ann, 'now', {}, { dedupeKey: 'k' })
    expect((await page(ann, 1)).rows).toMatchObject([
      { id: published[0]?.id, removed: true },
      { id: again.published[0]?.id, title: 'now', seq: 3 },
    ])
  })

  it('lets what is shown stay when something is scheduled under its key, which then names the new one', async () => {
    const ann = user()
    await send(ann, 'shown', {}, { dedupeKey: 'k' })
    const later = await send(ann, 'later', {}, { dedupeKey: 'k', scheduledAt: soon(3_600_000) })
    expect(later.published[0]?.outcome).toBe('scheduled')
    await send(ann, 'now', {}, { dedupeKey: 'k' })
    expect(shown(await page(ann, 0))).toEqual([
      [1, 'shown'],
      [2, 'now'],
    ])
  })

  it('changes the row under its key where its time has come before it is stored', async () => {
    const ann = user()
    await send(ann, 'shown', {}, { dedupeKey: 'k' })
    const { published } = await send(ann, 'due', {}, { dedupeKey: 'k', scheduledAt: soon(-1_000) })
    expect(published[0]?.outcome).toBe('changed')
    expect(shown(await page(ann, 0))).toEqual([[2, 'due']])
  })

  it('says it anew under a key whose row has expired, though nothing has swept it yet', async () => {
    const ann = user()
    for (const progress of [50, 25])
      await send(ann, 'same', { progress }, { dedupeKey: 'k', expiresAt: soon(-1) })
    const { published } = await send(ann, 'same', { progress: 25 }, { dedupeKey: 'k' })
    expect(published[0]?.outcome).toBe('changed')
    expect(await page(ann, 0)).toMatchObject({ unread: 1, rows: [{ title: 'same', progress: 25 }] })
  })

  it('takes another end for news, and none for nothing', async () => {
    const ann = user()
    const [end, later] = [soon(60_000), soon(120_000)]
    const outcomes = []
    for (const expiresAt of [end, end, null, later])
      outcomes.push((await send(ann, 'same', {}, { dedupeKey: 'k', expiresAt })).published[0]?.outcome)
    expect(outcomes).toEqual(['new', 'same', 'same', 'changed'])
    expect((await page(ann, 0)).rows).toMatchObject([{ expires_at: later }])
  })

  it('compares progress with what was shown, not with what is still scheduled', async () => {
    const ann = user()
    await send(ann, 'later', { progress: 100 }, { dedupeKey: 'k', scheduledAt: soon(3_600_000) })
    const { published } = await send(ann, 'now', { progress: 25 }, { dedupeKey: 'k' })
    expect(published[0]?.outcome).toBe('changed')
    expect(await page(ann, 0)).toMatchObject({ unread: 1, rows: [{ title: 'now', progress: 25 }] })
  })

  it('is as late as its place in the log, however early its transaction began', async () => {
    const ann = user()
    await send(ann, 'first', {}, { dedupeKey: 'k' })
    await asSystem(async (tx) => {
      await expect
        .poll(() => tx.execute(sql`select clock_timestamp() > now() + interval '5 ms' as later`))
        .toEqual([{ later: true }])
      await send(ann, 'second', {}, { dedupeKey: 'k' })
      const [before] = (await page(ann, 0)).rows
      await publish(tx, [{ userId: ann, content: content('third'), dedupeKey: 'k' }])
      const [row] = await tx.execute<{ ordered: boolean }>(
        sql`select updated_at >= ${before?.updated_at} and updated_at >= created_at as ordered from chat.notifications where user_id = ${ann}`,
      )
      expect(row?.ordered).toBe(true)
    })
  })

  it.each([
    ['to a later time', 3_600_000, 'appear'],
    ['to live longer', -1, 'expire'],
  ] as const)(
    'leaves alone what was rescheduled %s while it waited for the lock',
    async (_what, atMs, how) => {
      const ann = user()
      await send(ann, 'old', {}, { dedupeKey: 'k', scheduledAt: soon(3_600_000) })
      // Due: to appear, or to go.
      await asSystem((tx) =>
        tx.execute(
          how === 'appear'
            ? sql`update chat.notifications set scheduled_at = now() - interval '1 s' where user_id = ${ann}`
            : sql`update chat.notifications set expires_at = now() - interval '1 s' where user_id = ${ann}`,
        ),
      )
      let waiting: Promise<unknown> = Promise.resolve()
      await asSystem(async (tx) => {
        await tx.execute(sql`select from chat.inbox_heads where user_id = ${ann} for update`)
        waiting = how === 'appear' ? asSystem(appear) : asSystem((other) => expire(other, ann))
        await expect
          .poll(() =>
            asSystem((other) =>
              other.execute(
                sql`select from pg_locks l join pg_stat_activity a using (pid) where not l.granted and a.datname = current_database()`,
              ),
            ),
          )
          .not.toHaveLength(0)
        await tx.execute(
          how === 'appear'
            ? sql`update chat.notifications set scheduled_at = now() + ${atMs}::float8 * interval '1 ms' where user_id = ${ann}`
            : sql`update chat.notifications set expires_at = now() + interval '1 h' where user_id = ${ann}`,
        )
      })
      await waiting
      const rows = await asSystem((tx) =>
        tx.execute<{ seq: string | null }>(sql`select seq from chat.notifications where user_id = ${ann}`),
      )
      expect(rows).toEqual([{ seq: null }])
    },
  )

  it('revives a row that expired when something is published under its key', async () => {
    const ann = user()
    await send(ann, 'old', {}, { dedupeKey: 'k', expiresAt: soon(-1) })
    await asSystem((tx) => expire(tx, ann))
    const { published } = await send(ann, 'old', {}, { dedupeKey: 'k' })
    expect(published[0]?.outcome).toBe('changed')
    expect(await page(ann, 0)).toMatchObject({ unread: 1, rows: [{ title: 'old', removed: false }] })
  })
})
