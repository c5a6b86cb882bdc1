/**
 * Door of notifications, for whatever other services ask or tell: under a key it is done once, however often it comes. The
 * key is claimed in the transaction that does the work, and answered with what that answered. A twin that comes
 * meanwhile waits for the first one's end.
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
  const { result, replayed, told } = await transactions.asSystem(source, async (tx) => {
    if (idempotency === undefined) return { ...(await work(tx)), replayed: false }
    const known = (await claim(tx, source, [idempotency])).get(idempotency.key)
    if (known !== undefined) {
      const answer = answerAgain(known, idempotency)
      if (answer instanceof AppError) throw answer
      // What is stored under this source and fingerprint is what this work answered.
      return { result: answer as T, replayed: true, told: undefined }
    }
    const done = await work(tx)
    await keepAnswers(tx, source, [{ key: idempotency.key, result: done.result }])
    return { ...done, replayed: false }
  })
  told?.()
  return { result, replayed }
}

/** What was asked for under a key before, and what it was answered. */
export interface Known {
  fingerprint: string
  result: unknown
}

/**
 * Claims keys, each of which comes once here, in one order: no two transactions wait for each other.
 *
 * @returns those that were claimed before, by their keys: nothing is to be done for them.
 */
export async function claim(
  tx: Tx,
  source: string,
  asked: readonly Idempotency[],
): Promise<Map<string, Known>> {
  const claimed = await tx.execute<{ event_id: string }>(sql`
    insert into chat.processed_events (source, event_id, fingerprint)
    select ${source}, k.key, k.fingerprint
    from unnest(${asked.map(({ key }) => key)}::text[], ${asked.map(({ fingerprint }) => fingerprint)}::text[])
      as k (key, fingerprint)
    order by k.key on conflict do nothing returning event_id`)
  if (claimed.length === asked.length) return new Map()
  const ours = new Set(claimed.map(({ event_id }) => event_id))
  const known = await readKnown(
    tx,
    source,
    asked.map(({ key }) => key).filter((key) => !ours.has(key)),
  )
  return new Map(known.map(({ event_id, fingerprint, result }) => [event_id, { fingerprint, result }]))
}

const readKnown = (tx: Tx, source: string, keys: readonly string[]) =>
  tx.execute<Known & { event_id: string }>(sql`
    select event_id, fingerprint, result from chat.processed_events
    where source = ${source} and event_id = any(${keys}::text[])`)

/** @returns what it was answered; AppError idempotency_key_reused where it was something else. */
export const answerAgain = ({ fingerprint, result }: Known, asked: Idempotency): unknown =>
  fingerprint === asked.fingerprint
    ? result
    : new AppError('idempotency_key_reused', {
        detail: 'This key was used for another request: take a new one.',
      })

/** What is answered whenever it is asked again. */
export async function keepAnswers(
  tx: Tx,
  source: string,
  answers: readonly { key: string; result: object }[],
): Promise<void> {
  await tx.execute(sql`
    update chat.processed_events p set result = a.result
    from unnest(${answers.map(({ key }) => key)}::text[], ${answers.map(({ result }) => JSON.stringify(result))}::jsonb[])
      as a (key, result)
    where p.source = ${source} and p.event_id = a.key`)
}

/**
 * A repetition is answered as it was, also where time has made of it what would be refused now.
 *
 * @param make @throws AppError what is wrong with what was asked.
 * @returns what was made, or what was answered before. @throws as `make`.
 */
export async function madeOrKnown<T>(
  transactions: Transactions,
  source: string,
  idempotency: Idempotency | undefined,
  make: () => T,
): Promise<{ made: T } | { known: unknown }> {
  try {
    return { made: make() }
  } catch (error) {
    if (idempotency === undefined) throw error
    const [known] = await transactions.asSystem(source, (tx) =>
      tx.commit(() => readKnown(tx, source, [idempotency.key])),
    )
    if (known?.fingerprint !== idempotency.fingerprint) throw error
    return { known: known.result }
  }
}
