/**
 * Door: claiming an idempotency key, in the transaction that does what it stands for.
 *
 * The claim comes first: a second request with the same key waits at this statement until the first one has been
 * committed or rolled back, and then finds what it made, or nothing.
 */
import { randomUUID } from 'node:crypto'
import { sql } from '../db/sql.ts'
import type { Caller, Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Idempotency } from '../http/idempotency.ts'

/** What a key was used for. */
export interface Claimed {
  conversationId: string
  messageId: string | null
}

/** Thrown out of a transaction that came second: nothing of it is stored, and this is what the first one made. */
export class AlreadyDone extends Error {
  readonly claimed: Claimed
  constructor(claimed: Claimed) {
    super('already done')
    this.claimed = claimed
  }
}

/** @throws AlreadyDone; AppError idempotency_key_reused. */
export async function claimKey(
  tx: Tx,
  caller: Caller,
  idempotency: Idempotency | undefined,
  made: Claimed,
): Promise<void> {
  if (idempotency === undefined) return
  const { key, fingerprint } = idempotency
  const claimed = await tx.execute(sql`
    insert into chat.idempotency_keys (user_id, key, fingerprint, conversation_id, message_id)
    values (${caller.userId}, ${key}, ${fingerprint}, ${made.conversationId}, ${made.messageId})
    on conflict do nothing returning key`)
  if (claimed.length > 0) return
  const earlier = await findClaim(tx, caller, idempotency)
  if (earlier !== undefined) throw new AlreadyDone(earlier)
}

/**
 * Was this very request accepted before? One that is being stored at this moment is waited for.
 *
 * @throws AppError idempotency_key_reused.
 */
export async function wasDone(
  transactions: Transactions,
  caller: Caller,
  idempotency: Idempotency | undefined,
): Promise<boolean> {
  if (idempotency === undefined) return false
  // Claimed to be let go again: the claim is what waits for another one.
  const neverStored = new Error('nothing is claimed')
  try {
    return await transactions.asCaller(caller, async (tx) => {
      await claimKey(tx, caller, idempotency, { conversationId: randomUUID(), messageId: null })
      throw neverStored
    })
  } catch (error) {
    if (error === neverStored) return false
    if (error instanceof AlreadyDone) return true
    throw error
  }
}

/** What was made under this key before. @throws AppError idempotency_key_reused. */
export async function findClaim(
  tx: Tx,
  caller: Caller,
  { key, fingerprint }: Idempotency,
): Promise<Claimed | undefined> {
  const [row] = await tx.execute<{
    fingerprint: string
    conversation_id: string
    message_id: string | null
  }>(sql`
    select fingerprint, conversation_id, message_id from chat.idempotency_keys
    where user_id = ${caller.userId} and key = ${key}`)
  if (row === undefined) return undefined
  if (row.fingerprint !== fingerprint)
    throw new AppError('idempotency_key_reused', {
      detail: 'This key was used for another request: take a new one.',
    })
  return { conversationId: row.conversation_id, messageId: row.message_id }
}
