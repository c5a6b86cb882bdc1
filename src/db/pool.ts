/**
 * Connections: a pool of them, and what they have in common.
 *
 * Statements are pipelined: a connection sends them as they come and answers in order. Whatever the driver says
 * about a lost connection becomes a `ConnectionLost` or keeps PostgreSQL's own code, so that failures.ts can tell.
 */
import type { Duplex } from 'node:stream'
import pg from 'pg'

export interface Rows<T> {
  rows: T[]
  /** Rows returned or changed. */
  count: number
  /** What the server says that it did, such as SELECT. */
  command: string
}

/** One connection, leased to one transaction. */
export interface Connection {
  query<T extends object>(text: string, params?: readonly unknown[]): Promise<Rows<T>>
  /** Statements issued inside leave in one packet. */
  together<T>(issue: () => T): T
  /** Back to the pool, or closed for good. */
  release(broken: boolean): void
}

export interface Pool {
  /** @throws where no connection can be had within `withinMs`. */
  lease(): Promise<Connection>
  close(): Promise<void>
}

export class ConnectionLost extends Error {
  readonly code = 'CONNECTION_LOST'
}

export interface PoolOptions {
  url: string
  max: number
  /** Waiting for a connection, ms. */
  withinMs: number
  /** Server settings of every connection, such as statement_timeout in ms; 0 is none. */
  settings?: { statementMs?: number; lockMs?: number }
}

const idleInTransactionMs = 15_000
/** Long enough to be reused, short enough that a rotated login or a moved server is noticed. */
const lifetimeS = 1_800

export function createPool({ url, max, withinMs, settings = {} }: PoolOptions): Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    connectionTimeoutMillis: withinMs,
    idleTimeoutMillis: 30_000,
    maxLifetimeSeconds: lifetimeS,
    pipeline: true,
    keepAlive: true,
    application_name: 'rivulet',
    statement_timeout: settings.statementMs ?? 10_000,
    lock_timeout: settings.lockMs ?? 5_000,
    idle_in_transaction_session_timeout: idleInTransactionMs,
    options: '-c TimeZone=UTC',
    types: wireTypes,
  })
  // A connection that dies while idle, or leased, is no news: its next use says so.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))

  return {
    async lease() {
      const client = await pool.connect().catch((error: unknown) => {
        throw lostOr(error)
      })
      const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection
      return {
        query: (text, params) => query(client, text, params),
        together(issue) {
          stream.cork()
          try {
            return issue()
          } finally {
            stream.uncork()
          }
        },
        release: (broken) => {
          client.release(broken)
        },
      }
    },
    close: () => pool.end(),
  }
}

function query<T extends object>(
  client: pg.PoolClient,
  text: string,
  params?: readonly unknown[],
): Promise<Rows<T>> {
  return new Promise((resolve, reject) => {
    // With a callback the driver builds no stack trace for each statement.
    const done = (error: Error | undefined, result: pg.QueryResult<T>) => {
      if (error) reject(lostOr(error))
      else resolve({ rows: result.rows, count: result.rowCount ?? 0, command: result.command })
    }
    if (params === undefined) client.query(text, done)
    else client.query({ name: nameOf(text), text, values: [...params] }, done)
  })
}

/** Statements are prepared under a name of their own; there are as many as the source has, give or take a filter. */
const names = new Map<string, string>()

function nameOf(text: string): string {
  let name = names.get(text)
  if (name === undefined) {
    name = `rivulet_${names.size}`
    names.set(text, name)
  }
  return name
}

/** The driver's words for a lost connection have no code; PostgreSQL's own errors, and the system's, do. */
export function lostOr(error: unknown): Error {
  if (!(error instanceof Error)) return new ConnectionLost(String(error))
  if ('code' in error && typeof error.code === 'string') return error
  return new ConnectionLost(error.message, { cause: error })
}

/** Values as the wire has them: times as RFC 3339, numeric and bigint as text, the rest as the driver knows it. */
const timestamps: readonly number[] = [1114, 1184]
const driverParser = pg.types.getTypeParser as (oid: number, format?: string) => (value: string) => unknown
const wireTypes = {
  getTypeParser(oid: number, format?: string): (value: string) => unknown {
    if (timestamps.includes(oid)) return (value) => new Date(value).toISOString()
    return driverParser(oid, format)
  },
}
