/** room_members: who may join a room that is not everybody's own. A conversation's owner is no row here. */
import { sql } from 'drizzle-orm'
import { index, pgPolicy, primaryKey, text } from 'drizzle-orm/pg-core'
import { chat, chatSystem, moment } from './chat.ts'

export const roomMembers = chat.table(
  'room_members',
  {
    /** Such as `conversation:<id>` or `team:design`. */
    room: text('room').notNull(),
    userId: text('user_id').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.room, table.userId] }),
    index('room_members_by_user').on(table.userId),
    pgPolicy('room_members_system', { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` }),
  ],
)
