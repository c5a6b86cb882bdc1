/** Usage that is a guess, an upstream's books, and the real handler between them, with waits of milliseconds. */
import { v7 as uuidv7 } from 'uuid'
import { pino } from 'pino'
import type { JobHandler, Jobs } from '../../src/jobs/jobs.ts'
import { createBilling } from '../../src/upstream/reconcile.ts'
import {
  createReconcileHandler,
  reconcileKind,
  recordUsage,
  type UsageRow,
} from '../../src/usage/reconcile.ts'
import { startBooks, type Books } from './books.ts'
import { eventually, startBench, type Bench } from './jobs.ts'

export interface Bills {
  bench: Bench
  books: Books
  /** Stores an estimate, or what is said, and with it the job, due now. @returns the usage's id. */
  record(usage?: Partial<UsageRow>, upstreamId?: string): Promise<string>
  work(options?: Partial<JobHandler>): Jobs
  usageOf(id: string): Promise<Record<string, unknown> | undefined>
  /** No job is left. */
  isDone(): Promise<void>
  deaths(): Record<string, unknown>[]
  close(): Promise<void>
}

/** What `usageOf` tells of an estimate. */
export const guess = { prompt: 100, completion: 10, total: 110, cost: null, source: 'estimated' }

const estimate: Omit<UsageRow, 'id'> = {
  userId: 'ann',
  conversationId: uuidv7(),
  messageId: uuidv7(),
  generationId: uuidv7(),
  model: 'some/model',
  promptTokens: 100,
  completionTokens: 10,
  totalTokens: 110,
  cost: null,
  isFreeModel: false,
  source: 'estimated',
}

export async function startBills(): Promise<Bills> {
  const bench = await startBench()
  const books = await startBooks()
  const billing = createBilling({ baseUrl: books.baseUrl, apiKey: 'the-key' })
  return {
    bench,
    books,
    async record(usage = {}, upstreamId = 'gen-1234567890-aBcDeF') {
      const id = uuidv7()
      await bench.database.asCaller({ userId: 'ann' }, (tx) =>
        tx.commit(() => recordUsage(tx, { ...estimate, id, ...usage }, upstreamId)),
      )
      await bench.sql`update chat.jobs set run_at = now()`
      return id
    },
    work(options = {}) {
      const real = createReconcileHandler({ billing, log: pino({ level: 'silent' }) })
      return bench.worker({ [reconcileKind]: { ...real, backoff: { firstMs: 4, maxMs: 30 }, ...options } })
    },
    async usageOf(id) {
      const [row] = await bench.sql`
        select prompt_tokens as prompt, completion_tokens as completion, total_tokens as total, cost, source
        from chat.usage_tracking where id = ${id}`
      return row
    },
    isDone: async () => {
      await eventually(() => bench.rows()).toEqual([])
    },
    deaths: () => bench.logs.filter(({ event }) => event === 'job_dead'),
    async close() {
      await bench.close()
      await billing.close()
      await books.close()
    },
  }
}

/** What the books answer. */
export const bill = (data: Record<string, unknown>) => ({
  data: { id: 'gen-1', total_cost: 0.5, native_tokens_prompt: 20, native_tokens_completion: 3, ...data },
})
