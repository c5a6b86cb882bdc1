/** Stopping a generation, whoever runs it. */
import { sql } from '../db/sql.ts'
import type { Caller, Transactions } from '../db/database.ts'
import type { Generation, Settled } from './run.ts'

/**
 * Stops it here, and returns its settling; or leaves a request for the process that runs it, which reads such requests
 * with every flush, and returns undefined.
 */
export async function requestStop(
  {
    transactions,
    find,
  }: { transactions: Transactions; find: (generationId: string) => Generation | undefined },
  caller: Caller,
  generationId: string,
): Promise<{ settled: Promise<Settled> } | undefined> {
  const local = find(generationId)
  if (local !== undefined) {
    local.stop('stopped')
    return { settled: local.settled }
  }
  await transactions.asCaller(caller, (tx) =>
    tx.commit(() =>
      tx.execute(sql`
        update chat.generations set stop_requested_at = now()
        where id = ${generationId} and status = 'running' and stop_requested_at is null`),
    ),
  )
  return undefined
}
