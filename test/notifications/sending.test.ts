/** Sends of one request each, stored together: each is answered by what became of its own, and done once under its key. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import { AppError } from '../../src/errors.ts'
import type { Inbox } from '../../src/notifications/notify.ts'
import { createSend, type Send, type SendAsk } from '../../src/notifications/sending.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, type Instance, type Notices } from '../support/notices.ts'

let notices: Notices
let instance: Instance
let groups: number[]
let send: Send
beforeAll(async () => {
  notices = await startNotices()
  instance = notices.instance({}, { pollMs: 600_000 })
  groups = []
  const inbox: Inbox = {
    ...instance.inbox,
    notifyIn(tx, entries) {
      groups.push(entries.length)
      return instance.inbox.notifyIn(tx, entries)
    },
  }
  send = createSend(notices.database, inbox, 'test')
})
afterAll(() => notices.close())

const user = () => `user-${randomUUID()}`
const asking = (
  userId: string,
  title: string,
  more: { key?: string; fingerprint?: string; dedupeKey?: string; email?: string } = {},
): SendAsk => ({
  entry: { userId, content: contentOf({ title }), dedupeKey: more.dedupeKey ?? null },
  contacts: more.email === undefined ? [] : [{ userId, email: more.email }],
  idempotency:
    more.key === undefined ? undefined : { key: more.key, fingerprint: more.fingerprint ?? 'the same' },
})
const titles = async (userId: string) =>
  (await instance.list({ userId }, {})).notifications.map(({ title }) => title).toSorted()

it('stores many in a few transactions, and numbers those of one user without a gap', async () => {
  const [ann, bob] = [user(), user()]
  groups = []
  const sent = await Promise.all(
    Array.from({ length: 300 }, (_, n) => send(asking(n % 2 === 0 ? ann : bob, String(n)))),
  )
  expect(groups.length).toBeLessThan(10)
  expect(groups.reduce((sum, size) => sum + size, 0)).toBe(300)
  const seqs = (userId: string) =>
    sent.filter(({ published }) => published.userId === userId).map(({ published }) => published.seq)
  const upTo = Array.from({ length: 150 }, (_, n) => n + 1)
  expect(seqs(ann).toSorted((one, other) => Number(one) - Number(other))).toEqual(upTo)
  expect(seqs(bob).toSorted((one, other) => Number(one) - Number(other))).toEqual(upTo)
  expect((await instance.list({ userId: ann }, {})).unread).toBe(150)
})

it('does once what comes fifty times under one key, among others', async () => {
  const [ann, bob] = [user(), user()]
  const key = randomUUID()
  const sent = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      send(n % 2 === 0 ? asking(ann, 'once', { key }) : asking(bob, String(n))),
    ),
  )
  const keyed = sent.filter((_, n) => n % 2 === 0)
  expect(keyed.filter(({ replayed }) => !replayed)).toHaveLength(1)
  expect(new Set(keyed.map(({ published }) => published.id)).size).toBe(1)
  expect(sent.filter((_, n) => n % 2 === 1).some(({ replayed }) => replayed)).toBe(false)
  expect(await titles(ann)).toEqual(['once'])
  const again = await send(asking(ann, 'once', { key }))
  expect(again).toEqual({ published: keyed[0]?.published, replayed: true })
})

it('refuses a key that comes with something else, in one group and later, and nobody besides', async () => {
  const ann = user()
  const key = randomUUID()
  const outcomes = await Promise.allSettled([
    send(asking(ann, 'first', { key, fingerprint: 'one' })),
    send(asking(ann, 'other', { key, fingerprint: 'two' })),
    send(asking(ann, 'beside')),
  ])
  expect(outcomes).toMatchObject([
    { value: { replayed: false } },
    { reason: { code: 'idempotency_key_reused' } },
    { value: { replayed: false } },
  ])
  await expect(send(asking(ann, 'later', { key, fingerprint: 'three' }))).rejects.toThrow(AppError)
  expect(await titles(ann)).toEqual(['beside', 'first'])
})

it('keeps the last of several addresses of one user, and one row under one name', async () => {
  const ann = user()
  const sent = await Promise.all(
    ['a', 'b', 'c'].map((name) =>
      send(asking(ann, name, { dedupeKey: 'row', email: `${name}@example.org` })),
    ),
  )
  expect(new Set(sent.map(({ published }) => published.id)).size).toBe(1)
  expect(sent.map(({ published }) => published.outcome)).toEqual(['new', 'changed', 'changed'])
  expect(await titles(ann)).toEqual(['c'])
  const [{ email } = { email: '' }] = await notices.sql<{ email: string }[]>`
    select email from chat.notification_preferences where user_id = ${ann}`
  expect(email).toBe('c@example.org')
})

it('is answered as stored by those beside one that PostgreSQL refuses', async () => {
  const ann = user()
  // No zod has seen it: PostgreSQL knows no NUL.
  const outcomes = await Promise.allSettled([
    send(asking(ann, 'one')),
    send(asking(ann, 'two\u0000')),
    send(asking(ann, 'three', { key: randomUUID() })),
  ])
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(await titles(ann)).toEqual(['one', 'three'])
})

it('stores what goes to others while somebody holds one log, and says what became of what goes there', async () => {
  const [ann, bob] = [user(), user()]
  await send(asking(ann, 'before'))
  const { promise: released, resolve: release } = Promise.withResolvers<undefined>()
  const { promise: locked, resolve: lockIt } = Promise.withResolvers<undefined>()
  const holding = notices.database.asSystem('test', async (tx) => {
    await tx.execute(sql`select from chat.inbox_heads where user_id = ${ann} for update`)
    lockIt(undefined)
    await released
  })
  await locked
  const toAnn = Promise.allSettled(['one', 'two', 'three', 'four'].map((title) => send(asking(ann, title))))
  await send(asking(bob, 'beside'))
  expect(await titles(bob)).toEqual(['beside'])
  release(undefined)
  await holding
  const stored = (await toAnn).flatMap((outcome, n) => {
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'database_unavailable' })
    return outcome.status === 'fulfilled' ? [['one', 'two', 'three', 'four'][n] ?? ''] : []
  })
  expect(await titles(ann)).toEqual(['before', ...stored].toSorted())
})
