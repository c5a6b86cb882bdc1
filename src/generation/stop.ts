/** Stopping a generation, whoever runs it: a row asks for it, and the bus tells whom it concerns. */
import { z } from 'zod'
import type { Bus } from '../bus/bus.ts'
import { sql } from '../db/sql.ts'
import type { Caller, Transactions } from '../db/database.ts'
import type { Journal } from './journal.ts'
import type { Generation, Settled } from './run.ts'

/**
 * Stops it here, and returns its settling; or leaves a request for the process that runs it, which reads such requests
 * with every flush, and returns undefined.
 *
 * @param deps.tell called when the request is stored: who runs it need not wait for its next flush.
 */
export async function requestStop(
  {
    transactions,
    find,
    tell,
  }: {
    transactions: Transactions
    find: (generationId: string) => Generation | undefined
    tell?: ((generationId: string) => void) | undefined
  },
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
  tell?.(generationId)
  return undefined
}

const topic = 'stop'
const stopRequest = z.object({ generation_id: z.string() })

/** Tells all other instances of a stored request. */
export const tellStops =
  (bus: Pick<Bus, 'publish'>): ((generationId: string) => void) =>
  (generationId) => {
    bus.publish(topic, { generation_id: generationId } satisfies z.input<typeof stopRequest>, generationId)
  }

/**
 * Looks at once where another instance tells of a request. The row decides: a message alone stops nothing.
 *
 * @returns unsubscribe
 */
export const heedStops = (bus: Pick<Bus, 'subscribe'>, journal: Pick<Journal, 'look'>): (() => void) =>
  bus.subscribe(topic, (message) => {
    const told = stopRequest.safeParse(message)
    if (told.success) journal.look(told.data.generation_id)
  })
