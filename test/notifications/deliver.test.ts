/** Deliveries: from an inbox to mailboxes, browsers and servers, tried until they are sent or given up. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createWebhookSecret, verifySignature } from '../../src/notifications/channels/webhook.ts'
import { redrive } from '../../src/jobs/jobs.ts'
import { reviveDeliveries } from '../../src/notifications/delivery-queries.ts'
import type { Channel } from '../../src/notifications/kinds.ts'
import { createBrowser } from '../support/browser.ts'
import { eventually } from '../support/jobs.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, webPushKeys, type Notices } from '../support/notices.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startMailServer, type MailServer } from '../support/smtp.ts'

let notices: Notices
let mail: MailServer
let receiver: Receiver
beforeEach(async () => {
  notices = await startNotices()
  mail = await startMailServer()
  receiver = await startReceiver()
})
afterEach(async () => {
  await notices.close()
  await mail.close()
  await receiver.close()
})

const all = () => ({
  email: { smtpUrl: mail.url, from: 'Rivulet <hello@example.com>' },
  webPush: webPushKeys,
})
const statuses = async () => (await notices.deliveries()).map(({ channel, status }) => `${channel} ${status}`)

async function subscribe(userId: string, path = '/push') {
  const browser = createBrowser()
  const { endpoint, p256dh, auth } = browser.subscription(receiver.origin + path)
  const [row] = await notices.sql<{ id: string }[]>`
    insert into chat.push_subscriptions (id, user_id, endpoint, p256dh, auth)
    values (gen_random_uuid(), ${userId}, ${endpoint}, ${p256dh}, ${auth}) returning id`
  return { browser, id: row?.id ?? '' }
}
async function register(options: { userId?: string; types?: string[]; path?: string } = {}) {
  const secret = createWebhookSecret()
  const [row] = await notices.sql<{ id: string }[]>`
    insert into chat.webhook_targets (id, url, secret, user_id, types)
    values (gen_random_uuid(), ${receiver.origin + (options.path ?? '/hook')}, ${secret}, ${options.userId ?? null},
      ${options.types ?? null}) returning id`
  return { secret, id: row?.id ?? '' }
}

describe('what appears', () => {
  it('goes the ways that it names: a letter, one message for each browser, one for each webhook', async () => {
    const ann = await notices.person('ann@example.com')
    const { browser } = await subscribe(ann, '/push/1')
    await subscribe(ann, '/push/2')
    const { secret } = await register()
    await register({ userId: ann, types: ['system'] })
    await register({ userId: 'somebody else' })
    const instance = notices.instance(all())
    const { id } = await instance.send(ann, {
      title: 'Hello',
      data: { k: 1 },
      channels: ['in_app', 'email', 'web_push', 'webhook'],
    })
    await eventually(statuses).toEqual(['email sent', 'web_push sent', 'web_push sent', 'webhook sent'])
    expect(mail.letters).toMatchObject([{ to: ['ann@example.com'] }])
    expect(mail.letters[0]?.headers.get('message-id')).toBe(`<notification.${id}@example.com>`)
    const pushed = receiver.received.find(({ path }) => path === '/push/1')
    expect(JSON.parse(browser.decrypt(pushed?.body ?? Buffer.alloc(0)))).toMatchObject({ id, title: 'Hello' })
    const hooked = receiver.received.find(({ path }) => path === '/hook')
    expect(
      verifySignature(
        secret,
        {
          id: String(hooked?.headers['webhook-id']),
          timestamp: String(hooked?.headers['webhook-timestamp']),
          body: hooked?.body ?? '',
        },
        String(hooked?.headers['webhook-signature']),
      ),
    ).toBe(true)
    expect(JSON.parse(hooked?.body.toString() ?? '')).toMatchObject({
      data: { id, user_id: ann, title: 'Hello', data: { k: 1 } },
    })
    expect(receiver.received).toHaveLength(3)
    expect(await notices.queued()).toEqual([])
  })

  it('goes nowhere else where it names nothing, nothing is configured, or nobody is known there', async () => {
    const ann = await notices.person()
    const instance = notices.instance()
    await instance.send(ann)
    await instance.send(ann, { channels: ['in_app', 'email', 'web_push', 'webhook'] })
    await instance.send('nobody-told-us-of', { channels: ['email'], priority: 'critical' })
    expect(await notices.deliveries()).toEqual([])
    expect(await notices.queued()).toEqual([])
  })

  it('goes where its user wants it: a type’s own word counts before that for all', async () => {
    const ann = await notices.person('ann@example.com')
    await subscribe(ann)
    await notices.sql`update chat.notification_preferences set channels = ${notices.sql.json({
      '*': { email: false },
      reminder: { web_push: false },
      security: { email: true },
    })}`
    const instance = notices.instance(all())
    const channels = ['in_app', 'email', 'web_push'] as const
    await instance.send(ann, { type: 'reminder', channels })
    expect(await notices.deliveries()).toEqual([])
    await instance.send(ann, { type: 'system', channels })
    await eventually(statuses).toEqual(['web_push sent'])
    await instance.send(ann, { type: 'security', channels })
    await eventually(statuses).toEqual(['email sent', 'web_push sent', 'web_push sent'])
  })
})

describe('what changes', () => {
  it('goes all ways that were named, where it was told twice in one transaction, and once', async () => {
    const ann = await notices.person('ann@example.com')
    await register()
    const instance = notices.instance(all())
    const said = (title: string, channels: Channel[]) => ({
      userId: ann,
      content: contentOf({ title, channels, priority: 'high' }),
      dedupeKey: 'row',
    })
    const published = await instance.inbox.notify([
      said('one', ['in_app', 'webhook']),
      said('two', ['in_app', 'email']),
    ])
    expect(published.map(({ outcome }) => outcome)).toEqual(['new', 'changed'])
    await eventually(statuses).toEqual(['email sent', 'webhook sent'])
    expect(receiver.received).toHaveLength(1)
    expect(mail.letters).toHaveLength(1)
  })

  it('is told again by webhook each time, to a browser unless it is on its way, by letter at its end', async () => {
    const ann = await notices.person('ann@example.com')
    await subscribe(ann)
    await register()
    const instance = notices.instance(all())
    const step = async (progress: number) => {
      const before = receiver.received.length
      await instance.send(
        ann,
        { progress, title: `${progress} %`, channels: ['in_app', 'email', 'web_push', 'webhook'] },
        { dedupeKey: 'a' },
      )
      await eventually(() => receiver.received.length).toBeGreaterThan(before)
      await eventually(() => notices.queued()).toEqual([])
      return receiver.received
        .slice(before)
        .map(({ path }) => path)
        .toSorted()
    }
    expect([await step(25), mail.letters.length]).toEqual([['/hook', '/push'], 1])
    expect([await step(50), mail.letters.length]).toEqual([['/hook'], 1])
    expect([await step(75), mail.letters.length]).toEqual([['/hook'], 1])
    expect([await step(100), mail.letters.length]).toEqual([['/hook', '/push'], 2])
    const hooks = receiver.received.filter(({ path }) => path === '/hook')
    expect(new Set(hooks.map(({ headers }) => headers['webhook-id'])).size).toBe(4)
    expect(await statuses()).toEqual(['email sent', 'web_push sent', 'webhook sent'])
  })

  it('before it has appeared, or after it was over, appears as if it were new', async () => {
    const ann = await notices.person('ann@example.com')
    const instance = notices.instance(all())
    const say = (title: string, rest: object = {}) =>
      instance.send(ann, { title, channels: ['email'] }, { dedupeKey: 'a', ...rest })
    const subjects = () => mail.letters.map(({ headers }) => headers.get('subject'))
    await say('planned', { scheduledAt: new Date(Date.now() + 3_600_000).toISOString() })
    await say('now')
    await eventually(subjects).toEqual(['now'])
    await notices.sql`update chat.notifications set expires_at = now()`
    await instance.sweep()
    await say('again')
    await eventually(subjects).toEqual(['now', 'again'])
  })

  it('while it is being sent is sent once more, as what it is then', async () => {
    const ann = await notices.person()
    await register()
    const instance = notices.instance(all())
    const first = Promise.withResolvers<() => void>()
    receiver.answer((response) => first.resolve(() => response.writeHead(204).end()))
    const say = (title: string) => instance.send(ann, { title, channels: ['webhook'] }, { dedupeKey: 'a' })
    await say('first')
    const letGo = await first.promise
    await say('second')
    await say('third')
    expect(await statuses()).toEqual(['webhook queued'])
    receiver.answer((response) => response.writeHead(204).end())
    letGo()
    await eventually(statuses).toEqual(['webhook sent'])
    const titles = receiver.received.map(
      ({ body }) => (JSON.parse(body.toString()) as { data: { title: string } }).data.title,
    )
    expect(titles).toEqual(['first', 'third'])
    expect(await notices.queued()).toEqual([])
  })

  it('is read while it is retried: the number it goes by stays', async () => {
    const ann = await notices.person()
    await register()
    const instance = notices.instance(all())
    receiver.answer((response) => response.writeHead(500).end())
    const { id } = await instance.send(ann, { channels: ['webhook'] })
    await eventually(() => receiver.received.length).toBeGreaterThan(0)
    await instance.inbox.mark({ userId: ann }, { ids: [id] }, 'read')
    receiver.answer((response) => response.writeHead(204).end())
    await eventually(statuses).toEqual(['webhook sent'])
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id']))).toEqual(
      new Set([`${id}.1`]),
    )
  })
})

describe('an attempt', () => {
  it('sends nothing that is read, archived or over by then; a machine is told all the same, and of security everybody', async () => {
    const ann = await notices.person('ann@example.com')
    await register()
    const idle = notices.instance(all(), { pollMs: 600_000 })
    await idle.jobs.close()
    const channels = ['email', 'webhook'] as const
    const read = await idle.send(ann, { title: 'read', channels })
    const archived = await idle.send(ann, { title: 'archived', channels })
    const secure = await idle.send(ann, { title: 'secure', type: 'security', channels })
    const over = await idle.send(ann, { title: 'over', channels })
    await idle.inbox.mark({ userId: ann }, { ids: [read.id, secure.id] }, 'read')
    await idle.inbox.mark({ userId: ann }, { ids: [archived.id] }, 'archived')
    await notices.sql`update chat.notifications set expires_at = now() where id = ${over.id}`
    notices.instance(all())
    await eventually(() => notices.queued()).toEqual([])
    expect(mail.letters.map(({ headers }) => headers.get('subject'))).toEqual(['secure'])
    expect(receiver.received).toHaveLength(3)
    const rows = await notices.sql`
      select n.title, d.channel, d.status, d.last_error as why from chat.deliveries d
      join chat.notifications n on n.id = d.notification_id where d.status = 'skipped' order by 1, 2`
    expect(rows).toEqual([
      { title: 'archived', channel: 'email', status: 'skipped', why: 'seen' },
      { title: 'over', channel: 'email', status: 'skipped', why: 'expired' },
      { title: 'over', channel: 'webhook', status: 'skipped', why: 'expired' },
      { title: 'read', channel: 'email', status: 'skipped', why: 'seen' },
    ])
  })

  it('looks again whether its user still wants it, and whether there is still a target', async () => {
    const ann = await notices.person('ann@example.com')
    const { id } = await subscribe(ann)
    const idle = notices.instance(all(), { pollMs: 600_000 })
    await idle.jobs.close()
    await idle.send(ann, { channels: ['email', 'web_push'] })
    await notices.sql`update chat.notification_preferences set channels = '{"*":{"email":false}}'`
    await notices.sql`update chat.push_subscriptions set user_id = 'the next user of this browser' where id = ${id}`
    notices.instance(all())
    await eventually(async () => (await notices.deliveries()).map(({ why }) => why)).toEqual([
      'muted',
      'no_target',
    ])
    expect([mail.letters, receiver.received]).toEqual([[], []])
  })

  it('that finds its target gone removes it', async () => {
    const ann = await notices.person('ann@example.com')
    await subscribe(ann)
    await register()
    receiver.answer((response) => response.writeHead(410).end())
    mail.refuse({ recipient: [550, '5.1.1 no such user'] })
    await notices.instance(all()).send(ann, { channels: ['email', 'web_push', 'webhook'] })
    await eventually(async () =>
      (await notices.deliveries()).map(({ status, why }) => `${status} ${why}`),
    ).toEqual(['failed mailbox_unknown', 'failed gone', 'failed gone'])
    const left = await notices.sql`
      select (select count(*)::int from chat.push_subscriptions) as browsers,
        (select count(*)::int from chat.webhook_targets) as webhooks,
        (select count(*)::int from chat.notification_preferences where email is not null) as addresses`
    expect(left).toEqual([{ browsers: 0, webhooks: 0, addresses: 0 }])
    expect(await notices.sql`select from chat.jobs`).toHaveLength(0)
  })

  it('that fails is tried again; eight times, then it is dead; queued again by hand it is sent', async () => {
    const ann = await notices.person('ann@example.com')
    const instance = notices.instance(all())
    mail.refuse({ recipient: [451, 'later'] })
    await instance.send(ann, { channels: ['email'] })
    await eventually(() => notices.deliveries()).toMatchObject([
      { status: 'failed', attempts: 8, why: 'deferred' },
    ])
    expect(await notices.sql`select status, attempts, last_error as why from chat.jobs`).toEqual([
      { status: 'dead', attempts: 8, why: 'deferred' },
    ])
    mail.refuse({})
    await notices.database.asSystem('test', async (tx) => {
      const keys = await redrive(tx, ['deliver_email'], undefined)
      await reviveDeliveries(
        tx,
        keys.map(({ key }) => key),
      )
    })
    await eventually(statuses).toEqual(['email sent'])
    expect(mail.letters).toHaveLength(1)
    expect(await notices.sql`select from chat.jobs`).toHaveLength(0)
  })

  it('that is refused for good is not tried again', async () => {
    const ann = await notices.person('ann@example.com')
    mail.refuse({ recipient: [554, 'spam'] })
    await notices.instance(all()).send(ann, { channels: ['email'] })
    await eventually(() => notices.deliveries()).toMatchObject([
      { status: 'failed', attempts: 1, why: 'refused' },
    ])
  })

  it('that waits for a silent mail server holds up neither browsers nor the inbox', async () => {
    mail.refuse({ connection: 'silent' })
    const instance = notices.instance(all(), { runningMax: 1 })
    const people = await Promise.all(Array.from({ length: 5 }, () => notices.person('ann@example.com')))
    for (const userId of people) await subscribe(userId, `/${userId}`)
    for (const userId of people) await instance.send(userId, { channels: ['email', 'web_push'] })
    await eventually(statuses).toEqual([
      ...Array<string>(5).fill('email queued'),
      ...Array<string>(5).fill('web_push sent'),
    ])
    await instance.send('bob', {}, { scheduledAt: new Date(Date.now() + 20).toISOString() })
    await eventually(() => notices.woken.map(({ userId }) => userId)).toContain('bob')
  })
})

describe('quiet hours', () => {
  const night = { start: '22:00', end: '07:00', timezone: 'Europe/Berlin' }
  const quiet = async (userId: string) =>
    notices.sql`update chat.notification_preferences set quiet_hours = ${notices.sql.json(night)} where user_id = ${userId}`
  /** In winter: an hour ahead of UTC. */
  const at = (time: string) => () => new Date(`2026-01-15T${time}:00Z`)

  it('put letters and browsers off to their end, and then they are sent', async () => {
    const ann = await notices.person('ann@example.com')
    await subscribe(ann)
    await register()
    await quiet(ann)
    const atNight = notices.instance({ ...all(), now: at('22:30') })
    await atNight.send(ann, { channels: ['email', 'web_push', 'webhook'] })
    await eventually(statuses).toEqual(['email queued', 'web_push queued', 'webhook sent'])
    const waits = () => notices.sql<{ ms: number }[]>`
      select extract(epoch from run_at - now())::float8 * 1000 as ms from chat.jobs where run_at > now() + interval '1 minute'`
    await eventually(async () => (await waits()).length).toBe(2)
    for (const { ms } of await waits()) expect(ms / 3_600_000).toBeCloseTo(7.5, 1)
    expect((await notices.deliveries()).map(({ attempts }) => attempts)).toEqual([0, 0, 1])
    await atNight.stop()
    await notices.sql`update chat.jobs set run_at = now()`
    notices.instance({ ...all(), now: at('06:00') })
    await eventually(statuses).toEqual(['email sent', 'web_push sent', 'webhook sent'])
  })

  it('are not for what is critical or about security', async () => {
    const ann = await notices.person('ann@example.com')
    await quiet(ann)
    const instance = notices.instance({ ...all(), now: at('22:30') })
    await instance.send(ann, { title: 'critical', priority: 'critical', channels: ['email'] })
    await instance.send(ann, { title: 'security', type: 'security', channels: ['email'] })
    await instance.send(ann, { title: 'high', priority: 'high', channels: ['email'] })
    await eventually(statuses).toEqual(['email queued', 'email sent', 'email sent'].toSorted())
    expect(mail.letters.map(({ headers }) => headers.get('subject')).toSorted()).toEqual([
      'critical',
      'security',
    ])
  })
})
