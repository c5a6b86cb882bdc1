/**
 * A turn: stores the user's message and an empty answer, and starts the generation that fills it.
 *
 * One transaction stores all of it or nothing: no message is left without an answer by a refusal. Locks are taken
 * in the order conversation → the user's running count. Interrupting a running generation happens before the
 * transaction, since settling needs the conversation's lock too.
 */
import { createHmac } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import type { UserCaller } from '../auth/authenticate.ts'
import { buildContext, pathMessagesMax } from '../context/build.ts'
import { lockConversation, noteMessages, type LockedConversation } from '../conversations/queries.ts'
import { CommitInDoubt, type Database, type Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine, Generation, GenerationSpec } from '../generation/engine.ts'
import type { Links } from '../http/links.ts'
import { isFreeModel, type ModelChain } from '../upstream/chain.ts'
import { insertMessage, readMessage, readPair, readPathTexts } from './queries.ts'
import type { ActiveGeneration, Message, RegenerateBody, SendBody } from './schemas.ts'

export interface TurnDeps {
  db: Database
  engine: Engine
  chain: ModelChain
  links: Links
  limits: {
    runningGenerationsMax: number
    historyTokensMax: number
    answerTokensMax: number
  }
  temperature: number
  /** Key of the pseudonym under which an upstream knows a user. */
  pseudonymKey: string
}

/** Regenerating should not say the same again. */
const regenerateTemperature = 0.8
/** How long an interrupted generation may take to settle before the new turn gives up, ms. */
const interruptPatienceMs = 10_000
/** How long a refusal waits for a turn in doubt to be cleared away, ms. A 503 is promised within two seconds. */
const abandonPatienceMs = 400

/** @throws AppError conversation_not_found, generation_in_progress, invalid_parent, model_not_allowed, rate_limited. */
export async function sendMessage(
  deps: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  body: SendBody,
): Promise<{ generation: Generation; userMessage: Message }> {
  deps.engine.assertOpen()
  if (body.model !== undefined) deps.chain.assertAllowed(body.model, caller.tier)
  if (body.if_generating === 'interrupt') await interrupt(deps, caller, conversationId)

  let begun: Answer | undefined
  const turn = deps.db.asCaller(caller, async (tx) => {
    const conversation = await claim(deps, tx, caller, conversationId)
    const parentId =
      body.parent_message_id === undefined ? conversation.current_message_id : body.parent_message_id
    if (parentId !== null && body.parent_message_id !== undefined)
      await assertParent(tx, conversationId, parentId)
    const question = {
      id: uuidv7(),
      parentId,
      senderType: 'user' as const,
      senderId: caller.userId,
      content: body.content,
      contentType: body.content_type,
      status: 'complete' as const,
      metadata: {},
    }
    const answer = plan(deps, caller, conversation, body, { temperature: deps.temperature })
    begun = answer
    const [, , , , path, [userMessage, assistantMessage]] = await tx.commit(() =>
      Promise.all([
        insertMessage(tx, conversationId, caller.userId, question),
        insertMessage(tx, conversationId, caller.userId, answerRow(answer, question.id)),
        insertGeneration(tx, conversationId, caller.userId, answer),
        noteMessages(tx, conversationId, { count: 2, leaf: answer.messageId }),
        readPathTexts(tx, conversationId, question.id, pathMessagesMax),
        readPair(tx, conversationId, question.id, answer.messageId),
      ]),
    )
    if (userMessage === undefined || assistantMessage === undefined)
      throw new Error('a stored turn cannot be read')
    return {
      userMessage,
      spec: specify(deps, caller, conversation, conversationId, answer, path, assistantMessage, userMessage),
    }
  })
  const { spec, userMessage } = await turn.catch((error: unknown) =>
    rethrow(deps, caller, conversationId, begun, error),
  )
  return { userMessage, generation: deps.engine.start(spec) }
}

/** @throws as `sendMessage`, and message_not_found, not_an_answer. */
export async function regenerate(
  deps: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  messageId: string,
  body: RegenerateBody,
): Promise<Generation> {
  deps.engine.assertOpen()
  if (body.model !== undefined) deps.chain.assertAllowed(body.model, caller.tier)

  let begun: Answer | undefined
  const turn = deps.db.asCaller(caller, async (tx) => {
    const [conversation, original] = await Promise.all([
      claim(deps, tx, caller, conversationId),
      readMessage(tx, conversationId, messageId),
    ])
    if (original === undefined) throw new AppError('message_not_found')
    const questionId = original.parent_message_id
    if (original.sender_type !== 'assistant' || questionId === null)
      throw new AppError('not_an_answer', { detail: 'This message is not the answer to another one.' })
    const answer = plan(deps, caller, conversation, body, {
      temperature: regenerateTemperature,
      regeneratedFrom: messageId,
    })
    begun = answer
    const [, , , path, stored] = await tx.commit(() =>
      Promise.all([
        insertMessage(tx, conversationId, caller.userId, answerRow(answer, questionId)),
        insertGeneration(tx, conversationId, caller.userId, answer),
        noteMessages(tx, conversationId, { count: 1, leaf: answer.messageId }),
        readPathTexts(tx, conversationId, questionId, pathMessagesMax),
        readMessage(tx, conversationId, answer.messageId),
      ]),
    )
    if (stored === undefined) throw new Error('a stored turn cannot be read')
    return specify(deps, caller, conversation, conversationId, answer, path, stored)
  })
  const spec = await turn.catch((error: unknown) => rethrow(deps, caller, conversationId, begun, error))
  return deps.engine.start(spec)
}

/** A turn that may be stored without us knowing must not be left waiting for an answer that nobody writes. */
async function rethrow(
  { engine }: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  begun: Answer | undefined,
  error: unknown,
): Promise<never> {
  if (error instanceof CommitInDoubt && begun !== undefined) {
    const { generationId, messageId } = begun
    const abandoned = engine.abandon({ caller, conversationId, generationId, messageId })
    // After a mere blip the next send finds the conversation free; a longer outage is not waited for.
    await within(abandonPatienceMs, abandoned)
  }
  throw error
}

/** Waits for a promise, but no longer than this. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([promise, tooLong])
  clearTimeout(timer)
}

/** Locks the conversation, and sees to it that one more generation may run: in it, and for this user. */
async function claim(
  { limits, links }: TurnDeps,
  tx: Tx,
  caller: UserCaller,
  conversationId: string,
): Promise<LockedConversation> {
  const [conversation, , running] = await Promise.all([
    lockConversation(tx, conversationId),
    tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`running:${caller.userId}`}, 0))`),
    readRunning(tx, caller.userId),
  ])
  if (conversation === undefined) throw new AppError('conversation_not_found')
  if (conversation.status === 'archived')
    throw new AppError('conversation_archived', {
      detail: 'Set its status to active before you write to it again.',
    })
  const here = running.find((generation) => generation.conversation_id === conversationId)
  if (here !== undefined) throw inProgress(activeGeneration(here, links))
  if (running.length >= limits.runningGenerationsMax)
    throw new AppError('rate_limited', {
      detail: `You have ${running.length} answers being generated: wait for one to finish, or stop one.`,
      retryAfter: 5,
    })
  return conversation
}

interface RunningRow extends Record<string, unknown> {
  id: string
  conversation_id: string
  message_id: string
  started_at: string
}

async function readRunning(tx: Tx, userId: string): Promise<RunningRow[]> {
  return tx.execute<RunningRow>(sql`
    select id, conversation_id, message_id, started_at from chat.generations
    where user_id = ${userId} and status = 'running'`)
}

const activeGeneration = (row: RunningRow, links: Links): ActiveGeneration => ({
  generation_id: row.id,
  message_id: row.message_id,
  stream_url: links.stream(row.conversation_id, row.message_id),
  started_at: row.started_at,
})

const inProgress = (active: ActiveGeneration) =>
  new AppError('generation_in_progress', {
    detail: 'Watch it at active_generation.stream_url, or send with "if_generating": "interrupt".',
    members: { active_generation: active },
  })

/** Ends the generation that runs in this conversation, keeping its text; nothing to do where none does. */
async function interrupt(deps: TurnDeps, caller: UserCaller, conversationId: string): Promise<void> {
  const running = await deps.db.asCaller(caller, (tx) => readRunning(tx, caller.userId))
  const here = running.find((generation) => generation.conversation_id === conversationId)
  const generation = here && deps.engine.find(here.id)
  if (generation === undefined) return
  generation.stop('stopped')
  await within(interruptPatienceMs, generation.settled)
}

async function assertParent(tx: Tx, conversationId: string, parentId: string): Promise<void> {
  const [parent] = await tx.execute(
    sql`select 1 from chat.messages where conversation_id = ${conversationId} and id = ${parentId}`,
  )
  if (parent === undefined)
    throw new AppError('invalid_parent', {
      detail: 'parent_message_id names no message of this conversation.',
    })
}

/** An answer that is about to be generated. */
interface Answer {
  generationId: string
  messageId: string
  model: string
  requestedModel: string | null
  params: { temperature: number; max_tokens: number }
  regeneratedFrom: string | undefined
}

function plan(
  { chain, limits }: TurnDeps,
  caller: UserCaller,
  conversation: LockedConversation,
  wish: RegenerateBody,
  usual: { temperature: number; regeneratedFrom?: string },
): Answer {
  return {
    generationId: uuidv7(),
    messageId: uuidv7(),
    model: chain.choose({ requested: wish.model, conversationModel: conversation.model, tier: caller.tier }),
    requestedModel: wish.model ?? conversation.model,
    params: {
      temperature: wish.temperature ?? usual.temperature,
      max_tokens: Math.min(wish.max_tokens ?? limits.answerTokensMax, limits.answerTokensMax),
    },
    regeneratedFrom: usual.regeneratedFrom,
  }
}

const answerRow = (answer: Answer, parentId: string) => ({
  id: answer.messageId,
  parentId,
  senderType: 'assistant' as const,
  senderId: answer.model,
  content: '',
  contentType: 'text' as const,
  status: 'streaming' as const,
  metadata: {
    model: answer.model,
    requested_model: answer.requestedModel,
    is_free_model: isFreeModel(answer.model),
    fallbacks: [],
    generation_params: answer.params,
    ...(answer.regeneratedFrom !== undefined && { regenerated_from: answer.regeneratedFrom }),
  },
})

async function insertGeneration(
  tx: Tx,
  conversationId: string,
  userId: string,
  answer: Answer,
): Promise<void> {
  await tx.execute(sql`
    insert into chat.generations (id, conversation_id, message_id, user_id, status, model)
    values (${answer.generationId}, ${conversationId}, ${answer.messageId}, ${userId}, 'running', ${answer.model})`)
}

function specify(
  deps: TurnDeps,
  caller: UserCaller,
  conversation: LockedConversation,
  conversationId: string,
  answer: Answer,
  path: Awaited<ReturnType<typeof readPathTexts>>,
  message: Message,
  userMessage?: Message,
): GenerationSpec {
  return {
    id: answer.generationId,
    caller,
    conversationId,
    message,
    question: path[0]?.content ?? '',
    request: {
      model: answer.model,
      messages: buildContext(path, {
        contextType: conversation.context_type,
        isFreeModel: isFreeModel(answer.model),
        tokensMax: deps.limits.historyTokensMax,
      }),
      temperature: answer.params.temperature,
      maxTokens: answer.params.max_tokens,
      user: createHmac('sha256', deps.pseudonymKey).update(caller.userId).digest('hex').slice(0, 32),
      sessionId: conversationId,
    },
    opening: [
      ...(userMessage === undefined ? [] : [{ type: 'user_message' as const, message: userMessage }]),
      {
        type: 'assistant_start',
        message,
        generation_id: answer.generationId,
        model: answer.model,
        estimated_response_time_ms: null,
      },
    ],
  }
}
