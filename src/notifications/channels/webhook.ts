/**
 * Door of notifications: to a server of somebody's own, as signed POSTs (Standard Webhooks).
 *
 * `webhook-id` names a notification's version: who has seen it may drop it, since what was not answered is sent again.
 * The body is `{type: "notification", timestamp, data: {id, version, user_id, type, priority, title, body, icon, color,
 * action, data, created_at}}`. A receiver checks the signature with the target's secret (`verifySignature`) and answers
 * 2xx; 410 says that it wants no more.
 */
import type { Outgoing, SendingChannel } from './channel.ts'
import { createGuardedPost, type GuardOptions } from './guarded-post.ts'
import { signWebhook } from './webhook-signature.ts'

export { createWebhookSecret, verifySignature } from './webhook-signature.ts'

export interface WebhookTarget {
  url: string
  /** `whsec_…`, of this target alone. */
  secret: string
}

export function createWebhookChannel(options: GuardOptions): SendingChannel<WebhookTarget> {
  const { now = Date.now } = options
  const post = createGuardedPost(options)
  return {
    async send(outgoing, { url, secret }, signal) {
      const id = `${outgoing.id}.${outgoing.version}`
      const timestamp = String(Math.floor(now() / 1000))
      const body = JSON.stringify(bodyOf(outgoing))
      const signature = signWebhook(secret, { id, timestamp, body })
      if (signature === undefined) return { kind: 'failed', why: 'invalid_secret' }
      const headers = {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': signature,
      }
      return post({ url, headers, body, goneStatuses: [410] }, signal)
    },
    close: () => post.close(),
  }
}

const bodyOf = ({ userId, createdAt, ...rest }: Outgoing) => ({
  type: 'notification',
  timestamp: createdAt,
  data: { ...rest, user_id: userId, created_at: createdAt },
})
