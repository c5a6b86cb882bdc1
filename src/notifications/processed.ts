/**
 * What another service asked for under a key is done once, however often it comes: the key is claimed in the transaction
 * that does the work, and answered with what that answered. A twin that comes meanwhile waits for the first one's end.
 */
import { sql } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Idempotency } from '../http/idempotency.ts'

export interface Work<T> {
  /** What is answered, now and whenever it is asked again: JSON. */
  result: T
  /** Called once it is committed; not for a repetition. */
  told?: () => void
}

/**
 * @param source who asks for what, such as a route: keys of two of them have nothing to do with each other.
 * @param work as the system; without a key it is just done.
 * @throws AppError idempotency_key_reused.
 */
export async function once<T extends Record<string, unknown>>(
  transactions: Transactions,
  source: string,
  idempotency: Idempotency | undefined,
  work: (tx: Tx) => Promise<Work<T>>,
): Promise<{ result: T; replayed: boolean }> {
  try {
    const { result, told } = await transactions.asSystem(source, async (tx) => {
      if (idempotency === undefined) return work(tx)
      await claim(tx, source, idempotency)
      const done = await work(tx)
      await tx.execute(sql`
        update chat.processed_events set result = ${JSON.stringify(done.result)}::jsonb
        where source = ${source} and event_id = ${idempotency.key}`)
      return done
    })
    told?.()
    return { result, replayed: false }
  } catch (error) {
    if (!(error instanceof AlreadyProcessed)) throw error
    // What is stored under this source and fingerprint is what this work answered.
    return { result: error.result as T, replayed: true }
  }
}

/** Thrown out of a transaction that came second: nothing of it is stored. */
class AlreadyProcessed extends Error {
  readonly result: unknown
  constructor(result: unknown) {
    super('already processed')
    this.result = result
  }
}

async function claim(tx: Tx, source: string, { key, fingerprint }: Idempotency): Promise<void> {
  const claimed = await tx.execute(sql`
    insert into chat.processed_events (source, event_id, fingerprint) values (${source}, ${key}, ${fingerprint})
    on conflict do nothing returning event_id`)
  if (claimed.length > 0) return
  const [known] = await tx.execute<{ fingerprint: string; result: unknown }>(sql`
    select fingerprint, result from chat.processed_events where source = ${source} and event_id = ${key}`)
  if (known?.fingerprint !== fingerprint)
    throw new AppError('idempotency_key_reused', {
      detail: 'This key was used for another request: take a new one.',
    })
  throw new AlreadyProcessed(known.result)
}
