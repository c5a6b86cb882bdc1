/** From the routes to the targets: a webhook and a browser registered over HTTP, and what they are sent. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { verifySignature } from '../../src/notifications/channels/webhook.ts'
import { createBrowser } from '../support/browser.ts'
import { createClient, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { vapid } from '../support/vapid.ts'

const inner = '/api/chat/internal'
let service: Service
let receiver: Receiver
let sender: Client
beforeAll(async () => {
  receiver = await startReceiver()
  service = await startService({ env: { ...vapid, ALLOW_PRIVATE_TARGETS: 'true' } })
  sender = createClient(service.origin, serviceKey)
})
afterAll(async () => {
  await service.close()
  await receiver.close()
})

const send = (body: object) =>
  sender.post<{ notification_id: string }>(`${inner}/notifications`, {
    type: 'reminder',
    title: 'A title',
    ...body,
  })
const at = (path: string) => receiver.received.filter((received) => received.path === path)

it('a webhook is signed with the secret that was shown when it was registered', async () => {
  const { body: made } = await sender.post<{ id: string; secret: string }>(`${inner}/webhooks`, {
    url: `${receiver.origin}/hook`,
    types: ['reminder'],
  })
  const sent = await send({ user_id: 'ann', channels: ['webhook'], data: { k: 1 } })
  await send({ user_id: 'ann', channels: ['webhook'], type: 'system' })
  await eventually(() => at('/hook').length).toBe(1)
  const [hooked] = at('/hook')
  if (hooked === undefined) throw new Error('nothing was posted')
  const { headers, body } = hooked
  const signed = { id: String(headers['webhook-id']), timestamp: String(headers['webhook-timestamp']), body }
  expect(verifySignature(made.secret, signed, String(headers['webhook-signature']))).toBe(true)
  expect(JSON.parse(body.toString())).toMatchObject({
    type: 'notification',
    data: { id: sent.body.notification_id, user_id: 'ann', type: 'reminder', data: { k: 1 } },
  })
  const status = async () =>
    (await sender.get<{ deliveries: object[] }>(`${inner}/notifications/${sent.body.notification_id}`)).body
      .deliveries
  await eventually(status).toMatchObject([{ channel: 'webhook', target: made.id, status: 'sent' }])
})

it('a browser reads what is sent to its subscription, which is removed when the push service says that it is gone', async () => {
  const ann = await service.as('ann')
  const browser = createBrowser()
  const { endpoint, p256dh, auth } = browser.subscription(`${receiver.origin}/push`)
  const subscription = { endpoint, expirationTime: null, keys: { p256dh, auth } }
  expect((await ann.post('/api/chat/notifications/push-subscriptions', subscription)).status).toBe(201)
  await send({ user_id: 'ann', channels: ['web_push'], title: 'For the browser' })
  await eventually(() => at('/push').length).toBe(1)
  expect(JSON.parse(browser.decrypt(at('/push')[0]?.body ?? Buffer.alloc(0)))).toMatchObject({
    title: 'For the browser',
  })
  receiver.answer((response) => response.writeHead(410).end())
  await send({ user_id: 'ann', channels: ['web_push'] })
  await eventually(() => service.sql`select from chat.push_subscriptions`).toEqual([])
  await send({ user_id: 'ann', channels: ['web_push'] })
  expect(at('/push')).toHaveLength(2)
})
