/** Web push: what a push service sees, what the browser reads, and what the service's answers mean. */
import { importJWK, jwtVerify } from 'jose'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import webPush from 'web-push'
import type { Outgoing, SendingChannel } from '../../../src/notifications/channels/channel.ts'
import {
  createWebPushChannel,
  type PushSubscription,
  type WebPushOptions,
} from '../../../src/notifications/channels/web-push.ts'
import { createBrowser, type Browser } from '../../support/browser.ts'
import { makeCertificate, type Certificate } from '../../support/certificate.ts'
import { outgoing } from '../../support/outgoing.ts'
import { startReceiver, type Received, type Receiver } from '../../support/receiver.ts'

const never = new AbortController().signal
const keys = webPush.generateVAPIDKeys()
const subject = 'mailto:hello@chat.example'

let certificate: Certificate
let service: Receiver
let browser: Browser
let subscription: PushSubscription
let channel: SendingChannel<PushSubscription>

beforeAll(() => {
  certificate = makeCertificate(['127.0.0.1'])
})

beforeEach(async () => {
  service = await startReceiver(certificate)
  service.answer((response) => response.writeHead(201).end())
  browser = createBrowser()
  subscription = browser.subscription(`${service.origin}/push/abc?x=1`)
  channel = channelWith({})
})

afterEach(async () => {
  await channel.close()
  await service.allClosed()
  await service.close()
})

const channelWith = (options: Partial<WebPushOptions>) =>
  createWebPushChannel({ ...keys, subject, allowPrivate: true, ca: certificate.cert, ...options })

const last = (): Received => {
  const received = service.received.at(-1)
  if (received === undefined) throw new Error('nothing was received')
  return received
}
const lastPayload = () => JSON.parse(browser.decrypt(last().body)) as Record<string, unknown>

async function payloadOf(changes: Partial<Outgoing>): Promise<Record<string, unknown>> {
  expect(await channel.send(outgoing(changes), subscription, never)).toEqual({ kind: 'sent' })
  expect(Buffer.byteLength(browser.decrypt(last().body))).toBeLessThanOrEqual(3_072)
  // A service need not take more.
  expect(last().body.length).toBeLessThanOrEqual(4_096)
  return lastPayload()
}

describe('what the browser reads', () => {
  it('is the notification', async () => {
    const sent = outgoing({ version: 4, title: 'Größe 🎉' })
    await channel.send(sent, subscription, never)
    expect(lastPayload()).toEqual({
      id: sent.id,
      version: 4,
      type: 'chat_message',
      priority: 'high',
      title: 'Größe 🎉',
      body: 'Shall we talk about it?',
      icon: 'chat',
      color: '#3b6ef5',
      url: '/conversations/1',
      label: 'Read and reply',
      data: { conversation_id: '1' },
      created_at: sent.createdAt,
    })
  })

  it('is for nobody else: neither the service nor another browser can', async () => {
    await channel.send(outgoing(), subscription, never)
    expect(last().body.toString('latin1')).not.toContain('Shall we talk')
    expect(() => createBrowser().decrypt(last().body)).toThrow()
  })

  it.each([
    ['of two bytes a character', 'é'],
    ['of four', '🎉'],
    ['that JSON spells in six', '\u0001'],
    ['of quotes', '"'],
  ])('is a beginning where it is long: a text %s', async (_, char) => {
    const { title, body } = await payloadOf({ title: char.repeat(5_000), body: char.repeat(50_000) })
    for (const text of [title, body]) expect(text).toMatch(new RegExp(`^(${char})+…$`, 'u'))
    expect(String(body).length).toBeGreaterThan(150)
  })

  it('has room for a text however large all else is', async () => {
    const { url, data, icon, body } = await payloadOf({
      title: 'T'.repeat(5_000),
      body: 'B'.repeat(5_000),
      icon: 'i'.repeat(5_000),
      action: { label: 'L'.repeat(5_000), url: `/${'u'.repeat(5_000)}` },
      data: { blob: 'x'.repeat(5_000) },
    })
    // Half a link would be a wrong one: the page asks for the rest.
    expect({ url, data, icon }).toEqual({ url: null, data: null, icon: null })
    expect(String(body).length).toBeGreaterThan(500)
  })
})

describe('what the service sees', () => {
  it('is signed by us for that service alone, and for less than a day (VAPID)', async () => {
    await channel.send(outgoing(), subscription, never)
    const [, token = '', key = ''] =
      /^vapid t=(\S+), k=(\S+)$/.exec(String(last().headers.authorization)) ?? []
    expect(key).toBe(keys.publicKey)
    const point = Buffer.from(key, 'base64url')
    const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((half) => half.toString('base64url'))
    const { payload, protectedHeader } = await jwtVerify(
      token,
      await importJWK({ kty: 'EC', crv: 'P-256', x: x ?? '', y: y ?? '' }, 'ES256'),
      { audience: service.origin, subject, algorithms: ['ES256'] },
    )
    expect(protectedHeader.alg).toBe('ES256')
    const leftS = (payload.exp ?? 0) - Date.now() / 1000
    expect(leftS).toBeGreaterThan(3_600)
    expect(leftS).toBeLessThan(86_400)
  })

  it.each([
    ['low', 'low', 21_600],
    ['medium', 'normal', 86_400],
    ['high', 'high', 259_200],
    ['critical', 'high', 604_800],
  ] as const)('is of priority %s: urgency %s, kept for %i seconds', async (priority, urgency, ttlS) => {
    await channel.send(outgoing({ priority }), subscription, never)
    expect(last().headers).toMatchObject({
      ttl: String(ttlS),
      urgency,
      'content-encoding': 'aes128gcm',
      'content-type': 'application/octet-stream',
    })
    expect(last()).toMatchObject({ method: 'POST', path: '/push/abc?x=1' })
  })

  it('is a topic: a newer version replaces one that waits, another notification does not', async () => {
    const sent = outgoing()
    await channel.send(sent, subscription, never)
    await channel.send({ ...sent, version: 2 }, subscription, never)
    await channel.send(outgoing(), subscription, never)
    const topics = service.received.map(({ headers }) => String(headers['topic']))
    expect(topics[0]).toMatch(/^[A-Za-z0-9_-]{1,32}$/)
    expect(topics[1]).toBe(topics[0])
    expect(topics[2]).not.toBe(topics[0])
  })
})

describe('what the service answers', () => {
  it.each([
    [200, {}, { kind: 'sent' }],
    [201, {}, { kind: 'sent' }],
    [202, {}, { kind: 'sent' }],
    [404, {}, { kind: 'gone', why: 'gone' }],
    [410, {}, { kind: 'gone', why: 'gone' }],
    [413, {}, { kind: 'failed', why: 'too_large' }],
    [429, { 'retry-after': '30' }, { kind: 'retry', why: 'rate_limited', afterMs: 30_000 }],
    [500, {}, { kind: 'retry', why: 'unavailable' }],
    [503, {}, { kind: 'retry', why: 'unavailable' }],
    [400, {}, { kind: 'failed', why: 'refused' }],
    [403, {}, { kind: 'failed', why: 'refused' }],
    [307, { location: 'https://127.0.0.1/' }, { kind: 'failed', why: 'redirected' }],
  ])('%i %j is %j', async (status, headers, expected) => {
    service.answer((response) => response.writeHead(status, headers).end('words of theirs'))
    expect(await channel.send(outgoing(), subscription, never)).toEqual(expected)
  })

  it('is nothing for too long: it is tried again', async () => {
    const hurried = channelWith({ timeoutMs: 200 })
    service.answer(() => undefined)
    expect(await hurried.send(outgoing(), subscription, never)).toEqual({ kind: 'retry', why: 'timeout' })
    await hurried.close()
  })
})

describe('a subscription that somebody made up', () => {
  it.each([
    ['a key that is no point of the curve', { p256dh: Buffer.alloc(65, 4).toString('base64url') }],
    ['a key that is too short', { p256dh: 'BAAA' }],
    ['no key', { p256dh: '' }],
    ['a secret that is too short', { auth: 'AAAA' }],
    ['no URL', { endpoint: 'push' }],
    ['a URL without a server', { endpoint: 'data:text/plain,x' }],
  ])('is gone: %s', async (_, wrong) => {
    expect(await channel.send(outgoing(), { ...subscription, ...wrong }, never)).toEqual({
      kind: 'gone',
      why: 'invalid_subscription',
    })
    expect(service.connections()).toBe(0)
  })

  it.each([
    ['https://127.0.0.1:PORT/push', 'address_not_allowed'],
    ['https://[::1]:PORT/push', 'address_not_allowed'],
    ['http://push.example:PORT/push', 'url_not_allowed'],
  ])('leads nowhere inside: %s', async (endpoint, why) => {
    const careful = channelWith({ allowPrivate: false })
    const inside = { ...subscription, endpoint: endpoint.replace('PORT', String(service.port)) }
    expect(await careful.send(outgoing(), inside, never)).toEqual({ kind: 'failed', why })
    expect(service.connections()).toBe(0)
    await careful.close()
  })
})

it.each([{ publicKey: 'x' }, { privateKey: 'x' }, { subject: 'hello@chat.example' }])(
  'refuses to start with what push services would refuse: %j',
  (wrong) => {
    expect(() => channelWith(wrong)).toThrow()
  },
)
