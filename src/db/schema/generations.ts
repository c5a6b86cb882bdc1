/**
 * generations: one row for each time an answer was asked for; at most one of a conversation is running.
 *
 * `status` moves once, from running to one of the others, always by an update guarded by `status = 'running'`.
 */
import { sql } from 'drizzle-orm'
import { bigint, check, foreignKey, index, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core'
import { messages } from './messages.ts'
import { chat, moment, ownerPolicies } from './chat.ts'

export const generations = chat.table(
  'generations',
  {
    id: uuid('id').primaryKey(),
    conversationId: uuid('conversation_id').notNull(),
    messageId: uuid('message_id').notNull(),
    userId: text('user_id').notNull(),
    status: text('status', { enum: ['running', 'complete', 'stopped', 'failed', 'interrupted'] }).notNull(),
    model: text('model').notNull(),
    /** The provider's own id of this answer (`X-Generation-Id`): what it cost can be asked for by it. */
    upstreamId: text('upstream_id'),
    /** The terminal event's number in the log. */
    lastSeq: bigint('last_seq', { mode: 'number' }),
    errorCode: text('error_code'),
    startedAt: moment('started_at').notNull().defaultNow(),
    settledAt: moment('settled_at'),
  },
  (table) => [
    foreignKey({
      name: 'generations_message_fk',
      columns: [table.conversationId, table.messageId],
      foreignColumns: [messages.conversationId, messages.id],
    }).onDelete('cascade'),
    uniqueIndex('generations_one_running')
      .on(table.conversationId)
      .where(sql`status = 'running'`),
    index('generations_running_by_user')
      .on(table.userId)
      .where(sql`status = 'running'`),
    index('generations_by_message').on(table.conversationId, table.messageId),
    check('generations_status', sql`status in ('running', 'complete', 'stopped', 'failed', 'interrupted')`),
    ...ownerPolicies('generations'),
  ],
)
