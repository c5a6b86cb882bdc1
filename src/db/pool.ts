/**
 * Connections: a pool of them, and what they have in common.
 *
 * Batches are pipelined: a connection sends them as they come and answers in order. Whatever the driver says
 * about a lost connection becomes a `ConnectionLost` or keeps PostgreSQL's own code, so that failures.ts can tell.
 */
import type { Duplex } from 'node:stream'
import pg from 'pg'
import { Batch, type Row, type Rows } from './batch.ts'
import type { Statement } from './sql.ts'

/** One connection, leased to one transaction. */
export interface Connection {
  query: <T extends object>(text: string, params?: readonly unknown[]) => Promise<Rows<T>>
  /** Statements issued inside are one batch: they leave together, and where one of them fails, all are told so. */
  together: <T>(issue: () => T) => T
  /** Batches issued inside leave in one packet, and are answered each by itself. */
  packet: <T>(issue: () => T) => T
  /** Back to the pool, or closed for good. */
  release(broken: boolean): void
}

export interface Pool {
  /** @throws where no connection can be had within `withinMs`. */
  lease(): Promise<Connection>
  /** Connections that are open, those of them that are idle, and who waits for one. */
  counts(): { open: number; idle: number; waiting: number }
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
/** What a connection gets to be ended in order, ms. */
const goodbyeMs = 1_000
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
  })
  const open = new Set<pg.PoolClient>()
  // A connection that dies while idle, or leased, is no news: its next use says so.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => {
    client.on('error', () => undefined)
    open.add(client)
  })
  pool.on('remove', (client) => open.delete(client))

  return {
    async lease() {
      const client = await pool.connect().catch((error: unknown) => {
        throw lostOr(error)
      })
      const gather = createGatherer(client)
      return {
        query: (text, params = []) => gather.add({ text, params }),
        together: gather.together,
        packet: gather.packet,
        release: (broken) => {
          client.release(broken)
        },
      }
    },
    counts: () => ({ open: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    async close() {
      // Whoever says goodbye to a server that is gone waits for its answer for ever.
      const impatience = setTimeout(() => {
        for (const client of open) streamOf(client).destroy()
      }, goodbyeMs)
      await pool.end()
      clearTimeout(impatience)
    },
  }
}

const streamOf = (client: pg.PoolClient) =>
  (client as unknown as { connection: { stream: Duplex } }).connection.stream

interface Waiting extends Statement {
  resolve: (rows: Rows<Row>) => void
  reject: (error: Error) => void
}

/** Gathers what is issued together into one batch; anything else is a batch by itself. */
function createGatherer(client: pg.PoolClient) {
  const stream = streamOf(client)
  let gathered: Waiting[] | undefined

  function send(all: readonly Waiting[]): void {
    const settle = (error: Error | undefined, results: Rows<Row>[]) => {
      for (let index = 0; index < all.length; index++) {
        const result = results[index]
        if (result !== undefined) all[index]?.resolve(result)
        else all[index]?.reject(error ?? new ConnectionLost('no answer'))
      }
    }
    try {
      const batch = new Batch(all, readColumn, (error, results) => settle(error && lostOr(error), results))
      packet(() => client.query(batch))
    } catch (error) {
      settle(error as Error, [])
    }
  }

  /** The driver writes message by message: corked, they are one write. */
  function packet<T>(issue: () => T): T {
    stream.cork()
    try {
      return issue()
    } finally {
      stream.uncork()
    }
  }

  return {
    packet,
    add<T extends object>(statement: Statement): Promise<Rows<T>> {
      return new Promise((resolve, reject) => {
        const waiting: Waiting = {
          ...statement,
          resolve: resolve as unknown as (rows: Rows<Row>) => void,
          reject,
        }
        if (gathered === undefined) send([waiting])
        else gathered.push(waiting)
      })
    },
    together: <T>(issue: () => T): T => {
      if (gathered !== undefined) return issue()
      gathered = []
      try {
        return issue()
      } finally {
        const all = gathered
        gathered = undefined
        if (all.length > 0) send(all)
      }
    },
  }
}

/** The driver's words for a lost connection have no code; PostgreSQL's own errors, and the system's, do. */
export function lostOr(error: unknown): Error {
  if (!(error instanceof Error)) return new ConnectionLost(String(error))
  if ('code' in error && typeof error.code === 'string') return error
  return new ConnectionLost(error.message, { cause: error })
}

/** Values as the wire has them: times as RFC 3339, numeric and bigint as text, the rest as the driver knows it. */
const timestamps: readonly number[] = [1114, 1184]
const driverParser = pg.types.getTypeParser as (oid: number) => (text: string) => unknown
const readColumn = (oid: number): ((text: string) => unknown) =>
  timestamps.includes(oid) ? (text) => new Date(text).toISOString() : driverParser(oid)
