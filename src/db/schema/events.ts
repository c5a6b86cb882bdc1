/**
 * processed_events: what other services asked for or told, so that it is done once however often it comes. Claimed in
 * the transaction that does the work.
 */
import { sql } from 'drizzle-orm'
import { index, jsonb, pgPolicy, primaryKey, text } from 'drizzle-orm/pg-core'
import { chat, chatSystem, moment } from './chat.ts'

export const processedEvents = chat.table(
  'processed_events',
  {
    /** Who told it, and where: a route, or a queue. */
    source: text('source').notNull(),
    eventId: text('event_id').notNull(),
    /** Digest of what was asked: the same id with something else is a mistake. */
    fingerprint: text('fingerprint').notNull(),
    /** What was answered. */
    result: jsonb('result').$type<Record<string, unknown>>(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.source, table.eventId] }),
    index('processed_events_by_age').on(table.createdAt),
    pgPolicy('processed_events_system', {
      to: chatSystem,
      for: 'all',
      using: sql`true`,
      withCheck: sql`true`,
    }),
  ],
)
