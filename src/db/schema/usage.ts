/**
 * usage_tracking: what one upstream answer took and cost. Rows outlive their conversation (no foreign key):
 * what was charged stays charged.
 */
import { sql } from 'drizzle-orm'
import { boolean, check, index, integer, numeric, text, uuid } from 'drizzle-orm/pg-core'
import { chat, moment, ownerPolicies } from './chat.ts'

export const usageTracking = chat.table(
  'usage_tracking',
  {
    id: uuid('id').primaryKey(),
    userId: text('user_id').notNull(),
    conversationId: uuid('conversation_id').notNull(),
    messageId: uuid('message_id').notNull(),
    generationId: uuid('generation_id').notNull(),
    model: text('model').notNull(),
    promptTokens: integer('prompt_tokens').notNull(),
    completionTokens: integer('completion_tokens').notNull(),
    totalTokens: integer('total_tokens').notNull(),
    /** Credits (1 credit = 1 USD), exact. NULL: a paid answer whose price is not known yet; never a silent zero. */
    cost: numeric('cost'),
    isFreeModel: boolean('is_free_model').notNull(),
    source: text('source', { enum: ['reported', 'estimated', 'reconciled'] }).notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    index('usage_by_message').on(table.conversationId, table.messageId),
    // With all that a summary adds up, by an INCLUDE that drizzle cannot say: a user's answers lie scattered in the table.
    index('usage_by_user').on(table.userId, table.createdAt),
    check('usage_source', sql`source in ('reported', 'estimated', 'reconciled')`),
    ...ownerPolicies('usage_tracking'),
  ],
)
