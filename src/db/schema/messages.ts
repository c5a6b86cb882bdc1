/** messages: a conversation's tree. A parent never changes and lies in the same conversation, so no cycle can form. */
import { sql } from 'drizzle-orm'
import { check, foreignKey, index, integer, jsonb, primaryKey, text, uuid } from 'drizzle-orm/pg-core'
import { conversations } from './conversations.ts'
import { chat, moment, ownerPolicies } from './chat.ts'

export const messages = chat.table(
  'messages',
  {
    conversationId: uuid('conversation_id').notNull(),
    id: uuid('id').notNull(),
    /** The conversation's owner, repeated on every row: policies and search need no join. */
    userId: text('user_id').notNull(),
    parentMessageId: uuid('parent_message_id'),
    senderType: text('sender_type', { enum: ['user', 'assistant', 'system'] }).notNull(),
    /** Who wrote it: a user's id, or the model's. */
    senderId: text('sender_id').notNull(),
    content: text('content').notNull(),
    contentType: text('content_type', { enum: ['text', 'image', 'file'] }).notNull(),
    status: text('status', { enum: ['complete', 'streaming', 'stopped', 'failed', 'interrupted'] }).notNull(),
    metadata: jsonb('metadata').$type<Record<string, unknown>>().notNull(),
    /** Of the content, as context/counts.ts counts them a little later; null until then. */
    tokenCount: integer('token_count'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.conversationId, table.id] }),
    foreignKey({
      name: 'messages_conversation_fk',
      columns: [table.conversationId],
      foreignColumns: [conversations.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'messages_parent_fk',
      columns: [table.conversationId, table.parentMessageId],
      foreignColumns: [table.conversationId, table.id],
    }),
    index('messages_by_parent').on(table.conversationId, table.parentMessageId, table.id),
    check('messages_sender_type', sql`sender_type in ('user', 'assistant', 'system')`),
    check('messages_content_type', sql`content_type in ('text', 'image', 'file')`),
    check('messages_status', sql`status in ('complete', 'streaming', 'stopped', 'failed', 'interrupted')`),
    check('messages_token_count', sql`token_count >= 0`),
    ...ownerPolicies('messages'),
  ],
)
