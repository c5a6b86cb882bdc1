/** Counts are kept with their messages a little later, in few statements; what goes wrong only loses a count. */
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { createTokenCounts, type StoredMessage, type TokenCountsOptions } from '../../src/context/counts.ts'
import { count } from '../../src/context/counter.ts'
import type { Transactions } from '../../src/db/database.ts'
import { openDatabase } from '../support/cluster.ts'
import { cloneDatabase } from '../support/service.ts'
import { storePath } from './paths.ts'
import { texts } from './texts.ts'

let cloned: Awaited<ReturnType<typeof cloneDatabase>>
let database: ReturnType<typeof openDatabase>['database']
const closing: (() => Promise<void>)[] = []

beforeAll(async () => {
  cloned = await cloneDatabase()
  database = openDatabase(cloned.url, 4).database
  await database.prepare(new AbortController().signal)
})
afterAll(async () => {
  await database.close()
  await cloned.drop()
})
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

/** The machine under test, with what it did to the database and said to the log. */
function start({
  isAway = () => false,
  ...options
}: Partial<TokenCountsOptions> & { isAway?: () => boolean } = {}) {
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'trace' },
    { write: (line: string) => logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const stored = { statements: 0 }
  const waiting: { after: number; resolve: () => void }[] = []
  const transactions: Pick<Transactions, 'asSystem'> = {
    async asSystem(why, fn) {
      try {
        if (isAway()) throw new Error('the database is away')
        return await database.asSystem(why, fn)
      } finally {
        stored.statements++
        for (const { after, resolve } of waiting) if (stored.statements >= after) resolve()
      }
    },
  }
  const counts = createTokenCounts({ transactions, log, delayMs: 5, ...options })
  closing.push(() => counts.close())
  /** Resolves when so many statements have been tried. */
  const statements = (after: number) =>
    new Promise<void>((resolve) => {
      if (stored.statements >= after) resolve()
      else waiting.push({ after, resolve })
    })
  return { ...counts, logs, stored, statements }
}

const countsOf = async (messages: readonly StoredMessage[]) => {
  const rows = await database.asSystem('test', (tx) => storePath.read(tx, messages))
  return rows.map(({ token_count: tokens }) => tokens)
}

it('counts what is noted, in one statement, once a batch has gathered', async () => {
  const messages = await storePath(database, Object.values(texts))
  const counts = start()
  for (const message of messages) counts.note(message)
  await counts.statements(1)
  expect(await countsOf(messages)).toEqual(messages.map(({ content }) => count(content)))
  expect(counts.stored.statements).toBe(1)
})

it('leaves the event loop free while it loads the vocabulary and counts 2 MB', async () => {
  const text = Object.values(texts).join('\n').repeat(25).slice(0, 100_000)
  const messages = await storePath(
    database,
    Array.from({ length: 20 }, () => text),
  )
  const counts = start()
  for (const message of messages) counts.note(message)
  // Of this thread alone, so that a busy machine does not show. Each batch has 5 texts: 512 Ki characters hold no 6th.
  const blocks: number[] = []
  const isCounted = { yet: false }
  void counts.statements(4).then(() => (isCounted.yet = true))
  while (!isCounted.yet) {
    const before = process.threadCpuUsage()
    await delay(1)
    blocks.push(process.threadCpuUsage(before).user / 1_000)
  }
  expect(await countsOf(messages)).toEqual(messages.map(() => count(text)))
  // To load the vocabulary takes over 100 ms.
  expect(Math.max(...blocks)).toBeLessThan(10)
})

it('counts text of any kind, and keeps a text’s first count', async () => {
  const odd = ['<|endoftext|>', 'NUL is not stored', ' ', '\ufffd', 'a'.repeat(100_000), '👩‍👩‍👧‍👦'.repeat(2_000)]
  const messages = await storePath(database, odd)
  const counts = start()
  for (const message of messages) counts.note(message)
  await counts.statements(1)
  const first = await countsOf(messages)
  expect(first).toEqual(odd.map(count))
  for (const message of messages) counts.note({ ...message, content: 'something else' })
  await counts.statements(2)
  expect(await countsOf(messages)).toEqual(first)
})

it('leaves alone what is still being written, what is gone, and a row that somebody has locked', async () => {
  const [first, second, third] = await storePath(database, ['one', 'two', 'three'])
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('nothing was stored')
  await database.asSystem('test', (tx) => storePath.setStreaming(tx, first))
  const counts = start()
  await database.asSystem('test', async (tx) => {
    await storePath.lock(tx, second)
    const gone = { ...third, id: '01900000-0000-7000-8000-000000000000' }
    for (const message of [first, second, third, gone]) counts.note(message)
    await counts.statements(1)
  })
  expect(await countsOf([first, second, third])).toEqual([null, null, 1])
})

it('goes on after a lost database, and says once that counts were lost', async () => {
  const messages = await storePath(database, ['a', 'b', 'c'])
  let away = true
  const counts = start({ isAway: () => away })
  for (const [index, message] of messages.entries()) {
    away = index < 2
    counts.note(message)
    await counts.statements(index + 1)
  }
  expect(await countsOf(messages)).toEqual([null, null, 1])
  expect(counts.logs).toMatchObject([{ event: 'token_counts_lost', messages: 1 }])
})

it.each([
  ['ends at once', 'process.exit(1)'],
  ['throws', `throw new Error('on purpose')`],
  [
    'throws when it is asked',
    `require('worker_threads').parentPort.on('message', () => { throw new Error('no') })`,
  ],
])('a thread that %s is started anew a few times, then never again', async (_name, source) => {
  const messages = await storePath(database, ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])
  let started = 0
  const lost = Promise.withResolvers<undefined>()
  const counts = start({
    delayMs: 0,
    startThread: () => {
      if (++started === 5) lost.resolve(undefined)
      return new Worker(source, { eval: true })
    },
  })
  const noting = setInterval(() => {
    for (const message of messages) counts.note(message)
  }, 1)
  try {
    await lost.promise
    await delay(100)
  } finally {
    clearInterval(noting)
  }
  expect(started).toBe(5)
  expect(counts.stored.statements).toBe(0)
  expect(counts.logs).toHaveLength(1)
})

it('holds 4,096 messages and no more', async () => {
  const messages = await storePath(
    database,
    Array.from({ length: 4_200 }, () => 'x'),
  )
  const counts = start({ delayMs: 0 })
  for (const message of messages) counts.note(message)
  await counts.statements(4_096 / 256)
  const counted = (await countsOf(messages)).filter((tokens) => tokens !== null)
  expect(counted).toHaveLength(4_096)
})

it('holds 16 Mi characters and no more', async () => {
  const messages = await storePath(
    database,
    Array.from({ length: 18 }, () => 'x'),
  )
  const counts = start({ delayMs: 0 })
  const content = 'a '.repeat(512 * 1024)
  for (const message of messages) counts.note({ ...message, content })
  await counts.statements(16)
  const counted = (await countsOf(messages)).filter((tokens) => tokens !== null)
  expect(counted).toHaveLength(16)
})

it('ends its thread after a rest, and starts another for what comes then', async () => {
  const messages = await storePath(database, ['one', 'two'])
  const threads: Promise<unknown>[] = []
  const counts = start({
    idleMs: 10,
    startThread: () => {
      const thread = new Worker(new URL('../../src/context/counter.ts', import.meta.url))
      threads.push(new Promise((resolve) => thread.once('exit', resolve)))
      return thread
    },
  })
  for (const [index, message] of messages.entries()) {
    counts.note(message)
    await counts.statements(index + 1)
    await threads[index]
  }
  expect(threads).toHaveLength(2)
  expect(await countsOf(messages)).toEqual([1, 1])
})

it('closes at once, whatever it is doing, and does nothing afterwards', async () => {
  const messages = await storePath(database, ['one', Object.values(texts).join('\n').repeat(900)])
  const begun = Promise.withResolvers<undefined>()
  const counts = start({
    delayMs: 0,
    startThread: () => {
      begun.resolve(undefined)
      return new Worker(new URL('../../src/context/counter.ts', import.meta.url))
    },
  })
  for (const message of messages) counts.note(message)
  await begun.promise
  await Promise.all([counts.close(), counts.close()])
  for (const message of messages) counts.note(message)
  await delay(20)
  expect(counts.stored.statements).toBe(0)
  expect(counts.logs).toEqual([])
})
