/**
 * SQL of deliveries. A delivery that is planned anew has no attempts: whoever began one before finds that out when it
 * ends, and does not take the new plan for done.
 */
import { renew } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Outgoing } from './channels/channel.ts'
import { deliverJob, deliverKind, type DeliverPayload, type OutsideChannel } from './plan.ts'
import type { QuietHours } from './quiet-hours.ts'

/** Which delivery: of what, by which way, to which of its targets. */
export type DeliveryName = Pick<DeliverPayload, 'notificationId' | 'channel' | 'target'>

/** What there is to send, and all that speaks against it, as of one moment. */
export interface BegunDelivery {
  outgoing: Outgoing
  /** It is no more. */
  expired: boolean
  /** Its user has read or archived it. */
  seen: boolean
  wishes: Record<string, Partial<Record<OutsideChannel, boolean>>> | null
  quietHours: QuietHours | null
  address: string | null
  subscription: { endpoint: string; p256dh: string; auth: string } | null
  webhook: { url: string; secret: string } | null
}

interface BegunRow extends Omit<Outgoing, 'userId' | 'version' | 'createdAt'> {
  user_id: string
  created_at: string
  version: number
  expired: boolean
  seen: boolean
  wishes: BegunDelivery['wishes']
  quiet_hours: QuietHours | null
  email: string | null
  endpoint: string | null
  p256dh: string | null
  auth: string | null
  url: string | null
  secret: string | null
}

/**
 * Counts an attempt, and reads what it needs.
 *
 * @param jobId whose job it is: what it was told may have been renewed since it was taken.
 * @returns undefined where there is nothing to deliver any more.
 */
export async function beginDelivery(
  tx: Tx,
  { notificationId, channel, target }: DeliveryName,
  jobId: string,
): Promise<BegunDelivery | undefined> {
  const targetId = target === '' ? null : target
  const [row] = await tx.execute<BegunRow>(sql`
    with begun as (
      update chat.deliveries set attempts = attempts + 1, updated_at = now()
      where notification_id = ${notificationId} and channel = ${channel} and target = ${target} and status = 'queued'
      returning notification_id
    )
    select n.id, n.user_id, n.type, n.priority, n.title, n.body, n.icon, n.color, n.action, n.data, n.created_at,
      coalesce((j.payload ->> 'version')::float8, n.seq::float8) as version,
      n.removed_at is not null or n.expires_at <= now() as expired,
      n.read_at is not null or n.archived_at is not null as seen,
      p.channels as wishes, p.quiet_hours, p.email, s.endpoint, s.p256dh, s.auth, w.url, w.secret
    from begun join chat.notifications n on n.id = begun.notification_id
      left join chat.jobs j on j.id = ${jobId}
      left join chat.notification_preferences p on p.user_id = n.user_id
      left join chat.push_subscriptions s on s.id = ${targetId}::uuid and s.user_id = n.user_id
      left join chat.webhook_targets w on w.id = ${targetId}::uuid`)
  if (row === undefined) return undefined
  const { id, type, priority, title, body, icon, color, action, data, version } = row
  return {
    outgoing: {
      ...{ id, version, type, priority, title, body, icon, color, action, data },
      userId: row.user_id,
      createdAt: row.created_at,
    },
    expired: row.expired,
    seen: row.seen,
    wishes: row.wishes,
    quietHours: row.quiet_hours,
    address: row.email,
    subscription:
      row.endpoint === null || row.p256dh === null || row.auth === null
        ? null
        : { endpoint: row.endpoint, p256dh: row.p256dh, auth: row.auth },
    webhook: row.url === null || row.secret === null ? null : { url: row.url, secret: row.secret },
  }
}

const named = ({ notificationId, channel, target }: DeliveryName) =>
  sql`notification_id = ${notificationId} and channel = ${channel} and target = ${target}`

/** How it ended. In the transaction that ends its job: where it was planned anew meanwhile, there is another one. */
export async function endDelivery(
  tx: Tx,
  name: DeliveryName,
  status: 'sent' | 'failed' | 'skipped',
  why: string | null,
): Promise<void> {
  const ended = await tx.execute(sql`
    update chat.deliveries set status = ${status}, last_error = ${why}, updated_at = now()
    where ${named(name)} and status = 'queued' and attempts > 0 returning status`)
  if (ended.length === 0) await queueAgain(tx, name)
}

/** Not now: it was no attempt. */
export async function putOffDelivery(tx: Tx, name: DeliveryName, afterMs: number): Promise<void> {
  await tx.execute(sql`
    update chat.deliveries set attempts = greatest(attempts - 1, 0) where ${named(name)} and status = 'queued'`)
  await queueAgain(tx, name, afterMs)
}

/** Why it did not work this time, for whoever asks. */
export async function noteFailure(tx: Tx, name: DeliveryName, why: string): Promise<void> {
  await tx.execute(sql`
    update chat.deliveries set last_error = ${why}, updated_at = now()
    where ${named(name)} and status = 'queued' and attempts > 0`)
}

/** Where it still waits to be delivered. */
async function queueAgain(tx: Tx, name: DeliveryName, afterMs = 0): Promise<void> {
  const [row] = await tx.execute<{ user_id: string; version: number }>(sql`
    select d.user_id, n.seq::float8 as version from chat.deliveries d
    join chat.notifications n on n.id = d.notification_id
    where ${named(name)} and d.status = 'queued' and n.seq is not null`)
  if (row === undefined) return
  const { notificationId, channel, target } = name
  const job = deliverJob({ notificationId, channel, target, version: row.version }, row.user_id)
  await renew(tx, deliverKind(channel), [job], afterMs)
}

/** The target said that it is no more: nothing is sent there again. */
export async function removeTarget(
  tx: Tx,
  { channel, target }: DeliveryName,
  begun: BegunDelivery,
): Promise<void> {
  switch (channel) {
    case 'web_push':
      await tx.execute(sql`delete from chat.push_subscriptions where id = ${target}::uuid`)
      return
    case 'webhook':
      await tx.execute(sql`delete from chat.webhook_targets where id = ${target}::uuid`)
      return
    case 'email':
      await tx.execute(sql`
        update chat.notification_preferences set email = null, updated_at = now()
        where user_id = ${begun.outgoing.userId} and email = ${begun.address}`)
      return
    default:
      return channel satisfies never
  }
}

/** What was given up, and is queued again by hand. */
export async function reviveDeliveries(tx: Tx, keys: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update chat.deliveries d set status = 'queued', attempts = 0, updated_at = now()
    from unnest(${keys}::text[]) as k (key)
    where d.notification_id = split_part(k.key, ':', 1)::uuid and d.channel = split_part(k.key, ':', 2)
      and d.target = split_part(k.key, ':', 3)`)
}
