/**
 * The only way to a table: a short transaction as one user, or as a named job.
 *
 * Promises: the role and the user id are set with the transaction and end with it; when the database cannot be
 * entered within `enterMs`, the caller gets `database_unavailable` and `fn` never runs; a transaction that was
 * rolled back by a deadlock, or lost with its connection before its commit was sent, is run again, so `fn` must
 * do nothing but talk to `tx`.
 */
import { sql, type SQL } from 'drizzle-orm'
import { PgDialect } from 'drizzle-orm/pg-core'
import type { Sql } from 'postgres'
import { AppError } from '../errors.ts'
import { isLost, isTransient, isUnavailable } from './failures.ts'

/** A transaction in progress. */
export interface Tx {
  /**
   * Statements are sent in the order of the calls and need not wait for each other: several that are awaited
   * together cost one round trip, and each sees what those before it did. JSON parameters are passed as JSON text,
   * times come back as on the wire (RFC 3339, UTC, milliseconds), numeric as text.
   */
  execute<T extends object = Record<string, unknown>>(query: SQL): Promise<T[]>
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

/** Waiting for a connection, ms. Leaves half a second of the two in which a 503 is promised. */
const enterMs = 1_500
/** Silent database in the middle of a transaction, ms: longer than the server's own statement timeout. */
const silentMs = 12_000
const attemptsMax = 3
/** Lost connections are tried again only this long after the start, ms: a 503 comes within two seconds all the same. */
const againWithinMs = 300

type Role = 'chat_caller' | 'chat_system'

/** @param open whether tables may be reached yet: nobody passes before the wall was proven. */
export function createTransactions(client: Sql, open: () => boolean): Transactions {
  const dialect = new PgDialect()

  async function attempt<T>(role: Role, who: string, fn: (tx: Tx) => Promise<T>, guard: Guard): Promise<T> {
    const work = client.begin(async (connection) => {
      guard.entered()
      const tx: Tx = {
        async execute<T extends object>(query: SQL) {
          const { sql: text, params } = dialect.sqlToQuery(query)
          return connection.unsafe<T[]>(text, params as string[], { prepare: true })
        },
      }
      // Sent together with fn's first statement: where it fails, the transaction is aborted and nothing else runs.
      const setting = role === 'chat_caller' ? 'app.current_user_id' : 'application_name'
      const entering = tx.execute(
        sql`select set_config('role', ${role}, true), set_config(${setting}, ${who}, true)`,
      )
      const [, result] = await Promise.all([entering, fn(tx)])
      guard.committing()
      return result
    })
    return guard.race(work as Promise<T>)
  }

  async function run<T>(role: Role, who: string, fn: (tx: Tx) => Promise<T>): Promise<T> {
    if (!open()) throw unavailable()
    const startedAt = performance.now()
    for (let tried = 1; ; tried++) {
      const guard = createGuard()
      try {
        return await attempt(role, who, fn, guard)
      } catch (error) {
        // A pooled connection that died while idle is only noticed by its next use: that use deserves another.
        const lost = isLost(error) && !guard.isCommitting() && performance.now() - startedAt < againWithinMs
        if ((isTransient(error) || lost) && tried < attemptsMax) continue
        throw isUnavailable(error) ? unavailable(error, guard.isCommitting()) : error
      }
    }
  }

  return {
    asCaller: (caller, fn) => run('chat_caller', caller.userId, fn),
    asSystem: (why, fn) => run('chat_system', `rivulet: ${why}`, fn),
  }
}

type Guard = ReturnType<typeof createGuard>

/** postgres.js waits for a connection without limit, and for an answer too: this does not. */
function createGuard() {
  let late = false
  let committing = false
  let timer: NodeJS.Timeout | undefined
  let giveUp: (error: Error) => void = () => undefined
  const tooLong = new Promise<never>((_, reject) => {
    giveUp = reject
  })
  const arm = (ms: number) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      late = true
      giveUp(unavailable())
    }, ms)
  }
  arm(enterMs)
  return {
    /** Called inside the transaction. Throws where the caller was already told no: it is rolled back. */
    entered() {
      if (late) throw unavailable()
      arm(silentMs)
    },
    /** From here on a lost connection says nothing about whether the commit happened. */
    committing() {
      committing = true
    },
    isCommitting: () => committing,
    async race<T>(work: Promise<T>): Promise<T> {
      work.catch(() => undefined)
      try {
        return await Promise.race([work, tooLong])
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

export function unavailable(cause?: unknown, committing = false): AppError {
  return new AppError('database_unavailable', {
    detail: committing
      ? 'The database was lost while this request was being stored: read again to see whether it was.'
      : 'The database cannot be reached at the moment. Nothing was changed by this request.',
    retryAfter: 2,
    cause,
  })
}
