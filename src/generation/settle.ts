/**
 * The end of a generation, stored: status, text, usage, title, in one transaction, exactly once.
 *
 * Guarded by `status = 'running'`: whoever comes second changes nothing and is told so. The conversation is locked
 * first, as in every transaction that writes to one, so a turn and a settle can never wait for each other.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import type { ListedConversation, TellDevices } from '../conversations/changes.ts'
import { noteAnswer } from '../conversations/queries.ts'
import type { Caller, Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { enqueue, type Jobs, type NewJob } from '../jobs/jobs.ts'
import type { Logger } from '../logging.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { readMessage, settleMessage } from '../messages/queries.ts'
import type { Message } from '../messages/schemas.ts'
import { needsReconciling, reconcileAfterMs, recordUsage, type UsageRow } from '../usage/reconcile.ts'
import type { LogEvent, Outcome } from './events.ts'
import type { StoredTerminal } from './mirror.ts'
import { leaveNews } from './news.ts'

export interface Settlement {
  caller: Caller
  generationId: string
  conversationId: string
  messageId: string
  outcome: Outcome
  content: string
  /** The model that answered, or was asked last. */
  sender: string | undefined
  /** Of the content, as its model counted them. Undefined: not told, or not of the content alone. */
  tokens: number | undefined
  metadata: Record<string, unknown>
  upstreamId: string | undefined
  /** The terminal event's number. */
  lastSeq: number
  /** The last seq that the journal holds, and the events behind it: they are stored with the settle. */
  storedSeq: number
  tail: readonly LogEvent[]
  terminal: StoredTerminal
  errorCode: string | undefined
  /** What the first exchange asked: a title may be made of it. */
  question: string
  /** Makes a better title, where this is the first exchange and it was answered. */
  titleJob?: NewJob | undefined
  /** One for each upstream answer that it took. */
  usages: readonly (Omit<UsageRow, 'id' | 'userId' | 'conversationId' | 'messageId' | 'generationId'> & {
    upstreamId: string | undefined
  })[]
}

interface Stored {
  message: Message
  conversation: ListedConversation | undefined
  /** There are jobs to do at once. */
  work: boolean
}

/**
 * One packet: the guard refuses the whole transaction where somebody else was first.
 *
 * @returns what was stored; undefined where the generation was settled by somebody else.
 */
async function settle({ transactions, outbox }: SettleDeps, end: Settlement): Promise<Stored | undefined> {
  const { caller, conversationId, messageId, generationId } = end
  const titleJob = titleJobOf(end)
  const store = async (tx: Tx): Promise<Stored | undefined> => {
    const ended = Promise.all([
      tx.execute(sql`select 1 from chat.conversations where id = ${conversationId} for update`),
      guard(tx, end),
      settleMessage(tx, conversationId, messageId, {
        content: end.content,
        status: end.outcome,
        sender: end.sender,
        tokens: end.tokens,
        metadata: end.metadata,
      }),
      ...end.usages.map(({ upstreamId, ...usage }) =>
        recordUsage(
          tx,
          { id: uuidv7(), userId: caller.userId, conversationId, messageId, generationId, ...usage },
          upstreamId,
        ),
      ),
      insertTail(tx, end),
    ])
    const [, conversation, news, , message] = await Promise.all([
      ended,
      noteAnswer(tx, conversationId, { question: end.question, answer: end.content }),
      leaveNews(tx, { ...end, userId: caller.userId }),
      titleJob === undefined ? undefined : enqueue(tx, titleJob),
      readMessage(tx, conversationId, messageId),
      outbox?.appendMessage(tx, { conversationId, messageId }),
    ])
    return message && { message, conversation, work: news || titleJob !== undefined }
  }
  try {
    return await transactions.asCaller(caller, (tx) => tx.commit(() => store(tx)))
  } catch (error) {
    if (isRefusedByGuard(error)) return undefined
    throw error
  }
}

const titleJobOf = ({ outcome, content, titleJob }: Settlement) =>
  titleJob !== undefined && outcome === 'complete' && content.trim() !== '' ? titleJob : undefined

/** Whoever changes the status settles it. Nobody there to change: a division by nothing, which ends the transaction. */
async function guard(
  tx: Tx,
  { generationId, outcome, upstreamId, lastSeq, errorCode }: Settlement,
): Promise<void> {
  await tx.execute(sql`
    with guarded as (
      update chat.generations set status = ${outcome}, upstream_id = coalesce(${upstreamId ?? null}, upstream_id),
        last_seq = ${lastSeq}, error_code = ${errorCode ?? null}, settled_at = now()
      where id = ${generationId} and status = 'running' returning id)
    select 1 / count(*) from guarded`)
}

const isRefusedByGuard = (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === '22012'

/** The rest of the log, and its end. A flush whose acknowledgement was lost may have stored a part of it. */
async function insertTail(tx: Tx, end: Settlement): Promise<void> {
  const { generationId, caller, storedSeq, tail, terminal, lastSeq } = end
  const rows = [{ first: lastSeq, last: lastSeq, events: [terminal] as unknown[] }]
  if (tail.length > 0)
    rows.unshift({ first: storedSeq + 1, last: storedSeq + tail.length, events: [...tail] })
  await tx.execute(sql`
    insert into chat.generation_chunks (generation_id, first_seq, last_seq, user_id, events)
    select ${generationId}, row.first, row.last, ${caller.userId}, row.events
    from json_to_recordset(${JSON.stringify(rows)}::json) as row (first bigint, last bigint, events jsonb)
    on conflict (generation_id, first_seq) do update set last_seq = excluded.last_seq, events = excluded.events`)
}

export interface SettleDeps {
  transactions: Transactions
  jobs: Pick<Jobs, 'wake'>
  tellDevices?: TellDevices | undefined
  /** Tells other services of answers. */
  outbox?: Outbox | undefined
  log: Logger
  nowMs: () => number
}

/** How long a settle is tried again while the database is away, ms. */
const patienceMs = 60_000
const retryMs = 250

/**
 * Settles, and waits out a database that is away: text that was paid for is not thrown away for a restart.
 *
 * @returns what is stored, and whether that is what was asked for: somebody else may have been first.
 * @throws what went wrong, once patience is at its end or where waiting would not mend it.
 */
export async function settlePatiently(
  deps: SettleDeps,
  end: Settlement,
): Promise<{ message: Message | undefined; ours: boolean }> {
  const { transactions, jobs, tellDevices, outbox, log, nowMs } = deps
  const { caller, conversationId, messageId, generationId } = end
  const startedAtMs = nowMs()
  for (;;) {
    try {
      const settled = await settle(deps, end)
      if (settled !== undefined) {
        const { message, conversation, work } = settled
        if (work) jobs.wake()
        outbox?.wake('chat.message_created')
        if (end.usages.some((usage) => needsReconciling(usage, usage.upstreamId))) jobs.wake(reconcileAfterMs)
        if (conversation !== undefined && conversation.status !== 'deleted')
          tellDevices?.(caller.userId, { ...conversation, reason: 'answer' })
        return { message, ours: true }
      }
      const message = await transactions.asCaller(caller, (tx) => readMessage(tx, conversationId, messageId))
      // An earlier try of ours may have been committed, and its acknowledgement lost.
      return { message, ours: message?.status === end.outcome && message.content === end.content }
    } catch (error) {
      const away = error instanceof AppError && error.code === 'database_unavailable'
      log.error({ event: 'settle_failed', generationId, err: error }, 'settle failed')
      if (!away || nowMs() - startedAtMs > patienceMs) throw error
      await delay(retryMs)
    }
  }
}

/**
 * Ends a generation whose turn may or may not have been stored: its COMMIT was never acknowledged. Where it was, the
 * conversation would stay locked by an answer that nobody writes.
 */
export async function abandon(
  deps: SettleDeps,
  turn: Pick<Settlement, 'caller' | 'generationId' | 'conversationId' | 'messageId'>,
): Promise<void> {
  const end: Settlement = {
    ...turn,
    outcome: 'interrupted',
    content: '',
    sender: undefined,
    tokens: undefined,
    metadata: {
      error: { code: 'database_unavailable', message: 'The database was lost before this answer began.' },
    },
    upstreamId: undefined,
    // Behind what is told of every answer first: the question and its beginning, though this log holds neither.
    lastSeq: 3,
    storedSeq: 0,
    tail: [],
    terminal: {
      type: 'error',
      error: { code: 'database_unavailable', message: 'The database was lost.', retryable: true },
    },
    errorCode: 'database_unavailable',
    question: '',
    usages: [],
  }
  await settlePatiently(deps, end).catch(() => undefined)
}
