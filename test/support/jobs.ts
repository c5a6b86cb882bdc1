/** Workers over a database of their own, with jobs added and looked at beside them. */
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { expect } from 'vitest'
import { createDatabase, type Database } from '../../src/db/database.ts'
import {
  createJobs,
  enqueue,
  type JobHandler,
  type Jobs,
  type JobsOptions,
  type NewJob,
} from '../../src/jobs/jobs.ts'
import { cloneDatabase } from './service.ts'

export interface JobRow {
  id: string
  kind: string
  key: string
  user_id: string | null
  attempts: number
  leased: boolean
  /** Until it is due, ms. */
  due_ms: number
  last_error: string | null
  status: string
}

export interface Bench {
  url: string
  database: Database
  /** As its superuser: no wall. */
  sql: Sql
  logs: Record<string, unknown>[]
  /** Another instance's connections. */
  open(url?: string): Promise<Database>
  /** Looks every 50 ms unless told otherwise. */
  worker(handlers: Record<string, JobHandler>, options?: Partial<JobsOptions>): Jobs
  add(...jobs: (Partial<NewJob> & { key: string })[]): Promise<void>
  rows(): Promise<JobRow[]>
  close(): Promise<void>
}

export async function startBench(): Promise<Bench> {
  const { url, drop } = await cloneDatabase()
  const sql = postgres(url, { max: 2, onnotice: () => undefined })
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'trace' },
    { write: (line: string) => logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const databases: Database[] = []
  const workers: Jobs[] = []
  const open = async (at = url) => {
    const database = createDatabase({ url: at, poolMax: 6, log: pino({ level: 'silent' }) })
    databases.push(database)
    await database.prepare(new AbortController().signal)
    return database
  }
  const database = await open()
  return {
    url,
    database,
    sql,
    logs,
    open,
    worker(handlers, options = {}) {
      const worker = createJobs({ transactions: database, log, handlers, pollMs: 50, ...options })
      workers.push(worker)
      worker.wake()
      return worker
    },
    async add(...jobs) {
      await database.asSystem('a test', (tx) =>
        tx.commit(() =>
          Promise.all(jobs.map((job) => enqueue(tx, { kind: 'k', userId: null, payload: {}, ...job }))),
        ),
      )
    },
    rows: async () =>
      sql<JobRow[]>`
        select id, kind, key, user_id, attempts, leased_until > now() is true as leased,
          extract(epoch from run_at - now())::float8 * 1000 as due_ms, last_error, status
        from chat.jobs order by created_at, key`,
    async close() {
      await Promise.all(workers.map((worker) => worker.close()))
      await Promise.all(databases.map((opened) => opened.close()))
      await sql.end()
      await drop()
    },
  }
}

/** As expect.poll, with the patience of a busy machine. */
export const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 12_000, interval: 20 })

/** A kind that is tried again almost at once. */
export const handler = (
  run: JobHandler['run'],
  options: Partial<Pick<JobHandler, 'attemptsMax' | 'backoff'>> = {},
): JobHandler => ({ attemptsMax: 3, backoff: { firstMs: 10, maxMs: 40 }, run, ...options })

/** Ends when its signal says so, as every handler should. */
export const untilAborted: JobHandler['run'] = async (_job, signal) => {
  await delay(600_000, undefined, { signal })
  return { kind: 'done' }
}
