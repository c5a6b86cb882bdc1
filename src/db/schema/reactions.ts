/** message_reactions: what a user thinks of a message: one each, the last one said. */
import { sql } from 'drizzle-orm'
import { check, foreignKey, primaryKey, text, uuid } from 'drizzle-orm/pg-core'
import { chat, moment, ownerPolicies } from './chat.ts'
import { messages } from './messages.ts'

export const messageReactions = chat.table(
  'message_reactions',
  {
    conversationId: uuid('conversation_id').notNull(),
    messageId: uuid('message_id').notNull(),
    userId: text('user_id').notNull(),
    reaction: text('reaction', { enum: ['like', 'dislike', 'helpful', 'not_helpful'] }).notNull(),
    /** In the user's own words. */
    feedback: text('feedback'),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.conversationId, table.messageId, table.userId] }),
    foreignKey({
      name: 'message_reactions_message_fk',
      columns: [table.conversationId, table.messageId],
      foreignColumns: [messages.conversationId, messages.id],
    }).onDelete('cascade'),
    check('message_reactions_reaction', sql`reaction in ('like', 'dislike', 'helpful', 'not_helpful')`),
    ...ownerPolicies('message_reactions'),
  ],
)
