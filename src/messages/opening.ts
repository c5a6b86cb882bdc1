/**
 * Door of messages: an opening: an answer without a question, by which the assistant begins a conversation.
 *
 * Stored, streamed, stopped and settled as every answer, but at a root of the tree. It says something in any case:
 * where no model does, its stand-in is what it says. Whether there is to be one is decided under the conversation's
 * lock, so of several who begin at once one does.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import type { UserCaller } from '../auth/authenticate.ts'
import { listedColumns, type ListedConversation } from '../conversations/changes.ts'
import { lockConversation, type LockedConversation } from '../conversations/queries.ts'
import { CommitInDoubt, type Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Generation } from '../generation/engine.ts'
import type { Tier } from '../upstream/chain.ts'
import { answerRow, plan, specify, storeTurn, type Answer } from './answer.ts'
import { messageColumns, messageValues, readMessage } from './queries.ts'
import type { Message } from './schemas.ts'
import type { TurnDeps } from './turn.ts'

export interface Opening {
  /** What the model is asked for; it is not stored. */
  instruction(): string
  /** Said where no model says anything. */
  standIn(): string
  metadata: Record<string, unknown>
  /** Under the conversation's lock. */
  isWanted(tx: Tx, conversationId: string): Promise<boolean>
  /** Whose models may be asked, the first that has any; none: the stand-in is what it says. */
  tiers: readonly Tier[]
}

export type Opened =
  /** Nothing was to be done. */
  | { kind: 'unwanted' }
  | { kind: 'begun'; generation: Generation }
  /** No model may be asked: the stand-in is stored. */
  | { kind: 'said'; message: Message }

export type OpeningDeps = Pick<
  TurnDeps,
  | 'db'
  | 'engine'
  | 'chain'
  | 'models'
  | 'estimateMs'
  | 'limits'
  | 'temperature'
  | 'pseudonymOf'
  | 'titles'
  | 'tellDevices'
  | 'instanceId'
  | 'profiles'
  | 'outbox'
>

/** Named where a model's name stands. */
const standInSender = 'rivulet'

/** @throws AppError shutting_down, database_unavailable. */
export async function open(
  deps: OpeningDeps,
  userId: string,
  conversationId: string,
  opening: Opening,
): Promise<Opened> {
  const { db, engine } = deps
  engine.assertOpen()
  const ids = { messageId: uuidv7(), generationId: uuidv7() }
  const profile = await deps.profiles?.find(userId)
  let begun = false as boolean
  try {
    const stored = await db.asCaller({ userId }, async (tx) => {
      const conversation = await lockConversation(tx, conversationId)
      if (conversation?.status !== 'active' || !(await opening.isWanted(tx, conversationId))) return undefined
      const planned = planFor(deps, userId, opening.tiers, conversation, ids)
      if (planned === undefined) return say(tx, deps, userId, conversationId, ids.messageId, opening)
      begun = true
      const { answer, caller } = planned
      const { listed, message } = await store(tx, deps, conversationId, userId, answer, opening)
      const path = [{ role: 'user' as const, content: opening.instruction() }]
      const occasion = {
        conversation,
        conversationId,
        answer,
        path,
        message,
        userMessage: undefined,
        profile,
      }
      const standIn = { sender: standInSender, text: () => opening.standIn() }
      return { spec: { ...specify(deps, caller, occasion), question: '', standIn }, listed }
    })
    if (stored === undefined) return { kind: 'unwanted' }
    if (stored.listed !== undefined) deps.tellDevices(userId, { ...stored.listed, reason: 'message' })
    if ('said' in stored) {
      deps.outbox?.wake('chat.message_created')
      return { kind: 'said', message: stored.said }
    }
    return { kind: 'begun', generation: engine.start(stored.spec) }
  } catch (error) {
    // It may be stored, and would be left running: whoever tries again then finds it ended.
    if (error instanceof CommitInDoubt && begun)
      void engine.abandon({ caller: { userId }, conversationId, ...ids })
    throw error
  }
}

/** By the first of these tiers that has a model. */
function planFor(
  deps: OpeningDeps,
  userId: string,
  tiers: readonly Tier[],
  conversation: LockedConversation,
  ids: { messageId: string; generationId: string },
): { answer: Answer; caller: UserCaller } | undefined {
  for (const tier of tiers) {
    const caller: UserCaller = { kind: 'user', userId, tier, name: undefined, validUntil: Infinity }
    try {
      return { answer: plan(deps, caller, conversation, {}, { temperature: deps.temperature }, ids), caller }
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'model_not_allowed') throw error
    }
  }
  return undefined
}

async function store(
  tx: Tx,
  { models, instanceId }: OpeningDeps,
  conversationId: string,
  userId: string,
  answer: Answer,
  opening: Opening,
): Promise<{ listed: ListedConversation | undefined; message: Message }> {
  const row = answerRow(answer, null, models.isFree)
  const metadata = { ...row.metadata, ...opening.metadata }
  const [listed, message] = await tx.commit(() =>
    Promise.all([
      storeTurn(tx, conversationId, userId, undefined, { ...row, metadata }, answer, instanceId),
      readMessage(tx, conversationId, answer.messageId),
    ]),
  )
  if (message === undefined) throw new Error('a stored opening cannot be read')
  return { listed, message }
}

async function say(
  tx: Tx,
  { outbox }: OpeningDeps,
  userId: string,
  conversationId: string,
  id: string,
  opening: Opening,
): Promise<{ said: Message; listed: ListedConversation | undefined }> {
  const values = messageValues(conversationId, userId, {
    id,
    parentId: null,
    senderType: 'assistant',
    senderId: standInSender,
    content: opening.standIn(),
    contentType: 'text',
    status: 'complete',
    metadata: { model: null, fallbacks: [], ...opening.metadata, composed: true },
  })
  const [[listed], said] = await Promise.all([
    tx.execute<ListedConversation>(sql`
      with stored as (insert into chat.messages (${messageColumns}) values ${values})
      update chat.conversations set current_message_id = ${id}, message_count = message_count + 1,
        last_message_at = now(), updated_at = now()
      where id = ${conversationId} returning ${listedColumns}`),
    readMessage(tx, conversationId, id),
    outbox?.appendMessage(tx, { conversationId, messageId: id }),
  ])
  if (said === undefined) throw new Error('a stored opening cannot be read')
  return { said, listed }
}
