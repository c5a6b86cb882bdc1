/**
 * idempotency_keys: what a caller's key stands for. Claimed in the transaction that does the work, so that either both
 * are there or neither. Kept for a day.
 */
import { index, primaryKey, text, uuid } from 'drizzle-orm/pg-core'
import { chat, moment, ownerPolicies } from './chat.ts'

export const idempotencyKeys = chat.table(
  'idempotency_keys',
  {
    userId: text('user_id').notNull(),
    key: text('key').notNull(),
    /** Digest of the route and the body: the same key with another request is a mistake. */
    fingerprint: text('fingerprint').notNull(),
    /** What was made: a conversation, and in it, for a turn, the answer. */
    conversationId: uuid('conversation_id').notNull(),
    messageId: uuid('message_id'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.key] }),
    index('idempotency_keys_by_age').on(table.createdAt),
    ...ownerPolicies('idempotency_keys'),
  ],
)
