/** conversations: one row each; its messages form a tree, of which `current_message_id` names the leaf in view. */
import { sql } from 'drizzle-orm'
import { boolean, check, index, integer, jsonb, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core'
import { chat, moment, ownerPolicies } from './chat.ts'

export const conversations = chat.table(
  'conversations',
  {
    id: uuid('id').primaryKey(),
    userId: text('user_id').notNull(),
    title: text('title').notNull(),
    /** Who named it: nobody yet, the local rule, or the user (then no rule touches it again). */
    titleSource: text('title_source', { enum: ['default', 'auto', 'user'] }).notNull(),
    contextType: text('context_type', { enum: ['general', 'assessment', 'career_guidance'] }).notNull(),
    contextData: jsonb('context_data').$type<Record<string, unknown>>().notNull(),
    status: text('status', { enum: ['active', 'archived', 'deleted'] })
      .notNull()
      .default('active'),
    metadata: jsonb('metadata').$type<Record<string, unknown>>().notNull(),
    model: text('model'),
    /** Made for this assessment: a user has one such conversation of each, besides those that were deleted. */
    assessmentId: text('assessment_id'),
    /** (id, current_message_id) references messages: written by hand in the wall migration, since the two tables name each other. */
    currentMessageId: uuid('current_message_id'),
    messageCount: integer('message_count').notNull().default(0),
    /** Others are members of it (room_members, which a caller may not read): they are told what is said in it. */
    shared: boolean('shared').notNull().default(false),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
    lastMessageAt: moment('last_message_at'),
    /** What lists sort by: the last message, or the making of a conversation that has none. */
    activityAt: moment('activity_at')
      .notNull()
      .generatedAlwaysAs(sql`coalesce(last_message_at, created_at)`),
  },
  (table) => [
    index('conversations_by_activity').on(
      table.userId,
      table.status,
      table.activityAt.desc().nullsFirst(),
      table.id.desc().nullsFirst(),
    ),
    uniqueIndex('conversations_one_by_assessment')
      .on(table.userId, table.assessmentId)
      .where(sql`assessment_id is not null and status <> 'deleted'`),
    check('conversations_title_source', sql`title_source in ('default', 'auto', 'user')`),
    check('conversations_context_type', sql`context_type in ('general', 'assessment', 'career_guidance')`),
    check('conversations_status', sql`status in ('active', 'archived', 'deleted')`),
    ...ownerPolicies('conversations'),
  ],
)
