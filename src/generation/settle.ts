/**
 * The end of a generation, stored: status, text, usage, title, in one transaction, exactly once.
 *
 * Guarded by `status = 'running'`: whoever comes second changes nothing and is told so. The conversation is locked
 * first, as in every transaction that writes to one, so a turn and a settle can never wait for each other.
 */
import { sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { noteAnswer } from '../conversations/queries.ts'
import type { Caller, Transactions } from '../db/database.ts'
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
