/** Reading a path and building a context from it costs what the budget allows, however long the path is. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { composeContext, pathBytesMax } from '../../src/context/build.ts'
import type { StoredMessage } from '../../src/context/counts.ts'
import { print, sql } from '../../src/db/sql.ts'
import type { Tx } from '../../src/db/database.ts'
import { readPathTexts } from '../../src/messages/queries.ts'
import { openDatabase } from '../support/cluster.ts'
import { quickest } from '../support/quickest.ts'
import { cloneDatabase } from '../support/service.ts'
import { storePath } from './paths.ts'

const tokensMax = 6_000
const options = { contextType: 'general', isFreeModel: false, tokensMax } as const
const words = 'I have worked in a warehouse for six years and would like to do something with people. '

let cloned: Awaited<ReturnType<typeof cloneDatabase>>
let database: ReturnType<typeof openDatabase>['database']
const paths: Record<string, StoredMessage[]> = {}

beforeAll(async () => {
  cloned = await cloneDatabase()
  database = openDatabase(cloned.url, 4).database
  await database.prepare(new AbortController().signal)
  const talk = (count: number, repeated: number) =>
    Array.from({ length: count }, (_, index) => `${index} ${words.repeat(repeated)}`)
  paths['50'] = await storePath(database, talk(50, 8), { counted: true })
  paths['20,000'] = await storePath(database, talk(20_000, 8), { counted: true })
  paths['2,000 not counted'] = await storePath(database, talk(2_000, 8))
  paths['2,000 of a word'] = await storePath(
    database,
    Array.from({ length: 2_000 }, () => 'ok'),
    { counted: true },
  )
})
afterAll(async () => {
  await database.close()
  await cloned.drop()
})

const pathOf = (name: string): StoredMessage => {
  const leaf = paths[name]?.at(-2)
  if (leaf === undefined) throw new Error(`there is no path ${name}`)
  return leaf
}

const read = (name: string, bytesMax = pathBytesMax(tokensMax)) => {
  const { conversation_id: conversationId, id } = pathOf(name)
  return database.asCaller({ userId: 'ann' }, (tx) =>
    tx.commit(() => readPathTexts(tx, conversationId, id, bytesMax)),
  )
}

/** Time to read a path in its transaction and to build a context from it, ms: of 40 times the 10th, for a busy machine. */
async function timeOf(name: string): Promise<number> {
  const times: number[] = []
  for (let round = 0; round < 40; round++) {
    const startedAt = performance.now()
    composeContext(await read(name), options)
    times.push(performance.now() - startedAt)
  }
  return times.toSorted((a, b) => a - b)[9] ?? Infinity
}

/** Pages of the database that reading touches. */
async function pagesOf(name: string): Promise<number> {
  const { conversation_id: conversationId, id } = pathOf(name)
  let query = sql.empty()
  const tx = { execute: (read: typeof query) => Promise.resolve(((query = read), [])) } as unknown as Tx
  await readPathTexts(tx, conversationId, id, pathBytesMax(tokensMax))
  expect(print(query).params).toHaveLength(5)
  const [plan] = await database.asCaller({ userId: 'ann' }, async (transaction) => {
    await transaction.execute(query)
    return transaction.execute<Record<string, [{ Plan: Record<string, number> }]>>(
      sql`explain (analyze, buffers, format json) ${query}`,
    )
  })
  const [top] = Object.values(plan ?? {})[0] ?? []
  return (top?.Plan['Shared Hit Blocks'] ?? 0) + (top?.Plan['Shared Read Blocks'] ?? 0)
}

it(
  '20,000 messages cost what 50 do: as many rows, about as many pages, and under 10 ms',
  { timeout: 60_000 },
  async ({ annotate }) => {
    const [short, long] = [await read('50'), await read('20,000')]
    expect(long).toHaveLength(short.length)
    expect(long.length).toBeGreaterThan(20)
    const [few, many] = [await pagesOf('50'), await pagesOf('20,000')]
    expect(many).toBeLessThan(few * 2)
    const times = { '50': await timeOf('50'), '20,000': await quickest(10, () => timeOf('20,000')) }
    await annotate(
      `${String(long.length)} rows, ${String(few)} and ${String(many)} pages, ms: ${JSON.stringify(times)}`,
    )
    expect(times['20,000']).toBeLessThan(10)
  },
)

it.for(['2,000 not counted', '2,000 of a word'])(
  '%s: under 10 ms too, and bounded rows',
  { timeout: 60_000 },
  async (name, { annotate }) => {
    const rows = await read(name)
    const ms = await quickest(10, () => timeOf(name))
    await annotate(`${String(rows.length)} rows, ${ms.toFixed(2)} ms`)
    expect(rows.length).toBeLessThanOrEqual(1_000)
    expect(ms).toBeLessThan(10)
  },
)

it('reads what fits the budget, neither a message less nor one that cannot fit', async () => {
  const rows = await read('20,000')
  const context = composeContext(rows, options)
  expect(context.isPathCut).toBe(true)
  expect(context.promptTokens).toBeGreaterThan(tokensMax * 0.95)
  expect(context.promptTokens).toBeLessThanOrEqual(tokensMax)
  expect(context.messages.length).toBeGreaterThan(rows.length - 5)
  expect(context.messages.at(-1)?.content).toBe(pathOf('20,000').content)
  const uncounted = composeContext(await read('2,000 not counted'), options)
  expect(uncounted.promptTokens).toBeGreaterThan(tokensMax * 0.95)
})

it('gives each message with what is known of it, and knows the root', async () => {
  const rows = await read('50', pathBytesMax(100_000))
  expect(rows).toHaveLength(49)
  expect(rows.map(({ isRoot }) => isRoot)).toEqual(rows.map((_, index) => index === 48))
  expect(rows[0]).toMatchObject({ role: 'user', tokens: Math.ceil(pathOf('50').content.length / 4) })
  expect(rows[0]?.createdAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d/)
  expect(composeContext(rows, { ...options, tokensMax: 100_000 }).isPathCut).toBe(false)
})

it.each([
  ['nothing', 0],
  ['less than the newest message weighs', 10],
])('with a budget of %s reads the newest message alone', async (_name, bytesMax) => {
  expect(await read('50', bytesMax)).toHaveLength(1)
})

it('reads no budget’s worth beyond an old message of 4 MB, and not that message', async () => {
  paths['huge'] = await storePath(database, ['old', 'x'.repeat(4_000_000), 'new', ''])
  const rows = await read('huge')
  expect(rows.map(({ content }) => content)).toEqual(['new'])
  expect(composeContext(rows, options)).toMatchObject({ isPathCut: true })
})

it('takes a budget that no integer of 32 bits holds', async () => {
  expect(await read('50', pathBytesMax(2_000_000_000))).toHaveLength(49)
})

it('of somebody else is empty', async () => {
  const { conversation_id: conversationId, id } = pathOf('50')
  const rows = await database.asCaller({ userId: 'bob' }, (tx) =>
    readPathTexts(tx, conversationId, id, 1_000_000),
  )
  expect(rows).toEqual([])
})
