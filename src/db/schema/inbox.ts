/**
 * The inbox: a compacted log for each user. `inbox_heads` is where each log stands, `notifications` what it holds.
 *
 * Whoever changes a row of `notifications` so that its user should hear of it locks the user's head first, and gives the
 * row the head's next `seq`: rows move to the end of the log, so what is behind a cursor is the latest version of
 * everything that changed, and numbers are committed in their order.
 */
import { sql } from 'drizzle-orm'
import {
  bigint,
  check,
  index,
  integer,
  jsonb,
  pgPolicy,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
import { chat, chatSystem, moment, ownerPolicies } from './chat.ts'

const systemPolicy = (table: string) =>
  pgPolicy(`${table}_system`, { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` })

export const inboxHeads = chat.table(
  'inbox_heads',
  {
    userId: text('user_id').primaryKey(),
    /** Of this log: a cursor of another one, such as before a backup was put back, means nothing in it. */
    epoch: text('epoch').notNull(),
    /** The last number that was given. */
    seq: bigint('seq', { mode: 'number' }).notNull().default(0),
    /** What was taken out of the log for good had numbers up to this one: an older cursor cannot be answered. */
    floor: bigint('floor', { mode: 'number' }).notNull().default(0),
    /** Rows that are visible and neither read nor archived. */
    unread: integer('unread').notNull().default(0),
    /** First connected; null: never. Broadcasts go to those who have. */
    connectedAt: moment('connected_at'),
    lastSeenAt: moment('last_seen_at'),
  },
  (table) => [
    // Broadcasts page through it.
    index('inbox_heads_connected')
      .on(table.userId)
      .where(sql`connected_at is not null`),
    check('inbox_heads_unread', sql`unread >= 0`),
    ...ownerPolicies('inbox_heads'),
  ],
)

export const notifications = chat.table(
  'notifications',
  {
    id: uuid('id').primaryKey(),
    userId: text('user_id').notNull(),
    /** Its place in the log; null: not there yet. */
    seq: bigint('seq', { mode: 'number' }),
    type: text('type').notNull(),
    priority: text('priority', { enum: ['low', 'medium', 'high', 'critical'] }).notNull(),
    template: text('template'),
    title: text('title').notNull(),
    body: text('body').notNull(),
    icon: text('icon'),
    color: text('color'),
    action: jsonb('action').$type<Record<string, unknown>>(),
    data: jsonb('data').$type<Record<string, unknown>>().notNull(),
    /** Percent; null: nothing that progresses. */
    progress: smallint('progress'),
    /** Names the row: what is sent under the same key again changes it. */
    dedupeKey: text('dedupe_key'),
    /** Where it goes besides the inbox. */
    channels: text('channels').array().notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** When its user should last have heard of it. */
    updatedAt: moment('updated_at').notNull().defaultNow(),
    /** When it is to appear; null: at once. */
    scheduledAt: moment('scheduled_at'),
    appearedAt: moment('appeared_at'),
    expiresAt: moment('expires_at').notNull(),
    /** A device said that it has this version. */
    deliveredAt: moment('delivered_at'),
    readAt: moment('read_at'),
    archivedAt: moment('archived_at'),
    /** It expired: a tombstone without content, until it is purged. */
    removedAt: moment('removed_at'),
  },
  (table) => [
    uniqueIndex('notifications_log').on(table.userId, table.seq),
    uniqueIndex('notifications_dedupe')
      .on(table.userId, table.dedupeKey)
      .where(sql`dedupe_key is not null`),
    index('notifications_list').on(table.userId, table.appearedAt.desc(), table.id.desc()),
    index('notifications_due')
      .on(table.scheduledAt)
      .where(sql`seq is null`),
    index('notifications_expiring')
      .on(table.expiresAt)
      .where(sql`removed_at is null`),
    index('notifications_removed')
      .on(table.removedAt)
      .where(sql`removed_at is not null`),
    ...ownerPolicies('notifications'),
  ],
)

/** What became of a notification on its other ways: the work itself is a job, this is what people can ask about. */
export const deliveries = chat.table(
  'deliveries',
  {
    notificationId: uuid('notification_id').notNull(),
    channel: text('channel', { enum: ['email', 'web_push', 'webhook'] }).notNull(),
    /** Which of several: a push subscription's or a webhook's id; '' where there is one. */
    target: text('target').notNull(),
    userId: text('user_id').notNull(),
    status: text('status', { enum: ['queued', 'sent', 'failed', 'skipped'] }).notNull(),
    attempts: integer('attempts').notNull().default(0),
    /** A code or a short sentence of ours. */
    lastError: text('last_error'),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.notificationId, table.channel, table.target] }),
    index('deliveries_by_age').on(table.createdAt),
    systemPolicy('deliveries'),
  ],
)

export const notificationPreferences = chat.table(
  'notification_preferences',
  {
    userId: text('user_id').primaryKey(),
    /** By type, or `*`, and channel: whether it goes there. What is not named goes where its template says. */
    channels: jsonb('channels').$type<Record<string, Record<string, boolean>>>().notNull(),
    quietHours: jsonb('quiet_hours').$type<{ start: string; end: string; timezone: string }>(),
    /** Told by a service, which knows it to be this user's. */
    email: text('email'),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  () => ownerPolicies('notification_preferences'),
)

export const pushSubscriptions = chat.table(
  'push_subscriptions',
  {
    id: uuid('id').primaryKey(),
    userId: text('user_id').notNull(),
    endpoint: text('endpoint').notNull(),
    p256dh: text('p256dh').notNull(),
    auth: text('auth').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    // A browser is one person's at a time.
    uniqueIndex('push_subscriptions_endpoint').on(table.endpoint),
    index('push_subscriptions_by_user').on(table.userId),
    ...ownerPolicies('push_subscriptions'),
  ],
)

export const webhookTargets = chat.table(
  'webhook_targets',
  {
    id: uuid('id').primaryKey(),
    url: text('url').notNull(),
    secret: text('secret').notNull(),
    /** Only of this user; null: of all. */
    userId: text('user_id'),
    /** Only of these types; null: all. */
    types: text('types').array(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  () => [systemPolicy('webhook_targets')],
)

/** A notification to everyone who ever connected, and how far it has come. */
export const broadcasts = chat.table(
  'broadcasts',
  {
    id: uuid('id').primaryKey(),
    content: jsonb('content').$type<Record<string, unknown>>().notNull(),
    /** Everybody up to this user, in the order of their ids, has it. */
    afterUserId: text('after_user_id').notNull().default(''),
    sent: integer('sent').notNull().default(0),
    createdAt: moment('created_at').notNull().defaultNow(),
    finishedAt: moment('finished_at'),
  },
  () => [systemPolicy('broadcasts')],
)
