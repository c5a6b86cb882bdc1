/** Webhooks: what a receiver is sent, and how it knows that it is from us. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SendingChannel } from '../../../src/notifications/channels/channel.ts'
import {
  createWebhookChannel,
  createWebhookSecret,
  verifySignature,
  type WebhookTarget,
} from '../../../src/notifications/channels/webhook.ts'
import { outgoing } from '../../support/outgoing.ts'
import { startReceiver, type Received, type Receiver } from '../../support/receiver.ts'

const never = new AbortController().signal
const nowMs = Date.parse('2026-01-02T03:04:05.999Z')
const timestamp = String(Math.floor(nowMs / 1000))

describe('the channel', () => {
  const secret = createWebhookSecret()
  let receiver: Receiver
  let channel: SendingChannel<WebhookTarget>
  let target: WebhookTarget

  beforeEach(async () => {
    receiver = await startReceiver()
    channel = createWebhookChannel({ allowPrivate: true, now: () => nowMs })
    target = { url: `${receiver.origin}/hook`, secret }
  })

  afterEach(async () => {
    await channel.close()
    await receiver.allClosed()
    await receiver.close()
  })

  const last = (): Received => {
    const received = receiver.received.at(-1)
    if (received === undefined) throw new Error('nothing was received')
    return received
  }
  const lastHeader = (name: string) => String(last().headers[name])

  it('posts a notification as JSON', async () => {
    const sent = outgoing({ title: 'Größe 🎉', version: 3 })
    expect(await channel.send(sent, target, never)).toEqual({ kind: 'sent' })
    expect(last()).toMatchObject({ method: 'POST', path: '/hook' })
    expect(lastHeader('content-type')).toBe('application/json')
    expect(JSON.parse(last().body.toString())).toEqual({
      type: 'notification',
      timestamp: sent.createdAt,
      data: {
        id: sent.id,
        version: 3,
        user_id: 'ann',
        type: 'chat_message',
        priority: 'high',
        title: 'Größe 🎉',
        body: sent.body,
        icon: 'chat',
        color: '#3b6ef5',
        action: sent.action,
        data: { conversation_id: '1' },
        created_at: sent.createdAt,
      },
    })
  })

  it('signs exactly what it sends, with the secret of the target', async () => {
    await channel.send(outgoing({ body: 'naïve 🎉' }), target, never)
    const signed = {
      id: lastHeader('webhook-id'),
      timestamp: lastHeader('webhook-timestamp'),
      body: last().body,
    }
    expect(signed.timestamp).toBe(timestamp)
    expect(verifySignature(secret, signed, lastHeader('webhook-signature'), { nowMs })).toBe(true)
    const other = createWebhookSecret()
    expect(verifySignature(other, signed, lastHeader('webhook-signature'), { nowMs })).toBe(false)
  })

  it('has the same id when it is tried again, and another one for a newer version', async () => {
    const sent = outgoing({ version: 1 })
    await channel.send(sent, target, never)
    await channel.send(sent, target, never)
    await channel.send({ ...sent, version: 2 }, target, never)
    const ids = receiver.received.map(({ headers }) => headers['webhook-id'])
    expect(ids).toEqual([`${sent.id}.1`, `${sent.id}.1`, `${sent.id}.2`])
  })

  it.each([
    [410, { kind: 'gone', why: 'gone' }],
    [404, { kind: 'failed', why: 'refused' }],
    [503, { kind: 'retry', why: 'unavailable', afterMs: 5_000 }],
  ])('takes %i for %j', async (status, expected) => {
    receiver.answer((response) => response.writeHead(status, { 'retry-after': '5' }).end())
    expect(await channel.send(outgoing(), target, never)).toEqual(expected)
  })

  it.each(['', 'whsec_', 'whsec_c2hvcnQ=', 'secret', 'whsec_***'])(
    'sends nothing that nobody could check: the secret %j',
    async (wrong) => {
      const outcome = await channel.send(outgoing(), { ...target, secret: wrong }, never)
      expect(outcome).toEqual({ kind: 'failed', why: 'invalid_secret' })
      expect(receiver.connections()).toBe(0)
    },
  )

  it('goes nowhere but to the internet unless told otherwise', async () => {
    const careful = createWebhookChannel({ allowPrivate: false })
    const send = (url: string) => careful.send(outgoing(), { ...target, url }, never)
    expect(await send(target.url)).toEqual({ kind: 'failed', why: 'url_not_allowed' })
    expect(await send(target.url.replace('http:', 'https:'))).toEqual({
      kind: 'failed',
      why: 'address_not_allowed',
    })
    expect(receiver.connections()).toBe(0)
    await careful.close()
  })
})

describe('verifySignature', () => {
  // The example of the standard's own libraries.
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const signed = {
    id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    timestamp: '1614265330',
    body: '{"test": 2432232314}',
  }
  const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
  const then = { nowMs: 1_614_265_330_000 }

  it("agrees with the standard's example", () => {
    expect(verifySignature(secret, signed, signature, then)).toBe(true)
    expect(verifySignature(secret, { ...signed, body: Buffer.from(signed.body) }, signature, then)).toBe(true)
  })

  it('takes one of several signatures, while secrets change', () => {
    expect(verifySignature(secret, signed, `v1,AAAA v1a,xyz ${signature}`, then)).toBe(true)
  })

  it.each([
    ['body', { ...signed, body: '{"test": 2432232315}' }],
    ['id', { ...signed, id: 'msg_q5jXN8AQM9LWM0D4loKWxJek' }],
    ['timestamp', { ...signed, timestamp: '1614265331' }],
    ['borders', { ...signed, id: `${signed.id}.1614265330`, timestamp: '1614265330' }],
  ])('notices another %s', (_, changed) => {
    expect(verifySignature(secret, changed, signature, then)).toBe(false)
  })

  it.each(['', 'v1,', 'v1', signature.replace('v1,', 'v2,'), signature.slice(0, -1), `${signature}=`])(
    'takes %j for no signature',
    (wrong) => {
      expect(verifySignature(secret, signed, wrong, then)).toBe(false)
    },
  )

  it('takes nothing from a recording, nor from the future', () => {
    const at = (offsetS: number) =>
      verifySignature(secret, signed, signature, { nowMs: then.nowMs + offsetS * 1000 })
    expect([-301, -300, 0, 300, 301].map(at)).toEqual([false, true, true, true, false])
    expect(verifySignature(secret, { ...signed, timestamp: 'now' }, signature, then)).toBe(false)
  })
})

it('makes secrets of 32 random bytes', () => {
  const secrets = [createWebhookSecret(), createWebhookSecret()]
  expect(secrets[0]).not.toBe(secrets[1])
  for (const secret of secrets) {
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    expect(Buffer.from(secret.slice(6), 'base64')).toHaveLength(32)
  }
})
