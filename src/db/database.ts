/**
 * Door of db: the connections, and whether they may be used.
 *
 * States: opening → ready, or opening → breached. `prepare` migrates under an advisory lock and proves the wall;
 * it tries again while the database is away, for as long as the process lives. Before `ready` every transaction
 * is refused with `database_unavailable`. A connection lost later is made again by the next transaction.
 */
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import { drizzle } from 'drizzle-orm/postgres-js'
import { migrate } from 'drizzle-orm/postgres-js/migrator'
import postgres, { type Sql } from 'postgres'
import type { Logger } from '../logging.ts'
import { createTransactions, type Transactions } from './transact.ts'
import { isUnavailable } from './failures.ts'
import { inspectWall } from './wall.ts'

export type { Caller, Transactions, Tx } from './transact.ts'

export interface Database extends Transactions {
  /** The same two entrances over a small pool of their own, for what must get through while requests queue. */
  settling: Transactions
  /** Resolves once tables may be reached; rejects when the wall does not stand or a migration is wrong. */
  prepare(signal: AbortSignal): Promise<void>
  /** 'ready', or why not, in words for the operator. */
  state(): 'ready' | 'opening' | 'breached'
  /** Round trip in ms. @throws when there is no answer within `timeoutMs`. */
  ping(timeoutMs: number): Promise<number>
  close(): Promise<void>
}

const settlingConnections = 2
const migrationLock = 7_463_111

export function createDatabase(options: { url: string; poolMax: number; log: Logger }): Database {
  const { url, poolMax, log } = options
  let state: ReturnType<Database['state']> = 'opening'
  const client = connect(url, poolMax)
  const settlingClient = connect(url, settlingConnections)
  const open = () => state === 'ready'

  async function prepareOnce(): Promise<void> {
    await migrateUnderLock(url)
    const { breaches, warnings } = await inspectWall(client)
    for (const warning of warnings) log.warn({ event: 'database_login_privileged' }, warning)
    if (breaches.length > 0) {
      state = 'breached'
      log.fatal(
        { event: 'wall_breached', breaches },
        'Row level security does not stand: no table will be reached',
      )
      throw new Error(`Row level security does not stand: ${breaches.join('; ')}`)
    }
    state = 'ready'
  }

  return {
    ...createTransactions(client, open),
    settling: createTransactions(settlingClient, open),
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
      await Promise.race([settlingClient`select 1`.then(() => undefined), late])
      return performance.now() - startedAt
    },
    async close() {
      await Promise.all([client.end({ timeout: 5 }), settlingClient.end({ timeout: 5 })])
    },
  }
}

function connect(url: string, max: number, settings: Record<string, number> = {}): Sql {
  return postgres(url, {
    max,
    connect_timeout: 5,
    fetch_types: false,
    types: wireTypes,
    // Seconds. Its own back-off grows to 20 s: a restarted database would stay away that long.
    backoff: () => 0.1,
    onnotice: () => undefined,
    connection: {
      application_name: 'rivulet',
      statement_timeout: 10_000,
      lock_timeout: 5_000,
      idle_in_transaction_session_timeout: 15_000,
      TimeZone: 'UTC',
      ...settings,
    },
  })
}

/** Values as the wire has them: JSON as text going in, times as RFC 3339 coming out. */
const wireTypes = {
  json: {
    to: 3802,
    from: [114, 3802],
    serialize: (json: string) => json,
    parse: (json: string): unknown => JSON.parse(json),
  },
  date: {
    to: 1184,
    from: [1082, 1114, 1184],
    serialize: (time: string) => time,
    parse: (time: string) => new Date(time).toISOString(),
  },
}

/** One process migrates at a time; the others wait and find it done. */
async function migrateUnderLock(url: string): Promise<void> {
  const client = connect(url, 1, { statement_timeout: 0, lock_timeout: 0 })
  try {
    await client`select pg_advisory_lock(${migrationLock})`
    await migrate(drizzle(client), {
      migrationsFolder: fileURLToPath(new URL('../../drizzle', import.meta.url)),
      migrationsSchema: 'drizzle',
    })
  } finally {
    await client.end({ timeout: 5 })
  }
}
