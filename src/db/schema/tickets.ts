/** tickets: what stands for a user where headers cannot be sent, for one address. Only a digest of each is kept. */
import { index, text } from 'drizzle-orm/pg-core'
import { chat, moment, ownerPolicies } from './chat.ts'

export const tickets = chat.table(
  'tickets',
  {
    digest: text('digest').primaryKey(),
    userId: text('user_id').notNull(),
    tier: text('tier', { enum: ['free', 'premium'] }).notNull(),
    /** What it opens, such as `message:<id>`. */
    purpose: text('purpose').notNull(),
    /** The page that asked for it, where it was a page: nobody else's may use it. */
    origin: text('origin'),
    /** When the token that it was asked for with is no longer valid: what is opened with it ends then. */
    validUntil: moment('valid_until'),
    expiresAt: moment('expires_at').notNull(),
  },
  (table) => [index('tickets_by_expiry').on(table.expiresAt), ...ownerPolicies('tickets')],
)
