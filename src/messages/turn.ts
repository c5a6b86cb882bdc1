/**
 * A turn: stores the user's message and an empty answer, and starts the generation that fills it.
 *
 * One transaction stores all of it or nothing: no message is left without an answer by a refusal. Locks are taken
 * in the order conversation → the user's running count. Interrupting a running generation happens before the
 * transaction, since settling needs the conversation's lock too.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import type { UserCaller } from '../auth/authenticate.ts'
import { pathBytesMax } from '../context/build.ts'
import type { TokenCounts } from '../context/counts.ts'
import type { Profiles } from '../context/profile.ts'
import type { TellDevices } from '../conversations/changes.ts'
import { AlreadyDone, claimKey, type Claimed } from '../conversations/idempotency.ts'
import { membersJob } from '../conversations/members.ts'
import type { LockedConversation } from '../conversations/queries.ts'
import { CommitInDoubt, type Database, type Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { requestStop, type Engine, type Generation } from '../generation/engine.ts'
import type { Idempotency } from '../http/idempotency.ts'
import type { Links } from '../http/links.ts'
import { enqueue, type Jobs } from '../jobs/jobs.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { ModelChain } from '../upstream/chain.ts'
import { answerRow, plan, specify, storeTurn, type Answer, type SpecifyDeps } from './answer.ts'
import { claim, within } from './claim.ts'
import { readMessage, readPathTexts, readTurn, type NewMessage, type PathText } from './queries.ts'
import { persist, type SendQueue } from './queue.ts'
import type { ActiveGeneration, Message, RegenerateBody, SendBody } from './schemas.ts'

export interface TurnDeps extends SpecifyDeps {
  db: Database
  engine: Engine
  chain: ModelChain
  links: Links
  queue: SendQueue
  limits: {
    runningGenerationsMax: number
    historyTokensMax: number
    answerTokensMax: number
  }
  temperature: number
  counts: TokenCounts
  jobs: Pick<Jobs, 'wake'>
  tellDevices: TellDevices
  /** Tells other services of questions. */
  outbox?: Outbox | undefined
  /** Undefined: nobody tells of users. */
  profiles?: Pick<Profiles, 'find'> | undefined
  /** This process, as its generations name it. */
  instanceId: string
}

/** Regenerating should not say the same again. */
const regenerateTemperature = 0.8
/** How long an interrupted generation may take to settle before the new turn gives up, ms. */
const interruptPatienceMs = 10_000
/** How long a refusal waits for a turn in doubt to be cleared away, ms. A 503 is promised within two seconds. */
const abandonPatienceMs = 400

export type Turn =
  | {
      kind: 'begun'
      generation: Generation
      /** The question where this turn stored it; a regenerate answers one that was there. */
      userMessage: Message | undefined
    }
  /** An earlier request with the same idempotency key began it. */
  | { kind: 'replayed'; conversationId: string; messageId: string }

/** @throws AppError conversation_not_found, generation_in_progress, invalid_parent, model_not_allowed, rate_limited. */
export async function sendMessage(
  deps: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  body: SendBody,
  idempotency?: Idempotency,
): Promise<Turn> {
  assertPossible(deps, caller, body)
  const find: Find = async (tx, conversation, newQuestionId) => {
    const given = body.parent_message_id
    if (given != null) await assertParent(tx, conversationId, given)
    const question: NewMessage = {
      id: newQuestionId,
      parentId: given === undefined ? conversation.current_message_id : given,
      senderType: 'user',
      senderId: caller.userId,
      content: body.content,
      contentType: body.content_type,
      status: 'complete',
      metadata: {},
    }
    return { question, questionId: question.id, temperature: deps.temperature }
  }
  const attempt = () => begin(deps, caller, conversationId, body, idempotency, find)
  const stoppable = {
    transactions: deps.db,
    find: (id: string) => deps.engine.find(id),
    tell: deps.engine.tellStop,
  }
  switch (body.if_generating) {
    case 'reject':
      return attempt()
    case 'interrupt':
      return persist(performance.now() + interruptPatienceMs, attempt, (refusal) => {
        const id = runningIn(refusal)
        return id === undefined ? Promise.resolve(undefined) : requestStop(stoppable, caller, id)
      })
    case 'wait':
      return deps.queue.enter(conversationId, attempt, async (refusal) =>
        deps.engine.find(runningIn(refusal) ?? ''),
      )
    default:
      return body.if_generating satisfies never
  }
}

/** Which generation a refusal names. */
const runningIn = (refusal: AppError): string | undefined =>
  (refusal.members?.['active_generation'] as ActiveGeneration | undefined)?.generation_id

/** @throws as `sendMessage`, and message_not_found, not_an_answer. */
export async function regenerate(
  deps: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  messageId: string,
  body: RegenerateBody,
  idempotency?: Idempotency,
): Promise<Turn> {
  assertPossible(deps, caller, body)
  return begin(deps, caller, conversationId, body, idempotency, async (tx) => {
    const original = await readMessage(tx, conversationId, messageId)
    if (original === undefined) throw new AppError('message_not_found')
    const questionId = original.parent_message_id
    if (original.sender_type !== 'assistant' || questionId === null)
      throw new AppError('not_an_answer', { detail: 'This message is not the answer to another one.' })
    return { questionId, temperature: regenerateTemperature, regeneratedFrom: messageId }
  })
}

/** What can be refused without looking at the conversation, before anything is stopped or stored. */
function assertPossible({ engine, chain }: TurnDeps, caller: UserCaller, wish: RegenerateBody): void {
  engine.assertOpen()
  if (wish.model !== undefined) chain.assertAllowed(wish.model, caller.tier)
}

/** What is to be answered: a new question, or one that is there. */
interface Asked {
  question?: NewMessage
  questionId: string
  /** Unless the caller wishes another. */
  temperature: number
  regeneratedFrom?: string
}

type Find = (tx: Tx, conversation: LockedConversation, newQuestionId: string) => Promise<Asked>

/** @param find looks at the locked conversation, and says what is to be answered. */
async function begin(
  deps: TurnDeps,
  caller: UserCaller,
  conversationId: string,
  wish: RegenerateBody,
  idempotency: Idempotency | undefined,
  find: Find,
): Promise<Turn> {
  let begun: Answer | undefined
  // In this order: a question's id comes before its answer's, and both are known before the key is claimed.
  const newQuestionId = uuidv7()
  const ids = { messageId: uuidv7(), generationId: uuidv7() }
  const profile = await deps.profiles?.find(caller.userId)
  const stored = deps.db.asCaller(caller, async (tx) => {
    await claimKey(tx, caller, idempotency, { conversationId, messageId: ids.messageId })
    const { conversation, refusal } = await claim(deps, tx, caller, conversationId)
    const { question, questionId, ...usual } = await find(tx, conversation, newQuestionId)
    const answer = plan(deps, caller, conversation, wish, usual, ids)
    if (refusal !== undefined) throw refusal
    begun = answer
    const bytesMax = pathBytesMax(deps.limits.historyTokensMax)
    // The members of a conversation hear of a question at once, of its answer when it is there.
    const news =
      question !== undefined && conversation.shared
        ? membersJob({ id: question.id, conversationId, askedBy: caller.userId })
        : undefined
    const [listed, path, messages] = await tx.commit(() =>
      Promise.all([
        storeTurn(
          tx,
          conversationId,
          caller.userId,
          question,
          answerRow(answer, questionId, deps.models.isFree),
          answer,
          deps.instanceId,
        ),
        readPathTexts(tx, conversationId, questionId, bytesMax),
        readTurn(tx, conversationId, question?.id ?? answer.messageId, answer.messageId),
        news && enqueue(tx, news),
        question && deps.outbox?.appendMessage(tx, { conversationId, messageId: question.id }),
      ]),
    )
    noteUncounted(deps.counts, conversationId, path)
    const message = messages.at(-1)
    if (message === undefined) throw new Error('a stored turn cannot be read')
    const userMessage = question === undefined ? undefined : messages[0]
    const occasion = { conversation, conversationId, answer, path, message, userMessage, profile }
    const spec = specify(deps, caller, occasion)
    return { spec, userMessage, listed, news }
  })
  try {
    const { spec, userMessage, listed, news } = await stored
    if (listed !== undefined) deps.tellDevices(caller.userId, { ...listed, reason: 'message' })
    if (news !== undefined) deps.jobs.wake()
    if (userMessage !== undefined) deps.outbox?.wake('chat.message_created')
    return { kind: 'begun', userMessage, generation: deps.engine.start(spec) }
  } catch (error) {
    if (error instanceof AlreadyDone) return replayed(error.claimed)
    return rethrow(deps, caller, conversationId, begun, error)
  }
}

/** What is read as history for the first time is likely to be read with each turn from now on: it is worth a count. */
function noteUncounted(
  counts: TokenCounts,
  conversationId: string,
  [, ...history]: readonly PathText[],
): void {
  for (const { id, content, tokens } of history)
    if (tokens === null && content !== '') counts.note({ id, conversation_id: conversationId, content })
}

function replayed({ conversationId, messageId }: Claimed): Turn {
  if (messageId === null) throw new AppError('idempotency_key_reused')
  return { kind: 'replayed', conversationId, messageId }
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
