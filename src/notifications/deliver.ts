/**
 * Deliveries: one job for each notification, way and target, tried until it is sent or given up.
 *
 * An attempt looks first whether there is still a reason to send: not what has expired or was read meanwhile (but a
 * security matter all the same: who has taken over an account reads fast), not where there is no target any more or its user has
 * said no, and not into quiet hours, unless it is critical or about security. A delivery is sent at least once: a
 * process that dies between sending and noting it sends again, under the same names, so that receivers can tell.
 */
import { z } from 'zod'
import type { Transactions } from '../db/database.ts'
import type { Backoff } from '../jobs/backoff.ts'
import type { JobHandler, JobOutcome, TakenJob } from '../jobs/jobs.ts'
import type { SendingChannel, SendOutcome } from './channels/channel.ts'
import type { EmailTarget } from './channels/email.ts'
import type { PushSubscription } from './channels/web-push.ts'
import type { WebhookTarget } from './channels/webhook.ts'
import {
  beginDelivery,
  endDelivery,
  noteFailure,
  putOffDelivery,
  removeTarget,
  type BegunDelivery,
  type DeliveryName,
} from './delivery-queries.ts'
import { deliverKind, outsideChannels } from './plan.ts'
import { quietUntil } from './quiet-hours.ts'

/** What this installation has. */
export interface SendingChannels {
  email?: SendingChannel<EmailTarget> | undefined
  web_push?: SendingChannel<PushSubscription> | undefined
  webhook?: SendingChannel<WebhookTarget> | undefined
}

export interface DeliverDeps {
  transactions: Transactions
  channels: SendingChannels
  now: () => Date
  backoff?: Backoff | undefined
}

/** Over an hour in all: as long as a mail server asks strangers to wait, or restarts. */
const attemptsMax = 8
const defaultBackoff: Backoff = { firstMs: 30_000, maxMs: 3_600_000 }
/** Deliveries at once in this process: as many as the mail server is asked for connections, and as others are patient. */
const atOnceMax = { email: 3, web_push: 8, webhook: 8 }

/** Clocks that are put back make some minutes come twice: it is not asked again at once, ms. */
const quietMinMs = 60_000

const payloadSchema = z.object({
  notificationId: z.uuid(),
  channel: z.enum(outsideChannels),
  target: z.union([z.literal(''), z.uuid()]),
})

/** One for each way that is open, by kind of job. */
export function createDeliverHandlers(deps: DeliverDeps): Record<string, JobHandler> {
  const { transactions, channels, now, backoff = defaultBackoff } = deps

  async function run(job: TakenJob, signal: AbortSignal): Promise<JobOutcome> {
    const name = payloadSchema.parse(job.payload)
    const begun = await transactions.asSystem('begin a delivery', (tx) =>
      tx.commit(() => beginDelivery(tx, name, job.id)),
    )
    if (begun === undefined)
      return { kind: 'done', write: (tx) => endDelivery(tx, name, 'skipped', 'expired') }
    const reason = reasonNotTo(name, begun)
    if (reason !== undefined) return { kind: 'done', write: (tx) => endDelivery(tx, name, 'skipped', reason) }
    const until = quietHoursOf(name, begun, now())
    if (until !== undefined) {
      const waitMs = Math.max(until.getTime() - now().getTime(), quietMinMs)
      return { kind: 'done', write: (tx) => putOffDelivery(tx, name, waitMs) }
    }
    const sent = await send(name, begun, signal)
    if (sent.kind === 'retry' && !signal.aborted)
      await transactions.asSystem('note a delivery', (tx) => tx.commit(() => noteFailure(tx, name, sent.why)))
    return outcomeOf(name, begun, sent)
  }

  async function send(name: DeliveryName, begun: BegunDelivery, signal: AbortSignal): Promise<SendOutcome> {
    const { outgoing, address, subscription, webhook } = begun
    if (name.channel === 'email' && address !== null)
      return channels.email?.send(outgoing, { address }, signal) ?? closed
    if (name.channel === 'web_push' && subscription !== null)
      return channels.web_push?.send(outgoing, subscription, signal) ?? closed
    if (name.channel === 'webhook' && webhook !== null)
      return channels.webhook?.send(outgoing, webhook, signal) ?? closed
    return closed
  }

  const handler = { attemptsMax, backoff, run }
  return Object.fromEntries(
    outsideChannels
      .filter((channel) => channels[channel] !== undefined)
      .map((channel): [string, JobHandler] => [
        deliverKind(channel),
        {
          ...handler,
          runningMax: atOnceMax[channel],
          buried: (tx, job, why) => endDelivery(tx, payloadSchema.parse(job.payload), 'failed', why),
        },
      ]),
  )
}

function outcomeOf(name: DeliveryName, begun: BegunDelivery, sent: SendOutcome): JobOutcome {
  switch (sent.kind) {
    case 'sent':
      return { kind: 'done', write: (tx) => endDelivery(tx, name, 'sent', null) }
    case 'retry':
      return sent
    case 'failed':
      // Somebody else's decision: shown with the deliveries, and no alarm of ours.
      return { kind: 'dead', why: sent.why, expected: true }
    case 'gone':
      return {
        kind: 'done',
        async write(tx) {
          await removeTarget(tx, name, begun)
          await endDelivery(tx, name, 'failed', sent.why)
        },
      }
    default:
      return sent satisfies never
  }
}

const closed: SendOutcome = { kind: 'failed', why: 'no_target' }

/** @returns a code, or undefined where it is to be sent. */
function reasonNotTo({ channel }: DeliveryName, begun: BegunDelivery): string | undefined {
  const { outgoing, expired, seen, wishes, address, subscription, webhook } = begun
  const target = { email: address, web_push: subscription, webhook }[channel]
  if (expired) return 'expired'
  // A webhook tells a machine what happened; that a person knows it already is nothing to it.
  if (seen && channel !== 'webhook' && outgoing.type !== 'security') return 'seen'
  if (target === null) return 'no_target'
  const wanted = wishes?.[outgoing.type]?.[channel] ?? wishes?.['*']?.[channel] ?? true
  return wanted ? undefined : 'muted'
}

function quietHoursOf(
  { channel }: DeliveryName,
  { outgoing, quietHours }: BegunDelivery,
  now: Date,
): Date | undefined {
  const { type, priority } = outgoing
  if (channel === 'webhook' || quietHours === null || priority === 'critical' || type === 'security')
    return undefined
  return quietUntil(quietHours, now)
}
