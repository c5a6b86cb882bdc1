/**
 * Door of context: counts the tokens of stored messages, a little later, and keeps the counts with them.
 *
 * States: resting → gathering (what is noted within `delayMs` becomes one batch) → counting, in a thread of its own →
 * storing, in one statement → resting, or gathering again. After `idleMs` of rest the thread is ended.
 *
 * Promises: `note` costs its caller a place in a list, and never throws; nothing here takes part in a turn's or a
 * settle's transaction; a locked row is not waited for. What is lost (a crash, a full list, a database that is away)
 * is estimated for as long as it is sent: a count is worth no second attempt.
 */
import { Worker } from 'node:worker_threads'
import type { Transactions } from '../db/database.ts'
import { sql } from '../db/sql.ts'
import type { Logger } from '../logging.ts'

export interface StoredMessage {
  id: string
  conversation_id: string
  content: string
}

export interface TokenCounts {
  /** A message has been committed whose text will not change any more. */
  note(message: StoredMessage): void
  /** Ends the thread; what waits is not counted. */
  close(): Promise<void>
}

export interface TokenCountsOptions {
  transactions: Pick<Transactions, 'asSystem'>
  log: Logger
  /** How long a batch gathers, ms: long enough to make one statement of a busy second. */
  delayMs?: number
  /** A thread at rest keeps 70 MB this long, ms. */
  idleMs?: number
  startThread?: () => Worker
}

/** Noted and not yet counted: messages, and UTF-16 units of text in all. What comes beyond is not counted. */
const waitingMax = 4_096
const waitingCharsMax = 16 * 1024 * 1024
/** Of one batch: what is copied to the thread in one go (below 1 ms), and rows of one statement. */
const batchCharsMax = 512 * 1024
const batchMax = 256
/** A batch takes milliseconds; one text of 4 Mi characters in the costliest script 10 s. */
const countMaxMs = 30_000
/** Batches lost one after the other, and not to the database: then no thread is started any more. */
const failuresMax = 5

export function createTokenCounts(options: TokenCountsOptions): TokenCounts {
  const { transactions, log, delayMs = 1_000, idleMs = 60_000 } = options
  const { startThread = () => new Worker(new URL('counter.ts', import.meta.url)) } = options
  const waiting: StoredMessage[] = []
  let waitingChars = 0
  let timer: NodeJS.Timeout | undefined
  let working: Promise<void> | undefined
  let thread: Worker | undefined
  /** Who waits for the thread's answer: one batch at a time. */
  let asked: { resolve: (counts: number[]) => void; reject: (error: Error) => void } | undefined
  let failures = 0
  /** The log has been told that counts are being lost. */
  let told = false
  let closed = false

  function note(message: StoredMessage): void {
    const chars = message.content.length
    if (closed || failures >= failuresMax || chars === 0) return
    if (waiting.length >= waitingMax || waitingChars + chars > waitingCharsMax) return
    waiting.push(message)
    waitingChars += chars
    if (working === undefined && waiting.length === 1) after(delayMs, begin)
  }

  function after(ms: number, then: () => void): void {
    clearTimeout(timer)
    timer = setTimeout(then, ms)
    timer.unref()
  }

  function begin(): void {
    working = work(take()).then(() => {
      working = undefined
      if (closed) return
      if (failures >= failuresMax) waiting.length = 0
      if (waiting.length > 0) after(delayMs, begin)
      else after(idleMs, () => void endThread())
    })
  }

  function take(): StoredMessage[] {
    let chars = 0
    let size = 0
    for (const { content } of waiting) {
      chars += content.length
      if (size === batchMax || (chars > batchCharsMax && size > 0)) break
      size++
    }
    const batch = waiting.splice(0, size)
    for (const { content } of batch) waitingChars -= content.length
    return batch
  }

  async function work(batch: readonly StoredMessage[]): Promise<void> {
    try {
      failures++
      const counts = await count(batch.map(({ content }) => content))
      failures = 0
      await store(transactions, batch, counts)
      told = false
    } catch (error) {
      if (!told && !closed)
        log.warn({ event: 'token_counts_lost', messages: batch.length, err: error }, 'tokens are estimated')
      told = true
    }
  }

  async function count(texts: string[]): Promise<number[]> {
    let late: NodeJS.Timeout | undefined
    try {
      thread ??= openThread()
      const counting = thread
      return await new Promise((resolve, reject) => {
        asked = { resolve, reject }
        late = setTimeout(() => reject(new Error('counting takes too long')), countMaxMs)
        late.unref()
        counting.postMessage(texts)
      })
    } catch (error) {
      await endThread()
      throw error
    } finally {
      clearTimeout(late)
      asked = undefined
    }
  }

  function openThread(): Worker {
    const opened = startThread()
    opened.unref()
    opened.on('message', (counts: number[]) => asked?.resolve(counts))
    const end = (error: Error) => {
      if (thread !== opened) return
      thread = undefined
      asked?.reject(error)
    }
    opened.on('error', end)
    opened.on('exit', () => end(new Error('the counting thread has ended')))
    return opened
  }

  async function endThread(): Promise<void> {
    const ending = thread
    thread = undefined
    asked?.reject(new Error('the counting thread was ended'))
    await ending?.terminate()
  }

  return {
    note,
    async close() {
      closed = true
      clearTimeout(timer)
      waiting.length = 0
      await endThread()
      await working
    },
  }
}

async function store(
  transactions: Pick<Transactions, 'asSystem'>,
  batch: readonly StoredMessage[],
  counts: readonly number[],
): Promise<void> {
  const rows = batch.map(({ conversation_id, id }, index) => ({ conversation_id, id, tokens: counts[index] }))
  await transactions.asSystem('token counts', (tx) =>
    tx.commit(() =>
      tx.execute(sql`
        with counted as (
          select m.conversation_id, m.id, c.tokens
          from json_to_recordset(${JSON.stringify(rows)}::json) as c (conversation_id uuid, id uuid, tokens int)
          join chat.messages m on m.conversation_id = c.conversation_id and m.id = c.id
          where m.token_count is null and m.status <> 'streaming'
          order by m.conversation_id, m.id for no key update of m skip locked)
        update chat.messages m set token_count = counted.tokens from counted
        where m.conversation_id = counted.conversation_id and m.id = counted.id`),
    ),
  )
}
