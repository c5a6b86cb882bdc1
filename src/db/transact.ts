/**
 * The only way to a table: a short transaction as one user, or as a named job.
 *
 * Promises: the role and the user id are set with the transaction and end with it; when the database gives no sign
 * within `enterMs`, the caller gets `database_unavailable` and nothing was changed; a transaction that was rolled
 * back by a deadlock, or lost with its connection before its commit was sent, is run again, so `fn` must do
 * nothing but talk to `tx`.
 *
 * Round trips: BEGIN and the role leave with the first statements, and `commit` sends COMMIT with the last ones.
 */
import { print, sql, type SQL } from './sql.ts'
import { AppError } from '../errors.ts'
import { isLost, isSkipped, isTransient, isUnavailable } from './failures.ts'
import type { Connection, Pool } from './pool.ts'

/** A transaction in progress. */
export interface Tx {
  /**
   * Statements are sent in the order of the calls and need not wait for each other: several that are awaited
   * together cost one round trip, and each sees what those before it did. JSON parameters are passed as JSON text,
   * times come back as on the wire (RFC 3339, UTC, milliseconds), numeric as text.
   */
  execute<T extends object = Record<string, unknown>>(query: SQL): Promise<T[]>
  /**
   * Issues the transaction's last statements and its COMMIT together. Resolves with their results once all of it is
   * committed; where one of them fails, nothing is.
   */
  commit<T>(issue: () => Promise<T>): Promise<T>
}

export interface Caller {
  /** The JWT's `sub`. */
  userId: string
}

export interface Transactions {
  /** Sees and writes this user's rows. */
  asCaller<T>(caller: Caller, fn: (tx: Tx) => Promise<T>): Promise<T>
  /** Sees every row. `why` names the job, as it appears in `application_name` while it runs. */
  asSystem<T>(why: string, fn: (tx: Tx) => Promise<T>): Promise<T>
}

/** Until the database's first sign, waiting for a connection included, ms: a 503 is promised within two seconds. */
export const enterMs = 1_200
/** Silence later in a transaction, ms: longer than the server's own statement timeout. */
const silentMs = 12_000
const attemptsMax = 3
/** Lost connections are tried again only this long after the start, ms. */
const againWithinMs = 300

type Role = 'chat_caller' | 'chat_system'

/** @param open whether tables may be reached yet: nobody passes before the wall was proven. */
export function createTransactions(pool: Pool, open: () => boolean): Transactions {
  async function run<T>(role: Role, who: string, fn: (tx: Tx) => Promise<T>): Promise<T> {
    if (!open()) throw unavailable()
    const startedAt = performance.now()
    for (let tried = 1; ; tried++) {
      const attempt = createAttempt(pool, role, who)
      try {
        return await attempt.run(fn)
      } catch (error) {
        // A pooled connection that died while idle is only noticed by its next use: that use deserves another.
        const lost = isLost(error) && !attempt.isCommitting() && performance.now() - startedAt < againWithinMs
        if ((isTransient(error) || lost) && tried < attemptsMax) continue
        throw isUnavailable(error) ? unavailable(error, attempt.isCommitting()) : error
      }
    }
  }

  return {
    asCaller: (caller, fn) => run('chat_caller', caller.userId, fn),
    asSystem: (why, fn) => run('chat_system', `rivulet: ${why}`, fn),
  }
}

function createAttempt(pool: Pool, role: Role, who: string) {
  let committing = false
  let committed: Promise<unknown> | undefined
  let failure: unknown

  async function transact<T>(
    connection: Connection,
    fn: (tx: Tx) => Promise<T>,
    sign: () => void,
  ): Promise<T> {
    const send = async <R extends object>(query: SQL): Promise<R[]> => {
      const { text, params } = print(query)
      try {
        const { rows } = await connection.query<R>(text, params)
        return rows
      } catch (error) {
        failure ??= error
        throw error
      }
    }
    const tx: Tx = {
      execute: send,
      async commit(issue) {
        committing = true
        const [results, commitment] = connection.together(() => [issue(), commit(connection)] as const)
        committed = commitment
        // The statements' own failure says more than the commit's, which then was a rollback.
        commitment.catch(() => undefined)
        const result = await results
        await commitment
        return result
      },
    }
    const setting = role === 'chat_caller' ? 'app.current_user_id' : 'application_name'
    // Answered by themselves: a first statement that waits for a lock is no sign of a database that is gone.
    const [entering, working] = connection.packet(() => [
      connection.together(() =>
        Promise.all([
          connection.query('begin'),
          send(sql`select set_config('role', ${role}, true), set_config(${setting}, ${who}, true)`),
        ]),
      ),
      connection.together(() => fn(tx)),
    ])
    // Where the role could not be set the transaction is aborted: none of fn's statements did anything.
    working.catch(() => undefined)
    await entering
    sign()
    const result = await working
    committing = true
    committed ??= commit(connection)
    await committed
    return result
  }

  return {
    /** From here on a lost connection says nothing about whether the commit happened. */
    isCommitting: () => committing,

    async run<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
      const startedAt = performance.now()
      const connection = await pool.lease()
      let timer: NodeJS.Timeout | undefined
      const state = { silent: false }
      let giveUp: (error: Error) => void = () => undefined
      const silence = new Promise<never>((_, reject) => {
        giveUp = reject
      })
      const expect = (ms: number) => {
        clearTimeout(timer)
        timer = setTimeout(() => {
          state.silent = true
          giveUp(unavailable(undefined, committing))
        }, ms)
      }
      expect(Math.max(enterMs - (performance.now() - startedAt), 1))
      let sound = false
      try {
        const work = transact(connection, fn, () => expect(silentMs))
        work.catch(() => undefined)
        const result = await Promise.race([work, silence])
        sound = true
        return result
      } catch (error) {
        // Of several statements under way the one that failed says why, not those that were skipped behind it.
        const cause = isSkipped(error) ? (failure ?? error) : error
        // Rolled back here and now, or by closing the connection: it never goes back in the middle of something.
        sound = !state.silent && !isUnavailable(cause) && !(await failed(rollback(connection)))
        throw cause
      } finally {
        clearTimeout(timer)
        connection.release(!sound)
      }
    },
  }
}

/** After a failed statement COMMIT rolls back, and says so by its tag alone: a failure that fn kept to itself. */
async function commit(connection: Connection): Promise<void> {
  const { command } = await connection.query('commit')
  if (command !== 'COMMIT') throw new Error('a statement of this transaction failed: nothing of it is stored')
}

async function rollback(connection: Connection): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), enterMs)
  })
  await Promise.race([connection.query('rollback'), tooLong]).finally(() => clearTimeout(timer))
}

const failed = (promise: Promise<unknown>) =>
  promise.then(
    () => false,
    () => true,
  )

/** The commit was sent and never acknowledged: what the transaction did is stored, or it is not. */
export class CommitInDoubt extends AppError {
  constructor(cause?: unknown) {
    super('database_unavailable', {
      detail: 'The database was lost while this request was being stored: read again to see whether it was.',
      retryAfter: 2,
      cause,
    })
  }
}

function unavailable(cause?: unknown, committing = false): AppError {
  if (committing) return new CommitInDoubt(cause)
  return new AppError('database_unavailable', {
    detail: 'The database cannot be reached at the moment. Nothing was changed by this request.',
    retryAfter: 2,
    cause,
  })
}
