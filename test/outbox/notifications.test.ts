/** Other services hear of every notification that appears or changes, as its user sees it, with the transaction in which it does. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startBroadcast } from '../../src/notifications/broadcast.ts'
import { noteConnected } from '../../src/notifications/heads.ts'
import { createOutbox } from '../../src/outbox/outbox.ts'
import { contentOf } from '../support/content.ts'
import { eventually } from '../support/jobs.ts'
import { startNotices, type Instance, type Notices } from '../support/notices.ts'

let notices: Notices
let woken: (string | undefined)[]
beforeEach(async () => {
  notices = await startNotices()
  woken = []
})
afterEach(() => notices.close())

const telling = (sinks = { exchange: true, bridge: false }): Instance =>
  notices.instance({ outbox: createOutbox({ sinks, wake: (sink) => woken.push(sink) }) })

interface Told {
  sink: string
  routing_key: string
  payload: { user_id: string; data: { id: string; title: string; seq: number; progress: number | null } }
}
const told = () => notices.sql<Told[]>`select sink, routing_key, payload from chat.outbox order by due_at, id`
const titles = async () => (await told()).map(({ payload }) => payload.data.title)

describe('an event', () => {
  it('shows a notification as its user’s list does', async () => {
    const instance = telling()
    const action = { label: 'See', url: '/assessment/1/results' }
    await instance.send('ann', { title: 'Ready', action, data: { k: [1] }, progress: 100, priority: 'high' })
    const { notifications } = await instance.list({ userId: 'ann' }, {})
    expect(await told()).toMatchObject([{ sink: 'exchange', routing_key: 'notification.events' }])
    const [event] = await told()
    expect(event?.payload.data).toEqual(notifications[0])
    expect(event?.payload).toMatchObject({ type: 'notification.events', user_id: 'ann' })
    expect(woken).toEqual(['exchange'])
  })

  it('is one for what is new, one for each change, and none for what is the same or older', async () => {
    const instance = telling()
    const step = (progress: number) =>
      instance.send('ann', { title: `at ${progress}`, progress }, { dedupeKey: 'assessment:1' })
    const outcomes = []
    for (const progress of [25, 50, 50, 25, 75]) outcomes.push((await step(progress)).outcome)
    expect(outcomes).toEqual(['new', 'changed', 'same', 'same', 'changed'])
    const events = (await told()).map(({ payload: { data } }) => [data.title, data.seq])
    expect(events).toEqual([
      ['at 25', 1],
      ['at 50', 2],
      ['at 75', 3],
    ])
    expect(woken).toHaveLength(3)
  })

  it('goes to each that is there: a row of its own', async () => {
    await telling({ exchange: true, bridge: true }).send('ann')
    expect((await told()).map(({ sink }) => sink)).toEqual(['exchange', 'bridge'])
    expect(new Set((await notices.sql`select id from chat.outbox`).map(({ id }) => id as string)).size).toBe(
      2,
    )
    expect(woken).toEqual(['exchange', 'bridge'])
  })

  it('is one a user of many who are told at once, each user’s in the order of their log', async () => {
    const instance = telling()
    const users = Array.from({ length: 1_200 }, (_, n) => `user-${n}`)
    const content = contentOf({ title: 'all' })
    await instance.inbox.notify([
      ...users.map((userId) => ({ userId, content })),
      ...['second', 'third'].map((title) => ({ userId: 'user-0', content: contentOf({ title }) })),
    ])
    const events = await told()
    expect(new Set(events.map(({ payload }) => payload.user_id)).size).toBe(1_200)
    const hers = events.filter(({ payload }) => payload.user_id === 'user-0')
    expect(hers.map(({ payload: { data } }) => [data.title, data.seq])).toEqual([
      ['all', 1],
      ['second', 2],
      ['third', 3],
    ])
    expect(events).toHaveLength(1_202)
  })

  it('is one, of the last version, for a row that is told several times in one transaction', async () => {
    const instance = telling()
    await instance.inbox.notify(
      ['first', 'second'].map((title) => ({ userId: 'ann', content: contentOf({ title }), dedupeKey: 'k' })),
    )
    expect(await titles()).toEqual(['second'])
  })

  it('is stored when what was scheduled appears, and not before', async () => {
    const instance = telling()
    const scheduledAt = new Date(Date.now() + 400).toISOString()
    expect((await instance.send('ann', { title: 'later' }, { scheduledAt })).outcome).toBe('scheduled')
    expect(await told()).toEqual([])
    expect(woken).toEqual([])
    await eventually(titles).toEqual(['later'])
    await eventually(() => woken).toEqual(['exchange'])
  })

  it('is stored for each whom a broadcast reaches', async () => {
    const people = Array.from({ length: 30 }, () => randomUUID())
    await notices.database.asSystem('test', (tx) => noteConnected(tx, people))
    const instance = telling()
    await notices.database.asSystem('test', (tx) =>
      startBroadcast(tx, { content: contentOf({ title: 'all' }), expiresAt: null, sendAt: null }),
    )
    instance.jobs.wake()
    await eventually(async () => (await told()).map(({ payload }) => payload.user_id).toSorted()).toEqual(
      people.toSorted(),
    )
  })

  it('is not stored where its notification is not', async () => {
    const instance = telling()
    const failing = notices.database.asSystem('test', async (tx) => {
      await instance.inbox.notifyIn(tx, [{ userId: 'ann', content: contentOf() }])
      throw new Error('on purpose')
    })
    await expect(failing).rejects.toThrow('on purpose')
    expect(await told()).toEqual([])
    expect(await notices.sql`select from chat.notifications`).toHaveLength(0)
  })
})

it('without an outbox, and with one that sends to nobody, sending takes the statements that it always took', async () => {
  const taken = async (instance: Instance) => {
    let statements = 0
    await notices.database.asSystem('test', (tx) =>
      instance.inbox.notifyIn(
        {
          execute(query) {
            statements++
            return tx.execute(query)
          },
          commit: (issue) => tx.commit(issue),
        },
        [{ userId: 'ann', content: contentOf() }],
      ),
    )
    return statements
  }
  const without = await taken(notices.instance())
  expect(await taken(telling({ exchange: false, bridge: false }))).toBe(without)
  expect(await told()).toEqual([])
  expect(await taken(telling())).toBe(without + 2)
})
