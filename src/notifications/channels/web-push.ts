/**
 * Door of notifications: to browsers that are not open, through the push service that each of them named (RFC 8030).
 *
 * What is sent is encrypted for the browser (RFC 8291) and signed with our key (VAPID, RFC 8292): the service in between
 * reads none of it. A page's service worker gets, as JSON, `{id, version, type, priority, title, body, icon, color, url,
 * label, data, created_at}`; `id` is meant as the `tag`, so that a newer version replaces what is shown, and what is
 * still waiting is replaced at the service (`Topic`).
 */
import { createHash } from 'node:crypto'
import webPush from 'web-push'
import type { Priority } from '../kinds.ts'
import { cutJsonBytes } from '../cut.ts'
import type { Outgoing, SendingChannel } from './channel.ts'
import { createGuardedPost, type GuardOptions } from './guarded-post.ts'

/** As the browser gave it; keys in base64url. */
export interface PushSubscription {
  endpoint: string
  p256dh: string
  auth: string
}

export interface WebPushOptions extends GuardOptions {
  /** The pair of VAPID keys, base64url. */
  publicKey: string
  privateKey: string
  /** Whom a push service may write to about us: `mailto:` or `https:`. */
  subject: string
}

/** How long a service keeps it for a browser that is away, seconds, and how much of a battery it is worth. */
const delivery: Record<Priority, { ttlS: number; urgency: 'low' | 'normal' | 'high' }> = {
  low: { ttlS: 6 * 3600, urgency: 'low' },
  medium: { ttlS: 24 * 3600, urgency: 'normal' },
  high: { ttlS: 3 * 24 * 3600, urgency: 'high' },
  critical: { ttlS: 7 * 24 * 3600, urgency: 'high' },
}

/** A signature is good for that long, seconds: services allow a day, and clocks differ. */
const signedForS = 12 * 3600

/** @throws where the keys or the subject are none. */
export function createWebPushChannel(options: WebPushOptions): SendingChannel<PushSubscription> {
  const { publicKey, privateKey, subject, now = Date.now } = options
  const post = createGuardedPost(options)
  const authorization = (origin: string) =>
    webPush.getVapidHeaders(
      origin,
      subject,
      publicKey,
      privateKey,
      'aes128gcm',
      Math.floor(now() / 1000) + signedForS,
    ).Authorization
  // Wrong keys show at the start, not with the first notification.
  authorization('https://push.example')

  return {
    async send(outgoing, { endpoint, p256dh, auth }, signal) {
      const origin = URL.parse(endpoint)?.origin
      const body = encrypt(payloadOf(outgoing), p256dh, auth)
      // Nothing will ever reach a browser through it.
      if (origin === undefined || origin === 'null' || body === undefined)
        return { kind: 'gone', why: 'invalid_subscription' }
      const { ttlS, urgency } = delivery[outgoing.priority]
      const headers = {
        'content-type': 'application/octet-stream',
        'content-encoding': 'aes128gcm',
        authorization: authorization(origin),
        ttl: String(ttlS),
        urgency,
        topic: topicOf(outgoing.id),
      }
      return post({ url: endpoint, headers, body, goneStatuses: [404, 410] }, signal)
    },
    close: () => post.close(),
  }
}

/** @returns undefined where the browser's keys are none. */
function encrypt(payload: string, p256dh: string, auth: string): Buffer | undefined {
  try {
    return webPush.encrypt(p256dh, auth, payload, 'aes128gcm').cipherText
  } catch {
    return undefined
  }
}

/** At most 32 characters of base64url, and nothing that a service could recognise. */
const topicOf = (id: string) => createHash('sha256').update(id).digest('base64url').slice(0, 32)

/** Services take 4,096 bytes, of which encryption and others' habits want their part. */
const payloadBytesMax = 3_072
/** Of the parts of a payload, as JSON: together they leave the body 500 bytes at least. */
const titleBytesMax = 600
const dataBytesMax = 700
const linkBytesMax = 800
const wordBytesMax = 100

function payloadOf({
  id,
  version,
  type,
  priority,
  title,
  body,
  icon,
  color,
  action,
  ...rest
}: Outgoing): string {
  const dataFits = Buffer.byteLength(JSON.stringify(rest.data)) <= dataBytesMax
  const payload = {
    id,
    version,
    type,
    priority,
    title: cutJsonBytes(title, titleBytesMax),
    body: '',
    icon: orNull(icon, wordBytesMax),
    color: orNull(color, wordBytesMax),
    url: orNull(action?.url, linkBytesMax),
    label: orNull(action?.label, wordBytesMax),
    // The page asks for what does not fit.
    data: dataFits ? rest.data : null,
    created_at: rest.createdAt,
  }
  const leftBytes = payloadBytesMax - Buffer.byteLength(JSON.stringify(payload))
  return JSON.stringify({ ...payload, body: cutJsonBytes(body, leftBytes) })
}

/** Half of a link or of a name would be a wrong one. */
const orNull = (text: string | null | undefined, bytesMax: number) =>
  text == null || Buffer.byteLength(JSON.stringify(text)) > bytesMax ? null : text
