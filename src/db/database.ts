/**
 * Door of db: the connections, and whether they may be used.
 *
 * States: opening → ready, or opening → breached. `prepare` migrates under an advisory lock and proves the wall;
 * it tries again while the database is away, for as long as the process lives. Before `ready` every transaction
 * is refused with `database_unavailable`. A connection lost later is made again by the next transaction.
 */
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import { DrizzleQueryError } from 'drizzle-orm/errors'
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import type { Logger } from '../logging.ts'
import { isUnavailable } from './failures.ts'
import { createPool, lostOr } from './pool.ts'
import { createTransactions, enterMs, type Transactions } from './transact.ts'
import { inspectWall } from './wall.ts'

export { isAway, isHeldUp } from './failures.ts'
export { CommitInDoubt, type Caller, type Transactions, type Tx } from './transact.ts'

export interface Database extends Transactions {
  /** The same two entrances over a small pool of their own, for what must get through while requests queue. */
  settling: Transactions
  /** Resolves once tables may be reached; rejects when the wall does not stand or a migration is wrong. */
  prepare(signal: AbortSignal): Promise<void>
  /** 'ready', or why not, in words for the operator. */
  state(): 'ready' | 'opening' | 'breached'
  /** Round trip in ms. @throws when there is no answer within `timeoutMs`. */
  ping(timeoutMs: number): Promise<number>
  connections(): { pool: 'requests' | 'settling'; open: number; idle: number; waiting: number }[]
  close(): Promise<void>
}

const settlingConnections = 2
const migrationLock = 7_463_111

export function createDatabase(options: {
  url: string
  poolMax: number
  log: Logger
  /** The database is embedded: that its login is a superuser is then no news. */
  embedded?: boolean
}): Database {
  const { url, poolMax, log, embedded = false } = options
  let state: ReturnType<Database['state']> = 'opening'
  const pool = createPool({ url, max: poolMax, withinMs: enterMs })
  const settlingPool = createPool({ url, max: settlingConnections, withinMs: enterMs })
  const open = () => state === 'ready'

  async function prepareOnce(): Promise<void> {
    await migrateUnderLock(url)
    const connection = await pool.lease()
    let report
    try {
      report = await inspectWall(connection)
    } finally {
      connection.release(report === undefined)
    }
    for (const warning of report.warnings)
      log[embedded ? 'debug' : 'warn']({ event: 'database_login_privileged' }, warning)
    if (report.breaches.length > 0) {
      state = 'breached'
      const { breaches } = report
      log.fatal(
        { event: 'wall_breached', breaches },
        'Row level security does not stand: no table will be reached',
      )
      throw new Error(`Row level security does not stand: ${breaches.join('; ')}`)
    }
    state = 'ready'
  }

  return {
    ...createTransactions(pool, open),
    settling: createTransactions(settlingPool, open),
    state: () => state,
    async prepare(signal) {
      for (let waitMs = 250; ; waitMs = Math.min(waitMs * 2, 5_000)) {
        try {
          await prepareOnce()
          return
        } catch (error) {
          if (!isUnavailable(error) || signal.aborted) throw error
          log.error(
            { event: 'database_unavailable', err: error, retryMs: waitMs },
            'The database cannot be reached yet',
          )
          await delay(waitMs, undefined, { signal })
        }
      }
    },
    async ping(timeoutMs) {
      const startedAt = performance.now()
      const late = delay(timeoutMs, undefined, { ref: false }).then(() => {
        throw new Error('no answer')
      })
      // Where no connection can be had at all nobody is left to hear of it.
      late.catch(() => undefined)
      const connection = await settlingPool.lease()
      let sound = false
      try {
        await Promise.race([connection.query('select 1'), late])
        sound = true
      } finally {
        connection.release(!sound)
      }
      return performance.now() - startedAt
    },
    connections: () => [
      { pool: 'requests', ...pool.counts() },
      { pool: 'settling', ...settlingPool.counts() },
    ],
    async close() {
      await Promise.all([pool.close(), settlingPool.close()])
    },
  }
}

/** One process migrates at a time; the others wait and find it done. */
async function migrateUnderLock(url: string): Promise<void> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    application_name: 'rivulet migrate',
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query('select pg_advisory_lock($1)', [migrationLock])
    await migrate(drizzle(client), {
      migrationsFolder: fileURLToPath(new URL('../../drizzle', import.meta.url)),
      migrationsSchema: 'drizzle',
    })
  } catch (error) {
    throw lostOr(error instanceof DrizzleQueryError ? error.cause : error)
  } finally {
    await client.end()
  }
}
