/**
 * Notifications that services send one by one, stored together (db/group-commit.ts), each of them once under its key.
 * Measured with 5,000 users: one to a transaction costs PostgreSQL about 1 ms, fifty to one 0.1 ms each.
 */
import { createGroupCommit } from '../db/group-commit.ts'
import { sql } from '../db/sql.ts'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Idempotency } from '../http/idempotency.ts'
import type { Composed } from './compose.ts'
import type { Inbox, NewNotification, Published } from './notify.ts'
import { writeContacts } from './preferences.ts'
import { answerAgain, claim, keepAnswers, type Known } from './processed.ts'

export interface SendAsk {
  entry: NewNotification
  contacts: Composed['contacts']
  /** Undefined: it is just sent. */
  idempotency: Idempotency | undefined
}

export interface Sent {
  published: Published
  /** It was sent before, under this key. */
  replayed: boolean
}

/**
 * A log that somebody else holds for longer is waited for by its own sends alone, and as long again, ms: others who came
 * with them have waited for it, too.
 */
const lockMs = 1_500

/** @throws AppError idempotency_key_reused. */
export type Send = (ask: SendAsk) => Promise<Sent>

/** @param source keys of another one have nothing to do with these. */
export function createSend(transactions: Transactions, inbox: Inbox, source: string): Send {
  async function store(asks: readonly SendAsk[]): Promise<(Sent | AppError)[]> {
    const { answers, told } = await transactions.asSystem(source, async (tx) => {
      const [, stored] = await Promise.all([giveUpLocksAfter(tx, lockMs), storeIn(tx, asks)])
      return stored
    })
    // What fails behind a commit must not look like one that failed.
    if (told !== undefined) queueMicrotask(told)
    return answers
  }

  async function storeIn(tx: Tx, asks: readonly SendAsk[]) {
    const firsts = firstOfEachKey(asks)
    const known = await claimAll(tx, [...firsts.values()])
    // Under a key the first one is sent; its twins are answered as it is.
    const fresh = asks.filter(
      (ask) =>
        ask.idempotency === undefined ||
        (firsts.get(ask.idempotency.key) === ask && !known.has(ask.idempotency.key)),
    )
    const { sent, told } = await publish(tx, fresh)
    for (const [{ idempotency }, result] of sent)
      if (idempotency !== undefined) known.set(idempotency.key, { ...idempotency, result })
    return { answers: asks.map((ask) => sentOf(sent.get(ask)) ?? againOf(ask, known)), told }
  }

  async function claimAll(tx: Tx, asks: readonly SendAsk[]): Promise<Map<string, Known>> {
    const keys = asks.flatMap(({ idempotency }) => idempotency ?? [])
    return keys.length === 0 ? new Map<string, Known>() : claim(tx, source, keys)
  }

  async function publish(tx: Tx, asks: readonly SendAsk[]) {
    const sent = new Map<SendAsk, Published>()
    if (asks.length === 0) return { sent, told: undefined }
    // An address that came along is one that its notification goes to.
    await writeContacts(tx, lastOfEachUser(asks))
    const { published, told } = await inbox.notifyIn(
      tx,
      asks.map(({ entry }) => entry),
    )
    for (const [index, ask] of asks.entries()) {
      const one = published[index]
      if (one === undefined) throw new Error('what was published is not what was asked for')
      sent.set(ask, one)
    }
    const kept = [...sent].flatMap(([{ idempotency }, result]) =>
      idempotency === undefined ? [] : { key: idempotency.key, result },
    )
    if (kept.length > 0) await keepAnswers(tx, source, kept)
    return { sent, told }
  }

  const ask = createGroupCommit({ store })
  return async (asked) => {
    const answer = await ask(asked)
    if (answer instanceof AppError) throw answer
    return answer
  }
}

async function giveUpLocksAfter(tx: Tx, ms: number): Promise<void> {
  await tx.execute(sql`select set_config('lock_timeout', ${String(ms)}, true)`)
}

const sentOf = (published: Published | undefined): Sent | undefined =>
  published && { published, replayed: false }

/** What is stored under this source and fingerprint is what a send answered. */
function againOf({ idempotency }: SendAsk, known: ReadonlyMap<string, Known>): Sent | AppError {
  const before = idempotency && known.get(idempotency.key)
  if (idempotency === undefined || before === undefined) return new AppError('internal_error')
  const answer = answerAgain(before, idempotency)
  return answer instanceof AppError ? answer : { published: answer as Published, replayed: true }
}

function firstOfEachKey(asks: readonly SendAsk[]): Map<string, SendAsk> {
  const firsts = new Map<string, SendAsk>()
  for (const ask of asks)
    if (ask.idempotency !== undefined && !firsts.has(ask.idempotency.key))
      firsts.set(ask.idempotency.key, ask)
  return firsts
}

function lastOfEachUser(asks: readonly SendAsk[]): Composed['contacts'] {
  const last = new Map(asks.flatMap(({ contacts }) => contacts).map((contact) => [contact.userId, contact]))
  return [...last.values()]
}
