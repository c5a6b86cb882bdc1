/**
 * Which ways a notification takes besides the inbox: planned in the transaction in which it appears or changes, one
 * delivery and one job for each target.
 *
 * A way is taken where the notification names it, this installation has it, and its user has not said no. What changes
 * goes out again by webhook each time, by web push unless it is on its way (progress below 100), and by e-mail only with
 * its last stage: nobody wants a letter for every step. Escalation (escalate.ts) is also begun here.
 */
import { renew } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Published } from './inbox.ts'
import type { Channel, Priority } from './kinds.ts'

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
  { escalateAfterMs = pushAfterMs }: { escalateAfterMs?: number | undefined } = {},
): Planner {
  const canEscalate = open.includes('email') || open.includes('web_push')

  return {
    open,
    async plan(tx, appeared) {
      const urgent = canEscalate ? appeared.filter(({ priority }) => isUrgent(priority)) : []
      const sent = appeared.filter(({ channels }) => open.some((channel) => channels.includes(channel)))
      if (urgent.length > 0)
        await renew(
          tx,
          escalateKind,
          urgent.map(({ id, userId }) => ({ key: id, userId, payload: {} })),
          escalateAfterMs,
        )
      if (sent.length > 0) {
        const ids = sent.map(({ id }) => id)
        await queue(tx, await findTargets(tx, ids, { channels: open, named: true }))
      }
      return urgent.length > 0 || sent.length > 0
    },
    async planOne(tx, id, channel) {
      await queue(tx, await findTargets(tx, [id], { channels: [channel], named: false }))
    },
  }
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
    return [{ id, userId, priority, channels }]
  })

interface Target {
  id: string
  user_id: string
  channel: OutsideChannel
  target: string
  seq: number
}

/** @param named only the ways that the notifications name, and of what has changed only those that are told of it. */
async function findTargets(
  tx: Tx,
  ids: readonly string[],
  { channels, named }: { channels: readonly OutsideChannel[]; named: boolean },
): Promise<Target[]> {
  return tx.execute<Target>(sql`
    with appeared as (
      select n.id, n.user_id, n.type, n.progress, n.seq, n.channels, n.updated_at, p.channels as wishes, p.email,
        n.appeared_at < n.updated_at as changed
      from chat.notifications n left join chat.notification_preferences p on p.user_id = n.user_id
      where n.id = any(${ids}::uuid[]) and n.seq is not null and n.removed_at is null
    ), way as (
      select a.*, c.channel from appeared a cross join unnest(${channels}::text[]) as c (channel)
      where coalesce((a.wishes -> a.type ->> c.channel)::boolean, (a.wishes -> '*' ->> c.channel)::boolean, true)
        and (not ${named} or (c.channel = any(a.channels) and (not a.changed or c.channel = 'webhook'
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
    where not exists (select from chat.deliveries d where d.notification_id = t.id and d.channel = t.channel
      and d.target = t.target and d.created_at >= t.updated_at)
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
      insert into chat.deliveries (notification_id, channel, target, user_id, status)
      select t.*, 'queued' from unnest(${column(({ id }) => id)}::uuid[], ${column(({ channel }) => channel)}::text[],
        ${column(({ target }) => target)}::text[], ${column(({ user_id }) => user_id)}::text[]) as t
      on conflict (notification_id, channel, target) do update set status = 'queued', attempts = 0, last_error = null,
        user_id = excluded.user_id, created_at = now(), updated_at = now()`),
  ])
}
