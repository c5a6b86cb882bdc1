/**
 * What people want to be sent, and where: preferences, browsers that take web push, addresses that a service told. The
 * wire shapes, and their SQL as functions of a transaction.
 */
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import { sql } from '../db/sql.ts'
import type { Caller, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { text } from '../http/text.ts'
import { notificationTypes } from './kinds.ts'
import { timezoneOf } from './quiet-hours.ts'

const time = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be a time such as 22:00')

export const quietHoursSchema = z
  .strictObject({
    start: time,
    end: time,
    timezone: z
      .string()
      .max(100)
      .transform((name, context) => {
        const known = timezoneOf(name)
        if (known === undefined)
          context.issues.push({ code: 'custom', message: 'is no time zone', input: name })
        return known ?? name
      })
      .meta({ description: 'Of the IANA database.', examples: ['Europe/Berlin'] }),
  })
  .refine(({ start, end }) => start !== end, { path: ['end'], message: 'must not be the start' })

const wishes = z.partialRecord(
  z.enum([...notificationTypes, '*']),
  z.strictObject({
    email: z.boolean().optional(),
    web_push: z.boolean().optional(),
    webhook: z.boolean().optional(),
  }),
)

export const preferencesBody = z
  .strictObject({ channels: wishes.optional(), quiet_hours: quietHoursSchema.nullable().optional() })
  .refine(({ channels, quiet_hours }) => channels !== undefined || quiet_hours !== undefined, 'names nothing')
export type PreferencesBody = z.output<typeof preferencesBody>

export const preferencesSchema = z
  .object({
    channels: wishes.meta({
      description:
        'By type, or `*` for those that are not named: whether it goes there. What is not named goes where its sender says.',
    }),
    quiet_hours: quietHoursSchema
      .nullable()
      .meta({ description: 'E-mail and web push wait for their end, unless critical or about security.' }),
    email: z.string().nullable().meta({ description: 'Told by a service; it cannot be changed here.' }),
  })
  .meta({ id: 'NotificationPreferences' })
export type Preferences = z.input<typeof preferencesSchema>

export async function readPreferences(tx: Tx, userId: string): Promise<Preferences> {
  const [row] = await tx.execute<Preferences>(sql`
    select channels, quiet_hours, email from chat.notification_preferences where user_id = ${userId}`)
  return row ?? { channels: {}, quiet_hours: null, email: null }
}

/** What is not named stays. */
export async function writePreferences(
  tx: Tx,
  userId: string,
  { channels, quiet_hours }: PreferencesBody,
): Promise<Preferences> {
  const json = (value: unknown) => (value == null ? null : JSON.stringify(value))
  const quiet = json(quiet_hours)
  const [row] = await tx.execute<Preferences>(sql`
    insert into chat.notification_preferences as p (user_id, channels, quiet_hours)
    values (${userId}, coalesce(${json(channels)}::jsonb, '{}'), ${quiet}::jsonb)
    on conflict (user_id) do update set channels = coalesce(${json(channels)}::jsonb, p.channels), updated_at = now(),
      quiet_hours = case when ${quiet_hours === undefined} then p.quiet_hours else ${quiet}::jsonb end
    returning channels, quiet_hours, email`)
  return row ?? { channels: {}, quiet_hours: null, email: null }
}

/** As the system: who may say what somebody's address is. */
export async function writeContacts(
  tx: Tx,
  contacts: readonly { userId: string; email: string | null }[],
): Promise<void> {
  if (contacts.length === 0) return
  await tx.execute(sql`
    insert into chat.notification_preferences as p (user_id, channels, email)
    select c.user_id, '{}', c.email
    from unnest(${contacts.map(({ userId }) => userId)}::text[], ${contacts.map(({ email }) => email)}::text[])
      as c (user_id, email)
    order by c.user_id
    on conflict (user_id) do update set email = excluded.email, updated_at = now()
      where p.email is distinct from excluded.email`)
}

const base64url = (bytes: number) => {
  const chars = Math.ceil((bytes * 4) / 3)
  return z
    .string()
    .regex(RegExp(`^[A-Za-z0-9_-]{${chars}}={0,2}$`), `must be ${bytes} bytes in base64url`)
    .transform((text) => text.replace(/=+$/, ''))
}

/** An index holds it: not longer, as bytes, than a page of it can. */
export const endpointSchema = text(1, 2_000).refine(
  (endpoint) => Buffer.byteLength(endpoint) <= 2_000,
  'must have at most 2000 bytes',
)

/** As `JSON.stringify` of a browser's `PushSubscription` has it. */
export const subscriptionBody = z.strictObject({
  endpoint: endpointSchema,
  expirationTime: z.number().nullable().optional(),
  keys: z.strictObject({ p256dh: base64url(65), auth: base64url(16) }),
})
export type SubscriptionBody = z.output<typeof subscriptionBody>

/** More browsers than anybody has; the one that came first goes. */
export const subscriptionsMax = 20

/**
 * As the system: a browser whose next user signs in is that user's from then on. Its keys show that it is the browser:
 * its endpoint alone somebody else may have heard of.
 *
 * @returns whether it is new to this user.
 */
export async function subscribe(
  tx: Tx,
  userId: string,
  { endpoint, keys }: SubscriptionBody,
): Promise<{ id: string; isNew: boolean }> {
  const [, [known]] = await Promise.all([
    tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`push:${userId}`}, 0))`),
    tx.execute<{ id: string; user_id: string; p256dh: string; auth: string }>(sql`
      select id, user_id, p256dh, auth from chat.push_subscriptions where endpoint = ${endpoint} for update`),
  ])
  if (
    known !== undefined &&
    known.user_id !== userId &&
    (known.p256dh !== keys.p256dh || known.auth !== keys.auth)
  )
    throw new AppError('forbidden', { detail: 'This is the endpoint of another browser.' })
  const [row] = await tx.execute<{ id: string }>(sql`
    insert into chat.push_subscriptions as s (id, user_id, endpoint, p256dh, auth)
    values (${uuidv7()}, ${userId}, ${endpoint}, ${keys.p256dh}, ${keys.auth})
    on conflict (endpoint) do update set user_id = excluded.user_id, p256dh = excluded.p256dh, auth = excluded.auth,
      created_at = now()
    returning id`)
  await tx.execute(sql`
    delete from chat.push_subscriptions where id in (
      select id from chat.push_subscriptions where user_id = ${userId}
      order by created_at desc, id desc offset ${subscriptionsMax})`)
  return { id: row?.id ?? '', isNew: known?.user_id !== userId }
}

/** @returns whether it was there. */
export async function unsubscribe(
  tx: Tx,
  caller: Caller,
  by: { id: string } | { endpoint: string },
): Promise<boolean> {
  const which = 'id' in by ? sql`id = ${by.id}::uuid` : sql`endpoint = ${by.endpoint}`
  const gone = await tx.execute(sql`
    delete from chat.push_subscriptions where user_id = ${caller.userId} and ${which} returning id`)
  return gone.length > 0
}
