/** What I want to be sent, and the browsers that I have. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { createClient, type Client } from '../support/client.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { vapid } from '../support/vapid.ts'

const base = '/api/chat/notifications'
let service: Service
let ann: Client
let annId: string
beforeAll(async () => {
  service = await startService({ env: vapid })
})
afterAll(() => service.close())
beforeEach(async () => {
  annId = `ann-${randomUUID()}`
  ann = await service.as(annId)
})

describe('preferences', () => {
  const none = { channels: {}, quiet_hours: null, email: null }
  const channels = { '*': { email: false }, security: { email: true, web_push: true, webhook: false } }
  const quiet_hours = { start: '22:00', end: '07:00', timezone: 'Europe/Berlin' }

  it('say nothing at first; what is not named stays', async () => {
    expect((await ann.get(`${base}/preferences`)).body).toEqual(none)
    const put = (body: object) => ann.request('PUT', `${base}/preferences`, body)
    expect(await put({ channels })).toMatchObject({ status: 200, body: { ...none, channels } })
    expect((await put({ quiet_hours })).body).toEqual({ channels, quiet_hours, email: null })
    expect((await put({ channels: {} })).body).toEqual({ channels: {}, quiet_hours, email: null })
    expect((await put({ quiet_hours: null })).body).toEqual(none)
    expect((await ann.get(`${base}/preferences`)).body).toEqual(none)
  })

  it('show the address that a service told, which cannot be changed here', async () => {
    const sender = createClient(service.origin, serviceKey)
    const told = await sender.request('PUT', `/api/chat/internal/contacts/${annId}`, {
      email: 'ann@example.com',
    })
    expect(told).toMatchObject({ status: 200, body: { user_id: annId, email: 'ann@example.com' } })
    expect((await ann.get(`${base}/preferences`)).body).toEqual({ ...none, email: 'ann@example.com' })
    await ann.request('PUT', `${base}/preferences`, { channels })
    expect((await ann.get(`${base}/preferences`)).body).toMatchObject({ channels, email: 'ann@example.com' })
    expect(await ann.request('PUT', `${base}/preferences`, { email: 'eve@example.com' })).toMatchObject({
      status: 400,
    })
    await sender.request('PUT', `/api/chat/internal/contacts/${annId}`, { email: null })
    expect((await ann.get(`${base}/preferences`)).body).toMatchObject({ channels, email: null })
  })

  it('spell a zone as its database does', async () => {
    const { body } = await ann.request('PUT', `${base}/preferences`, {
      quiet_hours: { ...quiet_hours, timezone: 'europe/berlin' },
    })
    expect(body).toMatchObject({ quiet_hours })
  })
})

describe('a browser', () => {
  const subscriptionOf = (endpoint: string, browser = createBrowser()) => {
    const { p256dh, auth } = browser.subscription(endpoint)
    return { endpoint, expirationTime: null, keys: { p256dh, auth } }
  }
  const subscribe = (body: object, client = ann) =>
    client.post<{ id: string }>(`${base}/push-subscriptions`, body)
  const ofUser = async (userId: string) =>
    (
      await service.sql<{ endpoint: string }[]>`
      select endpoint from chat.push_subscriptions where user_id = ${userId} order by id`
    ).map(({ endpoint }) => endpoint)

  it('subscribes with our key, once however often it says so, and is forgotten by its id or its endpoint', async () => {
    expect((await ann.get(`${base}/push-key`)).body).toEqual({ public_key: vapid.VAPID_PUBLIC_KEY })
    const [one, two] = [
      subscriptionOf(`https://push.example/${randomUUID()}`),
      subscriptionOf(`https://push.example/${randomUUID()}`),
    ]
    const made = await subscribe(one)
    expect(made.status).toBe(201)
    expect(await subscribe(one)).toMatchObject({ status: 200, body: made.body })
    await subscribe(two)
    expect(await ofUser(annId)).toEqual([one.endpoint, two.endpoint])
    const gone = await ann.request('DELETE', `${base}/push-subscriptions/${made.body.id}`)
    expect(gone.status).toBe(204)
    expect((await ann.request('DELETE', `${base}/push-subscriptions/${made.body.id}`)).status).toBe(404)
    for (let n = 0; n < 2; n++)
      expect(
        (await ann.request('DELETE', `${base}/push-subscriptions`, { endpoint: two.endpoint })).status,
      ).toBe(204)
    expect(await ofUser(annId)).toEqual([])
  })

  it('that changes hands is the next one’s, if it is that browser: its endpoint alone anybody may have heard of', async () => {
    const bob = await service.as(`bob-${annId}`)
    const mine = subscriptionOf(`https://push.example/${randomUUID()}`)
    await subscribe(mine)
    expect(await subscribe(subscriptionOf(mine.endpoint), bob)).toMatchObject({ status: 403 })
    expect(await ofUser(annId)).toEqual([mine.endpoint])
    expect((await subscribe(mine, bob)).status).toBe(201)
    expect([await ofUser(annId), await ofUser(`bob-${annId}`)]).toEqual([[], [mine.endpoint]])
  })

  it('is nobody else’s to forget', async () => {
    const eve = await service.as('eve')
    const mine = subscriptionOf(`https://push.example/${randomUUID()}`)
    const { body } = await subscribe(mine)
    expect((await eve.request('DELETE', `${base}/push-subscriptions/${body.id}`)).status).toBe(404)
    await eve.request('DELETE', `${base}/push-subscriptions`, { endpoint: mine.endpoint })
    expect(await ofUser(annId)).toEqual([mine.endpoint])
  })

  it('is one of twenty at most: the one that came first goes, also where many come at once', async () => {
    const all = Array.from({ length: 25 }, (_, n) =>
      subscriptionOf(`https://push.example/${randomUUID()}/${n}`),
    )
    for (const one of all.slice(0, 5)) await subscribe(one)
    await Promise.all(all.slice(5).map((one) => subscribe(one)))
    const left = await ofUser(annId)
    expect(left).toHaveLength(20)
    expect(left).not.toContain(all[0]?.endpoint)
  })

  it.each([
    'http://push.example/1',
    'https://127.0.0.1/1',
    'https://[::1]/1',
    'https://10.0.0.8/1',
    'https://user:password@push.example/1',
    'ftp://push.example',
    'x',
  ])('does not live at %s', async (endpoint) => {
    expect(await subscribe(subscriptionOf(endpoint))).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'endpoint' }] },
    })
  })
})

it('there is no web push where it is not configured', async () => {
  const without = await startService()
  const bob = await without.as('bob')
  const body = {
    endpoint: 'https://push.example/1',
    keys: { p256dh: vapid.VAPID_PUBLIC_KEY, auth: 'A'.repeat(22) },
  }
  for (const answer of [
    await bob.get(`${base}/push-key`),
    await bob.post(`${base}/push-subscriptions`, body),
  ])
    expect(answer).toMatchObject({ status: 404, body: { code: 'push_not_configured' } })
  await without.close()
})
