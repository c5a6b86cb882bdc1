/** Escalation: what nobody acknowledges goes on to a browser, what stays unread to a mailbox. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { eventually } from '../support/jobs.ts'
import { startNotices, webPushKeys, type Instance, type Notices } from '../support/notices.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startMailServer, type MailServer } from '../support/smtp.ts'

let notices: Notices
let mail: MailServer
let receiver: Receiver
let ann: string
beforeEach(async () => {
  notices = await startNotices()
  mail = await startMailServer()
  receiver = await startReceiver()
  ann = await notices.person('ann@example.com')
  const { endpoint, p256dh, auth } = createBrowser().subscription(`${receiver.origin}/push`)
  await notices.sql`
    insert into chat.push_subscriptions (id, user_id, endpoint, p256dh, auth)
    values (gen_random_uuid(), ${ann}, ${endpoint}, ${p256dh}, ${auth})`
})
afterEach(async () => {
  await notices.close()
  await mail.close()
  await receiver.close()
})

const ways = () => ({ email: { smtpUrl: mail.url, from: 'hello@example.com' }, webPush: webPushKeys })
/** The times as they are: half a minute, ten minutes. */
const patient = () => notices.instance(ways())
/** So short that nothing need be made older. */
const hasty = () => notices.instance({ ...ways(), times: { escalateAfter: { pushMs: 200, emailMs: 600 } } })
/** As if so much time had gone by since the row last changed. */
async function age(seconds: number): Promise<void> {
  await notices.sql`update chat.deliveries set created_at = created_at - make_interval(secs => ${seconds})`
  await notices.sql`update chat.notifications set updated_at = updated_at - make_interval(secs => ${seconds})`
  await notices.sql`update chat.jobs set run_at = now() where kind = 'escalate'`
}
const reached = () => ({ pushed: receiver.received.length, mailed: mail.letters.length })
const dueInS = async () => {
  const rows = await notices.sql<{ s: number }[]>`
    select extract(epoch from run_at - now())::float8 as s from chat.jobs where kind = 'escalate'`
  return rows.map(({ s }) => Math.round(s))
}
const high = (instance: Instance) => instance.send(ann, { priority: 'high', channels: ['in_app'] })

it('waits half a minute for a device, then ten for a reader: push first, a letter then, each once', async () => {
  await high(patient())
  expect(await dueInS()).toEqual([30])
  await age(31)
  await eventually(reached).toEqual({ pushed: 1, mailed: 0 })
  await eventually(async () => (await dueInS())[0]).toBeGreaterThan(500)
  await age(601)
  await eventually(reached).toEqual({ pushed: 1, mailed: 1 })
  await eventually(() => notices.queued()).toEqual([])
  expect(await notices.deliveries()).toMatchObject([
    { channel: 'email', status: 'sent' },
    { channel: 'web_push', status: 'sent' },
  ])
})

it('runs by itself', async () => {
  await high(hasty())
  await eventually(reached).toEqual({ pushed: 1, mailed: 1 })
})

it('does both where its time has long been over, such as after an outage', async () => {
  const instance = patient()
  await high(instance)
  await age(3_600)
  await eventually(reached).toEqual({ pushed: 1, mailed: 1 })
})

describe('stops', () => {
  it.each([
    ['read', (instance: Instance, id: string) => instance.inbox.mark({ userId: ann }, { ids: [id] }, 'read')],
    [
      'archived',
      (instance: Instance, id: string) => instance.inbox.mark({ userId: ann }, { ids: [id] }, 'archived'),
    ],
    ['expired', () => notices.sql`update chat.notifications set expires_at = now()`],
  ])('where it is %s', async (_name, stop) => {
    const instance = patient()
    const { id } = await high(instance)
    await stop(instance, id)
    await age(3_600)
    await eventually(() => notices.queued()).toEqual([])
    expect([reached(), await notices.deliveries()]).toEqual([{ pushed: 0, mailed: 0 }, []])
  })

  it('before the push where a device has acknowledged, and mails what stays unread all the same', async () => {
    await high(patient())
    await notices.sql`update chat.notifications set delivered_at = now()`
    await age(31)
    await eventually(async () => (await dueInS())[0]).toBeGreaterThan(500)
    await age(601)
    await eventually(reached).toEqual({ pushed: 0, mailed: 1 })
  })

  it('where its user does not want that', async () => {
    await notices.sql`update chat.notification_preferences set channels = '{"reminder":{"web_push":false,"email":false}}'`
    await high(patient())
    await age(3_600)
    await eventually(() => notices.queued()).toEqual([])
    expect(await notices.deliveries()).toEqual([])
  })
})

it('begins anew with what changes', async () => {
  const instance = patient()
  const say = (title: string) =>
    instance.send(ann, { title, priority: 'high', channels: ['in_app'] }, { dedupeKey: 'k' })
  await say('one')
  await age(31)
  await eventually(reached).toEqual({ pushed: 1, mailed: 0 })
  await eventually(async () => (await dueInS())[0]).toBeGreaterThan(500)
  await say('two')
  expect(await dueInS()).toEqual([30])
  await age(31)
  await eventually(reached).toEqual({ pushed: 2, mailed: 0 })
})

it('sends nothing twice that named the way itself', async () => {
  const instance = patient()
  await instance.send(ann, { priority: 'critical', channels: ['in_app', 'web_push', 'email'] })
  await eventually(reached).toEqual({ pushed: 1, mailed: 1 })
  await age(3_600)
  await eventually(() => notices.queued()).toEqual([])
  expect(reached()).toEqual({ pushed: 1, mailed: 1 })
})

it('is for high and critical alone, and for what appears later from then on', async () => {
  const instance = patient()
  await instance.send(ann, { priority: 'medium' })
  await instance.send(ann, { priority: 'low' })
  expect(await notices.queued()).toEqual([])
  await instance.send(ann, { priority: 'high' }, { scheduledAt: new Date(Date.now() + 100).toISOString() })
  expect(await notices.queued()).toEqual(['appear'])
  await eventually(() => notices.queued()).toEqual(['escalate'])
})

it('is not begun where there is nowhere to go on to', async () => {
  await high(notices.instance())
  expect(await notices.queued()).toEqual([])
})
