/**
 * The end of a generation, stored: status, text, usage, title, in one transaction, exactly once.
 *
 * Guarded by `status = 'running'`: whoever comes second changes nothing and is told so. The conversation is locked
 * first, as in every transaction that writes to one, so a turn and a settle can never wait for each other.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { noteAnswer } from '../conversations/queries.ts'
import type { Caller, Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { readMessage, settleMessage } from '../messages/queries.ts'
import type { Message } from '../messages/schemas.ts'
import { insertUsage, type UsageRow } from '../usage/queries.ts'

export type Outcome = 'complete' | 'stopped' | 'failed' | 'interrupted'

export interface Settlement {
  caller: Caller
  generationId: string
  conversationId: string
  messageId: string
  outcome: Outcome
  content: string
  metadata: Record<string, unknown>
  upstreamId: string | undefined
  /** The terminal event's number. */
  lastSeq: number
  errorCode: string | undefined
  /** What the first exchange asked: a title may be made of it. */
  question: string
  usage: Omit<UsageRow, 'id' | 'userId' | 'conversationId' | 'messageId' | 'generationId'> | undefined
}

/** @returns the message as stored; undefined where the generation was settled by somebody else. */
export async function settle(transactions: Transactions, end: Settlement): Promise<Message | undefined> {
  const { caller, conversationId, messageId, generationId } = end
  return transactions.asCaller(caller, async (tx) => {
    const [, guarded] = await Promise.all([
      tx.execute(sql`select 1 from chat.conversations where id = ${conversationId} for update`),
      tx.execute(sql`
        update chat.generations set status = ${end.outcome}, upstream_id = ${end.upstreamId ?? null},
          last_seq = ${end.lastSeq}, error_code = ${end.errorCode ?? null}, settled_at = now()
        where id = ${generationId} and status = 'running' returning id`),
    ])
    if (guarded.length === 0) return undefined
    const [, , , message] = await tx.commit(() =>
      Promise.all([
        settleMessage(tx, conversationId, messageId, {
          content: end.content,
          status: end.outcome,
          metadata: end.metadata,
        }),
        end.usage === undefined
          ? undefined
          : insertUsage(tx, {
              id: uuidv7(),
              userId: caller.userId,
              conversationId,
              messageId,
              generationId,
              ...end.usage,
            }),
        noteAnswer(tx, conversationId, { question: end.question, answer: end.content }),
        readMessage(tx, conversationId, messageId),
      ]),
    )
    return message
  })
}

export interface SettleDeps {
  transactions: Transactions
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
  { transactions, log, nowMs }: SettleDeps,
  end: Settlement,
): Promise<{ message: Message | undefined; ours: boolean }> {
  const { caller, conversationId, messageId, generationId } = end
  const startedAtMs = nowMs()
  for (;;) {
    try {
      const settled = await settle(transactions, end)
      if (settled !== undefined) return { message: settled, ours: true }
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
    metadata: {
      error: { code: 'database_unavailable', message: 'The database was lost before this answer began.' },
    },
    upstreamId: undefined,
    lastSeq: 1,
    errorCode: 'database_unavailable',
    question: '',
    usage: undefined,
  }
  await settlePatiently(deps, end).catch(() => undefined)
}

/** Generations that a dead process left running. Only for an instance that has the database to itself. */
export async function settleOrphans(transactions: Transactions): Promise<number> {
  return transactions.asSystem('settle orphans', async (tx) => {
    const orphans = await tx.execute<{ conversation_id: string; message_id: string }>(sql`
      update chat.generations set status = 'interrupted', settled_at = now() where status = 'running'
      returning conversation_id, message_id`)
    await tx.execute(sql`
      update chat.messages m set status = 'interrupted' from chat.generations g
      where m.status = 'streaming' and g.conversation_id = m.conversation_id and g.message_id = m.id
        and g.status = 'interrupted'`)
    return orphans.length
  })
}
