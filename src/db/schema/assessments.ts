/** assessments: what other services have told of each assessment, its latest version alone. An id is one user's for good. */
import { sql } from 'drizzle-orm'
import { boolean, check, index, jsonb, numeric, pgPolicy, text } from 'drizzle-orm/pg-core'
import { chat, chatCaller, chatSystem, currentUserId, moment } from './chat.ts'

export const assessments = chat.table(
  'assessments',
  {
    assessmentId: text('assessment_id').primaryKey(),
    userId: text('user_id').notNull(),
    stage: text('stage', { enum: ['submitted', 'started', 'complete', 'failed'] }).notNull(),
    /** Of what was told last, where its teller counts versions. */
    version: numeric('version'),
    /** When that happened, by its teller's clock. */
    occurredAt: moment('occurred_at').notNull(),
    /** As assessments/results.ts has them; null: none are known. */
    results: jsonb('results').$type<Record<string, unknown>>(),
    /** Its analysis is complete, and what it found has not been told: what is known is of an older version. */
    awaitsResults: boolean('awaits_results').notNull().default(false),
    /** Questions for its conversation: a list of strings. */
    suggestions: jsonb('suggestions').$type<string[]>(),
    /** Its conversation, its welcome and its suggestions are there, and its user was told. */
    readyAt: moment('ready_at'),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (table) => [
    index('assessments_by_user').on(table.userId, table.occurredAt),
    check('assessments_stage', sql`stage in ('submitted', 'started', 'complete', 'failed')`),
    // What is known of an assessment comes from services: its user reads it.
    pgPolicy('assessments_caller', { to: chatCaller, for: 'select', using: sql`user_id = ${currentUserId}` }),
    pgPolicy('assessments_system', { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` }),
  ],
)
