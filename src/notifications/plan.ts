/**
 * Which ways a notification takes besides the inbox: planned in the transaction in which it appears or changes, one
 * delivery and one job for each target.
 *
 * A way is taken where the notification names it, this installation has it, and its user has not said no. What changes
 * goes out again by webhook each time, by web push unless it is on its way (progress below 100), and by e-mail only with
 * its last stage: nobody wants a letter for every step. Escalation (escalate.ts) is also begun here. Other services are
 * told of everything, where there is an outbox.
 */
import { renew } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Published } from './inbox.ts'
import type { Channel, Priority } from './kinds.ts'
import { notificationColumns, toNotification, type NotificationRow } from './log.ts'

/** Ways out of the house. */
export const outsideChannels = ['email', 'web_push', 'webhook'] as const satisfies readonly Channel[]
export type OutsideChannel = (typeof outsideChannels)[number]

/** One kind of job for each channel: a slow mail server makes no web push wait. */
export const deliverKind = (channel: OutsideChannel) => `deliver_${channel}`
export const escalateKind = 'escalate'

export interface Appeared {
  id: string
  userId: string
  priority: Priority
  channels: readonly Channel[]
  /** Of this transaction: what has changed in it since is new all the same. */
  isNew: boolean
}

export interface Planner {
  /** The last work of the transaction, as the system. @returns whether there is something to do. */
  plan(tx: Tx, appeared: readonly Appeared[]): Promise<boolean>
  /** By this way, whether the notification names it or not, unless this version goes it already. */
  planOne(tx: Tx, id: string, channel: OutsideChannel): Promise<void>
  /** What this installation has. */
  open: readonly OutsideChannel[]
}

/** A device that is there acknowledges within moments: who has not after this long is somewhere else, ms. */
export const pushAfterMs = 30_000

export function createPlanner(
  open: readonly OutsideChannel[],
  {
    escalateAfterMs = pushAfterMs,
    outbox,
  }: { escalateAfterMs?: number | undefined; outbox?: Outbox | undefined } = {},
): Planner {
  const canEscalate = open.includes('email') || open.includes('web_push')

  return {
    open,
    async plan(tx, appeared) {
      const rows = eachOnce(appeared)
      // Beside the ways of ours: neither needs the other.
      const told = outbox && tellServices(tx, outbox, rows)
      told?.catch(() => undefined)
      const urgent = canEscalate ? rows.filter(({ priority }) => isUrgent(priority)) : []
      const sent = rows.filter(({ channels }) => open.some((channel) => channels.includes(channel)))
      if (urgent.length > 0)
        await renew(
          tx,
          escalateKind,
          urgent.map(({ id, userId }) => ({ key: id, userId, payload: {} })),
          escalateAfterMs,
        )
      if (sent.length > 0) await queue(tx, await findTargets(tx, sent, open))
      await told
      return urgent.length > 0 || sent.length > 0
    },
    async planOne(tx, id, channel) {
      await queue(tx, await findTargets(tx, [{ id }], [channel]))
    },
  }
}

/** A row that was told twice in one transaction is one, and goes all the ways that were named. The last one counts. */
function eachOnce(appeared: readonly Appeared[]): Appeared[] {
  const rows = new Map<string, Appeared>()
  for (const row of appeared) {
    const before = rows.get(row.id)
    const channels = new Set([...(before?.channels ?? []), ...row.channels])
    rows.set(row.id, { ...row, channels: [...channels], isNew: row.isNew || before?.isNew === true })
  }
  return [...rows.values()]
}

/** As their users see them now, each user's in the order of their log. */
async function tellServices(tx: Tx, outbox: Outbox, rows: readonly Appeared[]): Promise<void> {
  if (rows.length === 0 || !outbox.on('notification.events')) return
  const users = new Map(rows.map(({ id, userId }) => [id, userId]))
  const shown = await tx.execute<NotificationRow>(sql`
    select ${notificationColumns} from chat.notifications n where n.id = any(${[...users.keys()]}::uuid[]) order by n.seq`)
  await outbox.append(
    tx,
    shown.map((row) => ({
      routingKey: 'notification.events',
      userId: users.get(row.id) ?? '',
      data: toNotification(row),
    })),
  )
}

const isUrgent = (priority: Priority) => priority === 'high' || priority === 'critical'

/** What came of `publish`, for `plan`: the entries in their order, and what became of each. */
export const appearedOf = (
  entries: readonly { content: Pick<Appeared, 'priority' | 'channels'> }[],
  published: readonly Published[],
): Appeared[] =>
  published.flatMap(({ id, userId, outcome }, index) => {
    const content = entries[index]?.content
    if (content === undefined || (outcome !== 'new' && outcome !== 'changed')) return []
    const { priority, channels } = content
    return [{ id, userId, priority, channels, isNew: outcome === 'new' }]
  })

interface Target {
  id: string
  user_id: string
  channel: OutsideChannel
  target: string
  seq: number
}

/**
 * @param rows with the ways that each of them names: those that are new or have changed just now, of which only some ways
 * are told. Without, each way that it does not go already.
 */
async function findTargets(
  tx: Tx,
  rows: readonly (Pick<Appeared, 'id'> & Partial<Appeared>)[],
  channels: readonly OutsideChannel[],
): Promise<Target[]> {
  return tx.execute<Target>(sql`
    with appeared as (
      select n.id, n.user_id, n.type, n.progress, n.seq, n.updated_at, p.channels as wishes, p.email,
        string_to_array(r.channels, ',') as channels, not r.is_new and n.appeared_at < n.updated_at as changed
      from unnest(${rows.map(({ id }) => id)}::uuid[], ${rows.map((row) => row.channels?.join() ?? null)}::text[],
        ${rows.map(({ isNew = false }) => isNew)}::boolean[]) as r (id, channels, is_new)
      join chat.notifications n on n.id = r.id and n.seq is not null and n.removed_at is null
      left join chat.notification_preferences p on p.user_id = n.user_id
    ), way as (
      select a.*, c.channel from appeared a cross join unnest(${channels}::text[]) as c (channel)
      where coalesce((a.wishes -> a.type ->> c.channel)::boolean, (a.wishes -> '*' ->> c.channel)::boolean, true)
        and (a.channels is null or (c.channel = any(a.channels) and (not a.changed or c.channel = 'webhook'
          or a.progress = 100 or (c.channel = 'web_push' and a.progress is null))))
    ), target as (
      select w.*, '' as target from way w where w.channel = 'email' and w.email is not null
      union all
      select w.*, s.id::text from way w join chat.push_subscriptions s on s.user_id = w.user_id
      where w.channel = 'web_push'
      union all
      select w.*, t.id::text from way w join chat.webhook_targets t
        on (t.user_id is null or t.user_id = w.user_id) and (t.types is null or w.type = any(t.types))
      where w.channel = 'webhook'
    )
    select t.id, t.user_id, t.channel, t.target, t.seq::float8 as seq from target t
    where t.channels is not null or not exists (select from chat.deliveries d where d.notification_id = t.id
      and d.channel = t.channel and d.target = t.target and d.created_at >= t.updated_at)
    order by t.id, t.channel, t.target`)
}

/** What a job is told: which delivery, and as which version its receiver may know it. */
export interface DeliverPayload extends Record<string, unknown> {
  notificationId: string
  channel: OutsideChannel
  target: string
  version: number
}

export const deliverJob = (payload: DeliverPayload, userId: string) => ({
  key: `${payload.notificationId}:${payload.channel}:${payload.target}`,
  userId,
  payload,
})

/** The jobs first: whoever ends one locks it before its delivery, too. */
async function queue(tx: Tx, targets: readonly Target[]): Promise<void> {
  if (targets.length === 0) return
  const byChannel = Map.groupBy(targets, ({ channel }) => channel)
  const column = <T>(of: (target: Target) => T) => targets.map(of)
  await Promise.all([
    ...[...byChannel].map(([channel, some]) =>
      renew(
        tx,
        deliverKind(channel),
        some.map(({ id, user_id, target, seq }) =>
          deliverJob({ notificationId: id, channel, target, version: seq }, user_id),
        ),
      ),
    ),
    tx.execute(sql`
      insert into chat.deliveries (notification_id, channel, target, user_id, status, created_at)
      select t.*, 'queued', clock_timestamp() from unnest(${column(({ id }) => id)}::uuid[], ${column(({ channel }) => channel)}::text[],
        ${column(({ target }) => target)}::text[], ${column(({ user_id }) => user_id)}::text[]) as t
      on conflict (notification_id, channel, target) do update set status = 'queued', attempts = 0, last_error = null,
        user_id = excluded.user_id, created_at = excluded.created_at, updated_at = excluded.created_at`),
  ])
}
