/** Time: what is scheduled appears, what is over goes, and both without anybody asking. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { setTimeout as delay } from 'node:timers/promises'
import { eventually } from '../support/jobs.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, type Notices } from '../support/notices.ts'
import { startReceiver } from '../support/receiver.ts'

let notices: Notices
beforeEach(async () => {
  notices = await startNotices()
})
afterEach(() => notices.close())

const soon = (ms: number) => new Date(Date.now() + ms).toISOString()
const appeared = async () =>
  (
    await notices.sql<{ title: string }[]>`
    select title from chat.notifications where seq is not null order by appeared_at, seq`
  ).map(({ title }) => title)

describe('what is scheduled', () => {
  it('appears when it is due, and not before, in the order of its time, and wakes its user', async () => {
    const instance = notices.instance({}, { pollMs: 600_000 })
    await instance.send('ann', { title: 'third' }, { scheduledAt: soon(700) })
    await instance.send('ann', { title: 'first' }, { scheduledAt: soon(300) })
    await instance.send('ann', { title: 'second' }, { scheduledAt: soon(500) })
    expect(await appeared()).toEqual([])
    await eventually(appeared).toEqual(['first', 'second', 'third'])
    const [early] = await notices.sql`select from chat.notifications where appeared_at < scheduled_at`
    expect(early).toBeUndefined()
    await eventually(() => notices.woken.map(({ userId, seq }) => [userId, seq])).toEqual([
      ['ann', 1],
      ['ann', 2],
      ['ann', 3],
    ])
    await eventually(() => notices.queued()).toEqual([])
  })

  it('appears page by page where much is due at one time, each once, and goes its other ways', async () => {
    const receiver = await startReceiver()
    const users = Array.from({ length: 1_100 }, (_, n) => `user-${n}`)
    const instance = notices.instance({}, { pollMs: 600_000 })
    await notices.sql`
      insert into chat.webhook_targets (id, url, secret, user_id)
      values (gen_random_uuid(), ${receiver.origin}, ${`whsec_${'A'.repeat(44)}`}, 'user-1099')`
    const content = contentOf({ channels: ['in_app', 'webhook'] })
    await instance.inbox.notify(users.map((userId) => ({ userId, content, scheduledAt: soon(200) })))
    await eventually(async () => (await appeared()).length).toBe(1_100)
    expect(new Set(notices.woken.map(({ userId }) => userId)).size).toBe(1_100)
    expect(notices.woken).toHaveLength(1_100)
    await eventually(() => receiver.received.length).toBe(1)
    await eventually(() => notices.queued()).toEqual([])
    await receiver.close()
  })

  it('appears though its job was lost: tidying adds it again', async () => {
    const instance = notices.instance({ times: { tidyEveryMs: 100 } })
    await instance.send('ann', { title: 'late' }, { scheduledAt: soon(100) })
    await notices.sql`delete from chat.jobs`
    instance.start()
    await eventually(appeared).toEqual(['late'])
  })

  it('is over before it appears where it expires first', async () => {
    const instance = notices.instance()
    await instance.send('ann', {}, { scheduledAt: soon(100), expiresAt: soon(50) })
    await delay(150)
    await eventually(() => notices.queued()).toEqual([])
    await instance.sweep()
    expect(await notices.sql`select from chat.notifications`).toHaveLength(0)
    expect(notices.woken).toEqual([])
  })
})

describe('what is over', () => {
  it('expires about once a minute by itself, whoever of several instances does it, and wakes its user', async () => {
    const instances = [0, 1, 2].map(() => notices.instance({ times: { tidyEveryMs: 100 } }))
    await instances[0]?.send('ann', {}, { expiresAt: soon(1) })
    for (const instance of instances) instance.start()
    await eventually(() => notices.woken.map(({ seq, unread }) => [seq, unread])).toEqual([
      [1, 1],
      [2, 0],
    ])
    // However many plant it, there is one.
    await eventually(() => notices.queued()).toEqual(['tidy'])
  })

  it('is swept page by page, and then purged when it is old', async () => {
    const instance = notices.instance()
    const users = Array.from({ length: 1_200 }, (_, n) => `user-${n}`)
    const content = contentOf()
    await instance.inbox.notify(users.map((userId) => ({ userId, content, expiresAt: soon(1) })))
    await delay(5)
    expect(await instance.sweep()).toEqual({ expired: 1_200, purged: 0 })
    await notices.sql`update chat.notifications set removed_at = now() - interval '31 days'`
    expect(await instance.sweep()).toEqual({ expired: 0, purged: 1_200 })
    expect(await notices.sql`select from chat.notifications`).toHaveLength(0)
  })

  it('is forgotten with what was kept for a while: answers, outcomes, broadcasts, tickets', async () => {
    const instance = notices.instance({ times: { tidyEveryMs: 100 } })
    await notices.sql`
      insert into chat.processed_events (source, event_id, fingerprint, created_at)
      values ('s', 'old', 'f', now() - interval '8 days'), ('s', 'new', 'f', now() - interval '6 days')`
    await notices.sql`
      insert into chat.deliveries (notification_id, channel, target, user_id, status, created_at)
      values (gen_random_uuid(), 'email', '', 'old', 'sent', now() - interval '61 days'),
        (gen_random_uuid(), 'email', '', 'new', 'sent', now() - interval '59 days')`
    await notices.sql`
      insert into chat.broadcasts (id, content, after_user_id, finished_at)
      values (gen_random_uuid(), '{}', 'old', now() - interval '61 days'), (gen_random_uuid(), '{}', 'new', null)`
    await notices.sql`
      insert into chat.tickets (digest, user_id, tier, purpose, expires_at)
      values ('old', 'ann', 'free', 'socket', now() - interval '1 s'), ('new', 'ann', 'free', 'socket', now() + interval '1 hour')`
    instance.start()
    const left = () => notices.sql`
      select (select string_agg(event_id, ' ') from chat.processed_events) as answers,
        (select string_agg(user_id, ' ') from chat.deliveries) as outcomes,
        (select string_agg(after_user_id, ' ') from chat.broadcasts) as broadcasts,
        (select string_agg(digest, ' ') from chat.tickets) as tickets`
    await eventually(left).toEqual([{ answers: 'new', outcomes: 'new', broadcasts: 'new', tickets: 'new' }])
  })
})
