/**
 * outbox: events for other services, stored in the transaction that they tell of, and deleted when their receiver has
 * confirmed them. A caller's transaction may add events of that caller, and read none.
 */
import { sql } from 'drizzle-orm'
import { check, index, integer, jsonb, pgPolicy, text, uuid } from 'drizzle-orm/pg-core'
import { chat, chatCaller, chatSystem, currentUserId, moment } from './chat.ts'

export const outbox = chat.table(
  'outbox',
  {
    id: uuid('id').primaryKey(),
    /** Who gets it: the exchange, its dead letters, or the notification service. */
    sink: text('sink', { enum: ['exchange', 'dead_letters', 'bridge'] }).notNull(),
    routingKey: text('routing_key').notNull(),
    /** Whom it is about; null: nobody. */
    userId: text('user_id'),
    payload: jsonb('payload').$type<Record<string, unknown>>().notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** Not before then. */
    dueAt: moment('due_at').notNull().defaultNow(),
    /** Somebody is at it until then. */
    leasedUntil: moment('leased_until'),
    attempts: integer('attempts').notNull().default(0),
  },
  (table) => [
    index('outbox_due').on(table.sink, table.dueAt, table.id),
    check('outbox_sink', sql`sink in ('exchange', 'dead_letters', 'bridge')`),
    pgPolicy('outbox_caller', { to: chatCaller, for: 'insert', withCheck: sql`user_id = ${currentUserId}` }),
    pgPolicy('outbox_system', { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` }),
  ],
)
