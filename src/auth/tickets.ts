/**
 * Door of auth, for what cannot send headers (a browser's EventSource): a ticket stands for a user, at one address,
 * for a while. 128 random bits, of which the database keeps a digest. Anyone who has it may use it: it is short-lived.
 */
import { createHash, randomBytes } from 'node:crypto'
import { sql } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import type { UserCaller } from './caller.ts'
import { unauthorized } from './tokens.ts'

/** Of a stream's ticket, s: EventSource reconnects with the address that it has. */
export const streamTicketS = 600

const digestOf = (ticket: string) => createHash('sha256').update(ticket).digest('base64url')

/** @returns the ticket, which is stored nowhere. */
export async function issueTicket(
  tx: Tx,
  caller: UserCaller,
  purpose: string,
  livesS: number,
): Promise<string> {
  const ticket = randomBytes(16).toString('base64url')
  await tx.execute(sql`
    insert into chat.tickets (digest, user_id, tier, purpose, expires_at)
    values (${digestOf(ticket)}, ${caller.userId}, ${caller.tier}, ${purpose}, now() + make_interval(secs => ${livesS}))`)
  return ticket
}

/** @throws AppError unauthorized for a ticket that is unknown, too old, or for something else: all look the same. */
export async function redeemTicket(
  transactions: Transactions,
  ticket: string,
  purpose: string,
): Promise<UserCaller> {
  const [row] = await transactions.asSystem('redeem a ticket', (tx) =>
    tx.commit(() =>
      tx.execute<{ user_id: string; tier: UserCaller['tier'] }>(sql`
        select user_id, tier from chat.tickets
        where digest = ${digestOf(ticket)} and purpose = ${purpose} and expires_at > now()`),
    ),
  )
  if (row === undefined) throw unauthorized('This ticket is not valid here, or not any more.')
  return { kind: 'user', userId: row.user_id, tier: row.tier, name: undefined }
}
