/**
 * A turn: stores the user's message and an empty answer, and starts the generation that fills it.
 *
 * One transaction stores all of it or nothing: no message is left without an answer by a refusal. Locks are taken
 * in the order conversation → the user's running count. Interrupting a running generation happens before the
 * transaction, since settling needs the conversation's lock too.
 */
import { sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import type { UserCaller } from '../auth/authenticate.ts'
import { pathMessagesMax } from '../context/build.ts'
import { noteMessages } from '../conversations/queries.ts'
import { CommitInDoubt, type Database, type Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine, Generation } from '../generation/engine.ts'
import type { Links } from '../http/links.ts'
import type { ModelChain } from '../upstream/chain.ts'
import { answerRow, insertGeneration, plan, specify, type Answer } from './answer.ts'
import { claim, interrupt, within } from './claim.ts'
import { insertMessage, readMessage, readPair, readPathTexts } from './queries.ts'
import type { Message, RegenerateBody, SendBody } from './schemas.ts'

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

async function assertParent(tx: Tx, conversationId: string, parentId: string): Promise<void> {
  const [parent] = await tx.execute(
    sql`select 1 from chat.messages where conversation_id = ${conversationId} and id = ${parentId}`,
  )
  if (parent === undefined)
    throw new AppError('invalid_parent', {
      detail: 'parent_message_id names no message of this conversation.',
    })
}
