/**
 * Attaching to a generation, whoever runs it and whether it still runs: a cursor becomes a viewer.
 *
 * A cursor within what is stored gets exactly the events behind it. No cursor, one of another generation, or one beyond
 * what is stored gets a snapshot ("replace what you have by this") and goes on from there: never a silent gap.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from '../db/sql.ts'
import { readConversation } from '../conversations/queries.ts'
import type { Caller, Transactions, Tx } from '../db/database.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import type { Links } from '../http/links.ts'
import type { SseSource } from '../http/sse.ts'
import { readMessage } from '../messages/queries.ts'
import type { Message } from '../messages/schemas.ts'
import type { LogEvent, Outcome } from './events.ts'
import type { Log } from './log.ts'
import type { Mirrors } from './mirror.ts'
import type { Generation } from './run.ts'
import { createViewer, printFrame } from './viewer.ts'

/** `<generation>:<seq>`. */
export interface Cursor {
  generationId: string
  seq: number
}

const cursorPattern = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):(\d{1,15})$/i

/** @throws AppError `invalid_request` for what is no cursor. */
export function parseCursor(text: string): Cursor {
  const [, generationId, seq] = cursorPattern.exec(text) ?? []
  if (generationId === undefined)
    throw new AppError('invalid_request', {
      detail: 'A cursor is "<generation>:<seq>", as in the id of a frame.',
      errors: [{ path: 'after', message: 'is not a cursor' }],
    })
  return { generationId: generationId.toLowerCase(), seq: Number(seq) }
}

export interface StoredGeneration extends Record<string, unknown> {
  id: string
  status: 'running' | Outcome
  model: string
  last_seq: string | null
  survived_seq: string | null
  error_code: ErrorCode | null
}

/** The generation that made a message, and the message. @throws AppError conversation_, message_, generation_not_found. */
export async function readGeneration(
  tx: Tx,
  conversationId: string,
  messageId: string,
  links: Links,
): Promise<{ generation: StoredGeneration; message: Message }> {
  // Each statement sees what was committed before it. The generation first: where it has settled, so has its message.
  const [[generation], conversation, message] = await Promise.all([
    tx.execute<StoredGeneration>(sql`
      select id, status, model, last_seq, survived_seq, error_code from chat.generations
      where conversation_id = ${conversationId} and message_id = ${messageId} order by started_at desc, id desc limit 1`),
    readConversation(tx, conversationId, links),
    readMessage(tx, conversationId, messageId),
  ])
  if (conversation === undefined) throw new AppError('conversation_not_found')
  if (message === undefined) throw new AppError('message_not_found')
  if (generation === undefined)
    throw new AppError('generation_not_found', {
      detail: 'This message was not generated: there is nothing to watch.',
    })
  return { generation, message }
}

export interface ResumeDeps {
  transactions: Transactions
  mirrors: Mirrors
  find: (generationId: string) => Generation | undefined
  links: Links
}

export async function attach(
  deps: ResumeDeps,
  caller: Caller,
  conversationId: string,
  messageId: string,
  cursor: Cursor | 'start' | undefined,
): Promise<{ generationId: string; source: SseSource }> {
  const { generation, message } = await deps.transactions.asCaller(caller, (tx) =>
    readGeneration(tx, conversationId, messageId, deps.links),
  )
  const source = await sourceOf(deps, caller, generation, message, cursor)
  return { generationId: generation.id, source }
}

async function sourceOf(
  deps: ResumeDeps,
  caller: Caller,
  generation: StoredGeneration,
  message: Message,
  cursor: Cursor | 'start' | undefined,
): Promise<SseSource> {
  const { id } = generation
  const running = generation.status === 'running'
  const mirrored = { id, caller, conversationId: message.conversation_id, messageId: message.id }
  const log = deps.find(id)?.log ?? (await deps.mirrors.open(mirrored, { running }))
  if (log === undefined) return settledLongAgo(generation, message)
  // Shown by its own process, and stored a moment later: worth waiting for, before saying that it is not there.
  if (cursor === 'start') return createViewer(log)
  if (running && cursor?.generationId === id) await reached(log, cursor.seq)
  return fromLog(log, message, generation, cursor)
}

/** How far a mirror may be behind what its run has shown, ms: a flush under load, and a look at it. */
const behindMs = 1_000

/** Resolves when the log has come as far as `seq`, or has ended, or after `behindMs`. */
async function reached(log: Log, seq: number): Promise<void> {
  if (log.head() >= seq || log.terminal() !== undefined) return
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer)
      unwatch()
      resolve()
    }
    const timer = setTimeout(done, behindMs)
    const unwatch = log.watch(() => {
      if (log.head() >= seq || log.terminal() !== undefined) done()
    })
  })
}

function fromLog(
  log: Log,
  message: Message,
  generation: StoredGeneration,
  cursor: Cursor | undefined,
): SseSource {
  const { generationId } = log
  const terminal = log.terminal()
  const lastText = terminal === undefined ? log.head() : lastBefore(log, terminal.seq)
  if (cursor?.generationId === generationId) {
    if (cursor.seq <= lastText) return createViewer(log, cursor.seq)
    // Whoever has seen the end is told it once more.
    if (cursor.seq === terminal?.seq) return createViewer(log, terminal.seq - 1)
  }
  // Running elsewhere, and nothing of it is stored yet: everything is still to come. Whoever has something else has to
  // be told to drop it, by a snapshot with nothing in it.
  if (log.head() === 0 && cursor === undefined) return createViewer(log)
  const first: string[] = []
  const snapshot = snapshotOf(log, lastText, message)
  const start = startOf(log, message, generation)
  if (cursor === undefined) first.push(printFrame(generationId, start.seq, start.event))
  const said = snapshot.content !== '' || 'reasoning' in snapshot.metadata
  if (cursor !== undefined || said)
    first.push(printFrame(generationId, lastText, { type: 'snapshot', message: snapshot }))
  return createViewer(log, lastText, first)
}

/** The chunks are gone: the message is what there is. */
function settledLongAgo(generation: StoredGeneration, message: Message): SseSource {
  const { id } = generation
  const seq = Number(generation.last_seq ?? 1)
  const frames = [
    printFrame(id, 1, startEvent(id, message, generation.model)),
    printFrame(id, Math.max(seq - 1, 1), { type: 'snapshot', message }),
    printFrame(id, seq, storedTerminal(generation, message)),
  ]
  let printed = 0
  return {
    next() {
      const frame = frames[printed]
      if (frame === undefined) return undefined
      printed++
      return { frame, last: printed === frames.length }
    },
    watch: () => () => undefined,
  }
}

/** How a generation ended; waits for it while it runs, here or elsewhere. */
export async function outcomeOf(
  deps: ResumeDeps,
  caller: Caller,
  conversationId: string,
  messageId: string,
): Promise<{ generationId: string; message: Message; error: AppError | undefined }> {
  for (;;) {
    const { generation, message } = await deps.transactions.asCaller(caller, (tx) =>
      readGeneration(tx, conversationId, messageId, deps.links),
    )
    if (generation.status !== 'running')
      return {
        generationId: generation.id,
        message,
        error: generation.error_code === null ? undefined : new AppError(generation.error_code),
      }
    const local = deps.find(generation.id)
    await (local?.settled ?? delay(outcomePollMs))
  }
}

const outcomePollMs = 250

function storedTerminal(generation: StoredGeneration, message: Message): LogEvent {
  if (generation.error_code === null) return { type: 'complete', message, usage: message.usage }
  const { code, message: words, retryable, retryAfter } = new AppError(generation.error_code)
  const error = {
    code,
    message: words,
    retryable,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
  }
  return { type: 'error', error, message }
}

/** The last event's seq before the terminal one, which may be numbered far beyond it. */
function lastBefore(log: Log, terminalSeq: number): number {
  let low = 0
  for (let next = log.next(low); next !== undefined && next.seq < terminalSeq; next = log.next(low))
    low = next.seq
  return low
}

function startOf(log: Log, message: Message, generation: StoredGeneration): { seq: number; event: LogEvent } {
  for (let seq = 0; ;) {
    const next = log.next(seq)
    if (next === undefined) break
    if (next.event.type === 'assistant_start') return next
    seq = next.seq
  }
  return { seq: 1, event: startEvent(log.generationId, message, generation.model) }
}

const startEvent = (generationId: string, message: Message, model: string): LogEvent => ({
  type: 'assistant_start',
  message: { ...message, content: '', status: 'streaming' },
  generation_id: generationId,
  model,
  estimated_response_time_ms: null,
})

/** The message as it stands after `lastSeq`. It may have been read when more was known of it: its end comes later. */
function snapshotOf(log: Log, lastSeq: number, message: Message): Message {
  const text: string[] = []
  const thoughts: string[] = []
  for (let seq = 0; seq < lastSeq;) {
    const next = log.next(seq)
    if (next === undefined) break
    if (next.event.type === 'assistant_chunk') text.push(next.event.content)
    if (next.event.type === 'reasoning_chunk') thoughts.push(next.event.content)
    seq = next.seq
  }
  const metadata = { ...message.metadata }
  delete metadata['reasoning']
  if (thoughts.length > 0) metadata['reasoning'] = thoughts.join('')
  return {
    ...message,
    content: text.join(''),
    ...(log.terminal() === undefined && { status: 'streaming' as const }),
    metadata,
  }
}
