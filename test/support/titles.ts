/** Conversations whose first exchange has settled, the real handler that names them, and an upstream as scripted. */
import { pino } from 'pino'
import { v7 as uuidv7 } from 'uuid'
import { createPseudonyms } from '../../src/auth/pseudonym.ts'
import { createTitles, titleKind, type TitlesDeps } from '../../src/conversations/title-job.ts'
import { PAID_MODEL_ID, startDemoModel, type DemoModel } from '../../src/embedded/demo-model.ts'
import { enqueue, type Jobs, type JobsOptions } from '../../src/jobs/jobs.ts'
import { createBreakers } from '../../src/upstream/breakers.ts'
import { createCatalogue } from '../../src/upstream/models.ts'
import { createUpstream } from '../../src/upstream/openrouter.ts'
import { eventually, startBench, type Bench, type JobRow } from './jobs.ts'

export interface Named {
  id: string
  /** Of the first answer. */
  messageId: string
}

export interface Naming {
  bench: Bench
  model: DemoModel
  /** A conversation as its first exchange leaves it, and the job. */
  settled(
    text?: { question?: string; answer?: string },
    options?: Partial<TitlesDeps> & { tier?: 'free' | 'premium' },
  ): Promise<Named>
  /** Asks the paid model unless told otherwise, and tries again almost at once. */
  work(options?: Partial<TitlesDeps>, worker?: Partial<JobsOptions>): Jobs
  titleOf(named: Named): Promise<Record<string, unknown> | undefined>
  /** Rows on the first answer, in the order of their calls. */
  usageOf(named: Named): Promise<readonly Record<string, unknown>[]>
  titleJobs: () => Promise<JobRow[]>
  /** Jobs that will ask for a price. */
  questions: () => Promise<JobRow[]>
  /** No title is to be made any more. */
  done(): Promise<void>
  /** The only one was given up. */
  gone(why: string): Promise<void>
  deaths: () => Record<string, unknown>[]
  close(): Promise<void>
}

export const local = { title: 'local', title_source: 'auto' }
export const made = (title: string) => ({ title, title_source: 'auto' })
/** What `usageOf` tells of a call whose price nobody has told. */
export const estimated = { model: PAID_MODEL_ID, cost: null, source: 'estimated' }

const silent = pino({ level: 'silent' })
const nowMs = () => performance.now()

export async function startNaming(): Promise<Naming> {
  const bench = await startBench()
  const model = await startDemoModel()
  const timeouts = { connectMs: 5_000, firstTextMs: 5_000, idleMs: 5_000, totalMs: 5_000 }
  const upstream = createUpstream({ baseUrl: model.baseUrl, apiKey: 'test', timeouts })
  const catalogue = createCatalogue({ baseUrl: model.baseUrl, apiKey: 'test', log: silent })
  await catalogue.refresh()

  const titles = (options: Partial<TitlesDeps> = {}) =>
    createTitles({
      model: PAID_MODEL_ID,
      freeOnly: false,
      catalogue,
      upstream,
      breakers: createBreakers({ nowMs }),
      transactions: bench.database,
      pseudonymOf: createPseudonyms('a key'),
      observe: () => undefined,
      log: silent,
      nowMs,
      ...options,
    })
  const jobsOf = async (wanted: string) => (await bench.rows()).filter(({ kind }) => kind === wanted)
  const titleJobs = () => jobsOf(titleKind)

  return {
    bench,
    model,
    async settled(text = {}, options = {}) {
      const [id, questionId, messageId, generationId] = [uuidv7(), uuidv7(), uuidv7(), uuidv7()]
      const { question = 'What could I become?', answer = 'Many things.' } = text
      await bench.sql`
        insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
        values (${id}, 'ann', 'local', 'auto', 'general', '{}', '{}')`
      await bench.sql`
        insert into chat.messages (conversation_id, id, user_id, parent_message_id, sender_type, sender_id, content,
          content_type, status, metadata)
        values (${id}, ${questionId}, 'ann', null, 'user', 'ann', ${question}, 'text', 'complete', '{}'),
          (${id}, ${messageId}, 'ann', ${questionId}, 'assistant', 'm', ${answer}, 'text', 'complete', '{}')`
      const caller = {
        kind: 'user',
        userId: 'ann',
        tier: options.tier ?? 'premium',
        name: undefined,
        validUntil: Date.UTC(2100, 0),
      } as const
      const job = titles(options).jobFor(caller, { id, titleSource: 'default' }, { messageId, generationId })
      if (job === undefined) throw new Error('no job')
      await bench.database.asCaller(caller, (tx) => tx.commit(() => enqueue(tx, job)))
      return { id, messageId }
    },
    work: (options = {}, worker = {}) =>
      bench.worker(
        { [titleKind]: { ...titles(options).handler, backoff: { firstMs: 4, maxMs: 30 } } },
        { ...(options.transactions !== undefined && { transactions: options.transactions }), ...worker },
      ),
    async titleOf({ id }) {
      const [row] = await bench.sql`select title, title_source from chat.conversations where id = ${id}`
      return row
    },
    usageOf: async ({ id, messageId }) => bench.sql`
      select model, prompt_tokens as prompt, completion_tokens as completion, cost, source from chat.usage_tracking
      where conversation_id = ${id} and message_id = ${messageId} and user_id = 'ann' order by id`,
    titleJobs,
    questions: () => jobsOf('reconcile_cost'),
    async done() {
      await eventually(titleJobs).toEqual([])
    },
    async gone(why) {
      await eventually(titleJobs).toMatchObject([{ status: 'dead', last_error: why }])
    },
    deaths: () => bench.logs.filter(({ event }) => event === 'job_dead'),
    async close() {
      await bench.close()
      await model.close()
      await upstream.close()
      await catalogue.close()
    },
  }
}
