/**
 * Door of auth, for what cannot send headers (a browser's WebSocket, its EventSource): a ticket stands for a user, at one
 * address, for a while. 128 random bits, of which the database keeps a digest. Whoever has one may use it, so it is
 * short-lived, bound to the page that asked for it, and good once where it may be: a stream's has to outlive a
 * reconnect.
 */
import { createHash, randomBytes } from 'node:crypto'
import { sql } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import type { UserCaller } from './caller.ts'
import { unauthorized } from './tokens.ts'

/** Of a stream's ticket, s: EventSource reconnects with the address that it has. */
export const streamTicketS = 600
/** Of a socket's, s: it is used at once. */
export const socketTicketS = 30

const digestOf = (ticket: string) => createHash('sha256').update(ticket).digest('base64url')

export interface Opening {
  /** What it opens: `socket`, `notifications`, `message:<id>`. */
  purpose: string
  livesS: number
  /** The `Origin` that it is asked with: a page's requests carry one. */
  origin: string | undefined
}

/** @returns the ticket, which is stored nowhere. */
export async function issueTicket(tx: Tx, caller: UserCaller, opening: Opening): Promise<string> {
  const ticket = randomBytes(16).toString('base64url')
  const { purpose, livesS, origin } = opening
  await tx.execute(sql`
    insert into chat.tickets (digest, user_id, tier, purpose, origin, valid_until, expires_at)
    values (${digestOf(ticket)}, ${caller.userId}, ${caller.tier}, ${purpose}, ${origin ?? null},
      to_timestamp(${caller.validUntil / 1000}::float8), now() + make_interval(secs => ${livesS}))`)
  return ticket
}

/**
 * A stream's ticket: it may come again. A page at the server's own origin sends none with a GET: then there is nothing to
 * compare.
 *
 * @throws AppError unauthorized for a ticket that is unknown, too old, or for something else: all look the same.
 */
export async function redeemTicket(
  transactions: Transactions,
  ticket: string,
  purpose: string,
  origin?: string,
): Promise<UserCaller> {
  const [row] = await transactions.asSystem('redeem a ticket', (tx) =>
    tx.commit(() =>
      tx.execute<TicketRow>(sql`
        select user_id, tier, (extract(epoch from valid_until) * 1000)::float8 as valid_until from chat.tickets
        where digest = ${digestOf(ticket)} and purpose = ${purpose} and expires_at > now()
          and (origin is null or origin = coalesce(${origin ?? null}, origin))`),
    ),
  )
  return callerOf(row)
}

/** A socket's ticket, which is then used up: of several who come with it, one gets in. @throws as `redeemTicket` */
export async function consumeTicket(
  transactions: Transactions,
  ticket: string,
  origin: string | undefined,
): Promise<UserCaller> {
  const [row] = await transactions.asSystem('consume a ticket', (tx) =>
    tx.commit(() =>
      tx.execute<TicketRow>(sql`
        delete from chat.tickets
        where digest = ${digestOf(ticket)} and purpose = 'socket' and expires_at > now()
          and (origin is null or origin = ${origin ?? null})
        returning user_id, tier, (extract(epoch from valid_until) * 1000)::float8 as valid_until`),
    ),
  )
  return callerOf(row)
}

interface TicketRow {
  user_id: string
  tier: UserCaller['tier']
  /** Null: asked for by a version that did not say. */
  valid_until: number | null
}

function callerOf(row: TicketRow | undefined): UserCaller {
  // A token that has ended since takes its tickets with it.
  const validUntil = row?.valid_until ?? Infinity
  if (row === undefined || validUntil <= Date.now())
    throw unauthorized('This ticket is not valid here, or not any more.')
  return { kind: 'user', userId: row.user_id, tier: row.tier, name: undefined, validUntil }
}
