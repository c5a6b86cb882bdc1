/**
 * Door of outbox: notifications to another service's inbox, `POST {url}/api/notifications/send`.
 *
 * 2xx: it has it. 4xx, but for those that ask for patience: it never will. All else, and silence: it is away.
 */
import { Agent, request } from 'undici'
import type { EventToSend, Sink } from './sink.ts'

export interface BridgeSink extends Sink {
  /** After the relay. */
  close: () => Promise<void>
}

/** For the whole answer, ms: it is one row of theirs. */
const timeoutDefaultMs = 5_000
/** Requests at once: it is one service among others that talk to it. */
const atOnceMax = 8
/** What is read of an answer, so that its connection can be used again; a longer one costs that connection. */
const bodyBytesMax = 64 * 1024
/** Not now, rather than never: too slow, too early, too many; and a wrong key, which somebody will set right. */
const patience: ReadonlySet<number> = new Set([401, 403, 408, 425, 429])

export function createBridgeSink(options: {
  /** Origin, and a path perhaps. */
  url: string
  serviceKey?: string | undefined
  timeoutMs?: number
}): BridgeSink {
  const { url, serviceKey, timeoutMs = timeoutDefaultMs } = options
  const agent = new Agent({ connect: { timeout: timeoutMs }, connections: atOnceMax, allowH2: false })
  const target = `${url.replace(/\/+$/, '')}/api/notifications/send`

  return {
    // Whether it is there is only known by asking.
    isUp: () => true,
    atOnceMax,
    async send(event) {
      // Redirects are not followed: one could take our key to another host.
      const { statusCode, body } = await request(target, {
        dispatcher: agent,
        method: 'POST',
        headers: {
          ...(serviceKey !== undefined && { authorization: `Bearer ${serviceKey}` }),
          'content-type': 'application/json',
          'idempotency-key': event.id,
        },
        body: bodyOf(event),
        signal: AbortSignal.timeout(timeoutMs),
      })
      // What it says is nothing to us: its status is its answer.
      await body.dump({ limit: bodyBytesMax }).catch(() => undefined)
      if (statusCode >= 200 && statusCode < 300) return 'sent'
      const refused = statusCode >= 400 && statusCode < 500 && !patience.has(statusCode)
      if (refused) return { refused: `status_${statusCode}` }
      throw new Error(`the notification service answered ${statusCode}`)
    },
    close: () => agent.destroy(),
  }
}

const bodyOf = ({ id, payload: { user_id, data } }: EventToSend) =>
  JSON.stringify({ user_id, notification: data, event_id: id })
