/**
 * The PostgreSQL schema, its two roles, the policies that every table has, and the kind of time that all use.
 *
 * `chat_caller` sees and writes the rows of one user, named by the transaction's `app.current_user_id`;
 * without it, none. `chat_system` is for named jobs and sees all. Both are NOLOGIN, made by the first migration.
 */
import { sql, type SQL } from 'drizzle-orm'
import { pgPolicy, pgRole, pgSchema, timestamp } from 'drizzle-orm/pg-core'

export const chat = pgSchema('chat')

export const chatCaller = pgRole('chat_caller').existing()
export const chatSystem = pgRole('chat_system').existing()

/** A point in time, in milliseconds: what the wire shows is what a cursor compares. */
export const moment = (name: string) => timestamp(name, { precision: 3, withTimezone: true, mode: 'date' })

/** A local setting that was never set reads NULL, and '' after an earlier transaction set it: both are nobody. */
export const currentUserId: SQL = sql`nullif(current_setting('app.current_user_id', true), '')`

/** The two policies of a table whose rows belong to the user named in `user_id`. */
export function ownerPolicies(table: string) {
  const own = sql`user_id = ${currentUserId}`
  return [
    pgPolicy(`${table}_caller`, { to: chatCaller, for: 'all', using: own, withCheck: own }),
    pgPolicy(`${table}_system`, { to: chatSystem, for: 'all', using: sql`true`, withCheck: sql`true` }),
  ]
}
