/**
 * generations: one row for each time an answer was asked for; at most one of a conversation is running.
 *
 * `status` moves once, from running to one of the others, always by an update guarded by `status = 'running'`.
 *
 * generation_chunks: a generation's log, as far as it has been flushed. No foreign key: one deleted row must not
 * fail the flush of everybody. Rows of settled generations are deleted after a while; the message stays.
 */
import { sql } from 'drizzle-orm'
import {
  bigint,
  check,
  foreignKey,
  index,
  integer,
  jsonb,
  primaryKey,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
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
    /** Tokens of what was asked, estimated; journalled with the upstream's id, for whoever settles after a crash. */
    promptTokensEstimate: integer('prompt_tokens_estimate'),
    /** Which process writes it. */
    instanceId: uuid('instance_id'),
    /** That process's last sign of life. */
    heartbeatAt: moment('heartbeat_at').notNull().defaultNow(),
    /** Somebody asked for it to be stopped; its process looks. */
    stopRequestedAt: moment('stop_requested_at'),
    /** The terminal event's number in the log. */
    lastSeq: bigint('last_seq', { mode: 'number' }),
    /** Settled by somebody else than its run: the last event that was kept. Later ones may have been shown. */
    survivedSeq: bigint('survived_seq', { mode: 'number' }),
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
    // A ticket names a message alone.
    index('generations_by_message_id').on(table.messageId),
    check('generations_status', sql`status in ('running', 'complete', 'stopped', 'failed', 'interrupted')`),
    ...ownerPolicies('generations'),
  ],
)

export const generationChunks = chat.table(
  'generation_chunks',
  {
    generationId: uuid('generation_id').notNull(),
    firstSeq: bigint('first_seq', { mode: 'number' }).notNull(),
    lastSeq: bigint('last_seq', { mode: 'number' }).notNull(),
    userId: text('user_id').notNull(),
    /** The events from first_seq on, one array element each. */
    events: jsonb('events').$type<unknown[]>().notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.generationId, table.firstSeq] }),
    index('generation_chunks_by_age').on(table.createdAt),
    ...ownerPolicies('generation_chunks'),
  ],
)
