/** SQL of what services ask about notifications, as functions of a transaction as the system. */
import { v7 as uuidv7 } from 'uuid'
import { listDead } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { WebhookBody } from './bodies.ts'
import type { NotificationType } from './kinds.ts'
import { notificationColumns, toNotification, type NotificationRow } from './log.ts'
import { deliverKind, outsideChannels, type OutsideChannel } from './plan.ts'
import type { Notification } from './schemas.ts'

export interface Delivery {
  channel: OutsideChannel
  target: string
  status: 'queued' | 'sent' | 'failed' | 'skipped'
  attempts: number
  why: string | null
  updated_at: string
}

export interface NotificationInFull {
  notification: Notification
  user_id: string
  dedupe_key: string | null
  deliveries: Delivery[]
}

/** One, wherever it stands, and what became of it on its other ways. */
export async function readInFull(tx: Tx, id: string): Promise<NotificationInFull | undefined> {
  const [[row], deliveries] = await Promise.all([
    tx.execute<NotificationRow & { user_id: string; dedupe_key: string | null }>(sql`
      select ${notificationColumns}, n.user_id, n.dedupe_key from chat.notifications n where n.id = ${id}`),
    tx.execute<Delivery>(sql`
      select channel, target, status, attempts, last_error as why, updated_at from chat.deliveries
      where notification_id = ${id} order by channel, target`),
  ])
  if (row === undefined) return undefined
  const notification = toNotification(row)
  return { notification, user_id: row.user_id, dedupe_key: row.dedupe_key, deliveries }
}

type Counts = Record<Delivery['status'], number>

export interface DispatchStatus {
  deliveries: Record<OutsideChannel, Counts>
  /** When the one that waits longest should have been sent; null: none is due. */
  oldest_due_at: string | null
  scheduled: number
  dead: DeadDelivery[]
  broadcasts: Broadcast[]
}

export interface DeadDelivery {
  id: string
  notification_id: string
  channel: string
  target: string
  user_id: string | null
  attempts: number
  why: string | null
  created_at: string
}

export interface Broadcast {
  id: string
  sent: number
  created_at: string
  finished_at: string | null
}

export const deliverKinds = outsideChannels.map(deliverKind)

/** Of dead deliveries and of broadcasts: the newest. */
const listedMax = 100
/** What counts are of, hours. */
export const countedHours = 24

export async function readDispatchStatus(tx: Tx): Promise<DispatchStatus> {
  const [counts, [due], dead, broadcasts] = await Promise.all([
    tx.execute<{ channel: OutsideChannel; status: Delivery['status']; count: number }>(sql`
      select channel, status, count(*)::int as count from chat.deliveries
      where created_at > now() - make_interval(hours => ${countedHours}) group by channel, status`),
    tx.execute<{ at: string | null; scheduled: number }>(sql`
      select (select min(run_at) from chat.jobs
          where status = 'queued' and kind = any(${deliverKinds}::text[]) and run_at <= now()) as at,
        (select count(*)::int from chat.notifications where seq is null and removed_at is null) as scheduled`),
    listDead(tx, deliverKinds, listedMax),
    tx.execute<Broadcast>(sql`
      select id, sent, created_at, finished_at from chat.broadcasts order by created_at desc limit ${listedMax}`),
  ])
  const none = (): Counts => ({ queued: 0, sent: 0, failed: 0, skipped: 0 })
  const deliveries = { email: none(), web_push: none(), webhook: none() }
  for (const { channel, status, count } of counts) deliveries[channel][status] = count
  return {
    deliveries,
    oldest_due_at: due?.at ?? null,
    scheduled: due?.scheduled ?? 0,
    dead: dead.map(({ id, key, user_id, attempts, why, created_at }) => {
      const [notification_id = '', channel = '', target = ''] = key.split(':')
      return { id, notification_id, channel, target, user_id, attempts, why, created_at }
    }),
    broadcasts,
  }
}

export interface Webhook {
  id: string
  url: string
  user_id: string | null
  types: NotificationType[] | null
  created_at: string
}

/** For everybody: each of their notifications goes to all of these. */
export const webhooksForAllMax = 10
/** For one user. */
export const webhooksOfUserMax = 10

/** @returns undefined where there are as many as there may be. */
export async function insertWebhook(
  tx: Tx,
  {
    url,
    user_id = null,
    types = null,
  }: { [K in keyof WebhookBody]: WebhookBody[K] | null } & { url: string },
  secret: string,
): Promise<string | undefined> {
  const id = uuidv7()
  const max = user_id === null ? webhooksForAllMax : webhooksOfUserMax
  const [, rows] = await Promise.all([
    // Two that come at once are counted one after the other.
    tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('webhooks', 0))`),
    tx.execute(sql`
      insert into chat.webhook_targets (id, url, secret, user_id, types)
      select ${id}, ${url}, ${secret}, ${user_id}, ${types}::text[]
      where (select count(*) from chat.webhook_targets where user_id is not distinct from ${user_id}) < ${max}
      returning id`),
  ])
  return rows.length > 0 ? id : undefined
}

export async function readWebhookSecret(tx: Tx, id: string): Promise<string | undefined> {
  const [row] = await tx.execute<{ secret: string }>(sql`
    select secret from chat.webhook_targets where id = ${id}::uuid`)
  return row?.secret
}

export async function listWebhooks(tx: Tx, limit: number): Promise<Webhook[]> {
  return tx.execute<Webhook>(sql`
    select id, url, user_id, types, created_at from chat.webhook_targets order by created_at desc, id desc limit ${limit}`)
}

/** @returns whether it was there. */
export async function deleteWebhook(tx: Tx, id: string): Promise<boolean> {
  const gone = await tx.execute(sql`delete from chat.webhook_targets where id = ${id}::uuid returning id`)
  return gone.length > 0
}
