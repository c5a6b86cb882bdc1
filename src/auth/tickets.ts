/**
 * Door of auth, for what cannot send headers (a browser's WebSocket, its EventSource): a ticket stands for a user, at one
 * address, for a while. 128 random bits, of which the database keeps a digest. Whoever has one may use it, so it is
 * short-lived, bound to the page that asked for it, and good once where it may be: a stream's has to outlive a
 * reconnect.
 */
import { createHash, randomBytes } from 'node:crypto'
import { sql } from '../db/sql.ts'
import { createGroupCommit } from '../db/group-commit.ts'
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

/** Tickets made and used up, of many at the same time together: after a restart everybody comes back at once. */
export interface Tickets {
  /** @returns the ticket, which is stored nowhere. */
  issue(caller: UserCaller, opening: Opening): Promise<string>
  /** A socket's ticket, which is then used up: of several who come with it, one gets in. @throws as `redeemTicket` */
  consume(ticket: string, origin: string | undefined): Promise<UserCaller>
}

export function createTickets(transactions: Transactions): Tickets {
  const store = createGroupCommit<NewTicket, undefined>({
    async store(made) {
      await transactions.asSystem('issue tickets', (tx) => tx.commit(() => storeTickets(tx, made)))
      return []
    },
  })
  const consume = createGroupCommit<Presented, TicketRow | undefined>({
    store: (presented) =>
      transactions.asSystem('consume tickets', (tx) => tx.commit(() => consumeTickets(tx, presented))),
  })
  return {
    async issue(caller, opening) {
      const ticket = randomBytes(16).toString('base64url')
      await store({ digest: digestOf(ticket), caller, opening })
      return ticket
    },
    consume: async (ticket, origin) => callerOf(await consume({ digest: digestOf(ticket), origin })),
  }
}

interface NewTicket {
  digest: string
  caller: UserCaller
  opening: Opening
}

async function storeTickets(tx: Tx, made: readonly NewTicket[]): Promise<void> {
  const column = <T>(of: (ticket: NewTicket) => T) => made.map(of)
  await tx.execute(sql`
    insert into chat.tickets (digest, user_id, tier, purpose, origin, valid_until, expires_at)
    select t.digest, t.user_id, t.tier, t.purpose, t.origin, to_timestamp(t.valid_until_s), now() + make_interval(secs => t.lives_s)
    from unnest(${column(({ digest }) => digest)}::text[], ${column(({ caller }) => caller.userId)}::text[],
      ${column(({ caller }) => caller.tier)}::text[], ${column(({ opening }) => opening.purpose)}::text[],
      ${column(({ opening }) => opening.origin ?? null)}::text[],
      ${column(({ caller }) => caller.validUntil / 1000)}::float8[], ${column(({ opening }) => opening.livesS)}::float8[])
      as t (digest, user_id, tier, purpose, origin, valid_until_s, lives_s)`)
}

interface Presented {
  digest: string
  origin: string | undefined
}

/** @returns one for each, in their order; undefined for one that opens nothing. */
async function consumeTickets(tx: Tx, presented: readonly Presented[]): Promise<(TicketRow | undefined)[]> {
  const rows = await tx.execute<TicketRow & { nth: number }>(sql`
    delete from chat.tickets t
    using unnest(${presented.map(({ digest }) => digest)}::text[], ${presented.map(({ origin }) => origin ?? null)}::text[])
      with ordinality as p (digest, origin, nth)
    where t.digest = p.digest and t.purpose = 'socket' and t.expires_at > now() and (t.origin is null or t.origin = p.origin)
    returning p.nth::int as nth, t.user_id, t.tier, (extract(epoch from t.valid_until) * 1000)::float8 as valid_until`)
  const byPlace = new Map(rows.map((row) => [row.nth, row]))
  return presented.map((_, index) => byPlace.get(index + 1))
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
