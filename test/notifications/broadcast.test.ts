/** Broadcasts: everybody who ever connected gets it, once, whatever happens in between. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { noteConnected } from '../../src/notifications/heads.ts'
import { startBroadcast } from '../../src/notifications/broadcast.ts'
import { eventually } from '../support/jobs.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, type Notices } from '../support/notices.ts'

let notices: Notices
beforeEach(async () => {
  notices = await startNotices()
})
afterEach(() => notices.close())

const connect = (userIds: readonly string[]) =>
  notices.database.asSystem('test', (tx) => noteConnected(tx, userIds))
const broadcast = (title: string, rest: { expiresAt?: string; sendAt?: string } = {}) =>
  notices.database.asSystem('test', (tx) =>
    startBroadcast(tx, { content: contentOf({ title }), expiresAt: null, sendAt: null, ...rest }),
  )
const got = async (title: string) =>
  (
    await notices.sql<{ user_id: string }[]>`
    select user_id from chat.notifications where title = ${title} order by user_id`
  ).map(({ user_id }) => user_id)
const row = async (id: string) =>
  (
    await notices.sql`
    select sent, finished_at is not null as finished from chat.broadcasts where id = ${id}`
  )[0]

describe('a broadcast', () => {
  it('reaches who connected, and nobody else, and wakes them; several do not mix', async () => {
    const people = Array.from({ length: 45 }, (_, n) => `user-${String(n).padStart(2, '0')}`)
    await connect(people)
    const instance = notices.instance({ broadcastChunkUsers: 10 }, { pollMs: 600_000 })
    await instance.send('never connected')
    const [one, two] = [await broadcast('one'), await broadcast('two')]
    instance.jobs.wake()
    for (const id of [one, two]) await eventually(() => row(id)).toEqual({ sent: 45, finished: true })
    expect([await got('one'), await got('two')]).toEqual([people, people])
    expect(new Set(notices.woken.map(({ userId }) => userId)).size).toBe(46)
    await eventually(() => notices.queued()).toEqual([])
  })

  it.each([0, 10, 20])('ends with %i people in chunks of ten', async (count) => {
    await connect(Array.from({ length: count }, (_, n) => `user-${n}`))
    const instance = notices.instance({ broadcastChunkUsers: 10 })
    const id = await broadcast('all')
    instance.jobs.wake()
    await eventually(() => row(id)).toEqual({ sent: count, finished: true })
    expect(await got('all')).toHaveLength(count)
  })

  it('begins when it is to, and expires when it is to', async () => {
    await connect(['ann'])
    const expiresAt = new Date(Date.now() + 3_600_000).toISOString()
    notices.instance()
    await broadcast('later', { expiresAt, sendAt: new Date(Date.now() + 300).toISOString() })
    expect(await got('later')).toEqual([])
    await eventually(() => got('later')).toEqual(['ann'])
    const [stored] = await notices.sql`
      select expires_at, (select created_at from chat.broadcasts) + interval '300 ms' <= appeared_at + interval '5 ms' as late
      from chat.notifications`
    expect(stored).toEqual({ expires_at: new Date(expiresAt), late: true })
  })

  it('is told once to each by several instances that share the work', async () => {
    const people = Array.from({ length: 200 }, (_, n) => `user-${n}`)
    await connect(people)
    const id = await broadcast('shared')
    for (let n = 0; n < 3; n++) notices.instance({ broadcastChunkUsers: 7 })
    await eventually(() => row(id)).toEqual({ sent: 200, finished: true })
    expect(await got('shared')).toEqual(people.toSorted())
  })

  it('lets others have their turn between two chunks', async () => {
    await connect(Array.from({ length: 60 }, (_, n) => `user-${n}`))
    const instance = notices.instance({ broadcastChunkUsers: 1 }, { runningMax: 1, pollMs: 600_000 })
    const id = await broadcast('slow')
    await instance.send(
      'bob',
      { title: 'in between' },
      { scheduledAt: new Date(Date.now() + 1).toISOString() },
    )
    instance.jobs.wake()
    await eventually(async () => (await got('in between')).length).toBe(1)
    expect((await row(id))?.['finished']).toBe(false)
    await eventually(() => row(id)).toEqual({ sent: 60, finished: true })
  })
})
