/** An answer before its first word: which model, with what, from which path; as a row and as an order to the engine. */
import { sql } from '../db/sql.ts'
import type { UserCaller } from '../auth/authenticate.ts'
import { composeContext, type PathMessage } from '../context/build.ts'
import { listedColumns, type ListedConversation } from '../conversations/changes.ts'
import type { LockedConversation } from '../conversations/queries.ts'
import type { Titles } from '../conversations/title-job.ts'
import type { Tx } from '../db/database.ts'
import type { GenerationSpec } from '../generation/engine.ts'
import type { Chain, ModelChain } from '../upstream/chain.ts'
import { messageColumns, messageValues, type NewMessage } from './queries.ts'
import type { Catalogue } from '../upstream/models.ts'
import type { Message, RegenerateBody } from './schemas.ts'

/** An answer that is about to be generated. */
export interface Answer {
  generationId: string
  messageId: string
  /** Who is asked, one after the other until one answers. */
  models: Chain
  requestedModel: string | null
  params: { temperature: number; max_tokens: number }
  regeneratedFrom: string | undefined
}

export function plan(
  { chain, limits }: { chain: ModelChain; limits: { answerTokensMax: number } },
  caller: UserCaller,
  conversation: LockedConversation,
  wish: RegenerateBody,
  usual: { temperature: number; regeneratedFrom?: string },
  ids: { generationId: string; messageId: string },
): Answer {
  return {
    ...ids,
    models: chain.choose({
      requested: wish.model,
      conversationModel: conversation.model,
      contextType: conversation.context_type,
      tier: caller.tier,
    }),
    requestedModel: wish.model ?? conversation.model,
    params: {
      temperature: wish.temperature ?? usual.temperature,
      max_tokens: Math.min(wish.max_tokens ?? limits.answerTokensMax, limits.answerTokensMax),
    },
    regeneratedFrom: usual.regeneratedFrom,
  }
}

export const answerRow = (
  answer: Answer,
  parentId: string | null,
  isFree: (model: string) => boolean,
): NewMessage => ({
  id: answer.messageId,
  parentId,
  senderType: 'assistant' as const,
  senderId: answer.models[0],
  content: '',
  contentType: 'text' as const,
  status: 'streaming' as const,
  metadata: {
    model: answer.models[0],
    requested_model: answer.requestedModel,
    is_free_model: isFree(answer.models[0]),
    fallbacks: [],
    generation_params: answer.params,
    ...(answer.regeneratedFrom !== undefined && { regenerated_from: answer.regeneratedFrom }),
  },
})

/** Stores a turn in one statement: the question where it is a new one, the empty answer, its generation. */
export async function storeTurn(
  tx: Tx,
  conversationId: string,
  userId: string,
  question: NewMessage | undefined,
  row: NewMessage,
  answer: Answer,
  instanceId: string,
): Promise<ListedConversation | undefined> {
  const rows = question === undefined ? [row] : [question, row]
  const values = rows.map((message) => messageValues(conversationId, userId, message))
  const [listed] = await tx.execute<ListedConversation>(sql`
    with stored as (
      insert into chat.messages (${messageColumns}) values ${sql.join(values, sql`, `)}
    ), generating as (
      insert into chat.generations (id, conversation_id, message_id, user_id, status, model, instance_id)
      values (${answer.generationId}, ${conversationId}, ${row.id}, ${userId}, 'running', ${answer.models[0]}, ${instanceId})
    )
    update chat.conversations set current_message_id = ${row.id}, message_count = message_count + ${rows.length},
      last_message_at = now(), updated_at = now()
    where id = ${conversationId} returning ${listedColumns}`)
  return listed
}

export interface SpecifyDeps {
  limits: { historyTokensMax: number }
  models: Pick<Catalogue, 'isFree' | 'find'>
  estimateMs: (model: string) => number | undefined
  pseudonymOf: (caller: UserCaller) => string
  titles: Pick<Titles, 'jobFor'>
}

/** Half of the budget, after an upstream said that all of it is too long. */
const shorterShare = 0.5

/** What an answer is to be made of. */
export interface Occasion {
  conversation: LockedConversation
  conversationId: string
  answer: Answer
  /** Newest first. */
  path: readonly PathMessage[]
  /** As stored, still empty. */
  message: Message
  /** Where this turn stored one. */
  userMessage: Message | undefined
  /** What is known of its user. */
  profile: Readonly<Record<string, unknown>> | undefined
}

export function specify(deps: SpecifyDeps, caller: UserCaller, occasion: Occasion): GenerationSpec {
  const { conversation, conversationId, answer, path, message, userMessage } = occasion
  const [model] = answer.models
  return {
    id: answer.generationId,
    caller,
    conversationId,
    message,
    question: path[0]?.content ?? '',
    titleJob: deps.titles.jobFor(
      caller,
      { id: conversationId, titleSource: conversation.title_source },
      answer,
    ),
    order: {
      models: answer.models,
      request: (model, shorter) => ({
        model,
        ...composed(deps, occasion, model, shorter),
        temperature: answer.params.temperature,
        maxTokens: answer.params.max_tokens,
        user: deps.pseudonymOf(caller),
        sessionId: conversationId,
      }),
    },
    opening: [
      ...(userMessage === undefined ? [] : [{ type: 'user_message' as const, message: userMessage }]),
      {
        type: 'assistant_start',
        message,
        generation_id: answer.generationId,
        model,
        estimated_response_time_ms: deps.estimateMs(model) ?? null,
      },
    ],
  }
}

function composed(
  { limits, models }: SpecifyDeps,
  { conversation, answer, path, profile }: Occasion,
  model: string,
  shorter: boolean,
) {
  const { messages, promptTokens, promptVersion } = composeContext(path, {
    contextType: conversation.context_type,
    contextData: conversation.context_data,
    profile,
    isFreeModel: models.isFree(model),
    tokensMax: limits.historyTokensMax,
    windowTokens: models.find(model)?.contextLength ?? undefined,
    answerTokensMax: answer.params.max_tokens,
    share: shorter ? shorterShare : 1,
  })
  return { messages, promptTokens, promptVersion }
}
