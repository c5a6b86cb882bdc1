/**
 * jobs: background work that was asked for, one row each until it is done. A finished one is deleted; one that was
 * given up stays for a while, as `dead`, with why.
 *
 * A user's transaction may add work in that user's name, and that is all it may do: it has no right to read, so it
 * cannot see even its own. No foreign key: work outlives what it is about.
 */
import { sql } from 'drizzle-orm'
import { check, index, integer, jsonb, pgPolicy, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core'
import { chat, chatCaller, chatSystem, currentUserId, moment } from './chat.ts'

export const jobs = chat.table(
  'jobs',
  {
    id: uuid('id').primaryKey(),
    /** Which handler does it. */
    kind: text('kind').notNull(),
    /** What it is about: while one is queued or running, another of the same kind and key is not added. */
    key: text('key').notNull(),
    /** Whose work it is; null: the system's own. */
    userId: text('user_id'),
    /** Ids and numbers, never what people wrote. */
    payload: jsonb('payload').$type<Record<string, unknown>>().notNull(),
    runAt: moment('run_at').notNull().defaultNow(),
    /** How often it was begun. */
    attempts: integer('attempts').notNull().default(0),
    /** Somebody is at it until then; afterwards it may be taken again. */
    leasedUntil: moment('leased_until'),
    lastError: text('last_error'),
    status: text('status', { enum: ['queued', 'dead'] })
      .notNull()
      .default('queued'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('jobs_one_queued')
      .on(table.kind, table.key)
      .where(sql`status = 'queued'`),
    // By kind: who looks for one kind is not kept by ten thousand of another.
    index('jobs_due_by_kind')
      .on(table.kind, table.runAt)
      .where(sql`status = 'queued'`),
    check('jobs_status', sql`status in ('queued', 'dead')`),
    pgPolicy('jobs_caller', { to: chatCaller, for: 'insert', withCheck: sql`user_id = ${currentUserId}` }),
    pgPolicy('jobs_system', { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` }),
  ],
)
