/**
 * A welcome that no model has written is written again, later and in the background, while its user has not spoken: in its
 * place, since nobody needs the first one any more. One call a time, of the next model of the chain each time.
 */
import { v7 as uuidv7 } from 'uuid'
import { composeContext } from '../context/build.ts'
import type { ListedConversation, TellDevices } from '../conversations/changes.ts'
import { lockConversation } from '../conversations/queries.ts'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { JobHandler, JobOutcome } from '../jobs/jobs.ts'
import type { Chain, ModelChain, Tier } from '../upstream/chain.ts'
import type { Catalogue } from '../upstream/models.ts'
import { createAside, type AsideDeps, type AsideOrder } from '../usage/aside.ts'
import { questionsFor, writtenIn } from './adviser.ts'
import { rewritePayload, tiersOf } from './onboard-job.ts'
import {
  lockAssessment,
  noteReady,
  readBeginning,
  readOwn,
  replaceWelcome,
  type OwnAdviser,
} from './queries.ts'
import { parseResults, type AssessmentResults } from './results.ts'
import { welcomeInstruction } from './welcome-prompt.ts'

export interface RewriteDeps extends Omit<AsideDeps, 'catalogue'> {
  transactions: Transactions
  chain: Pick<ModelChain, 'choose'>
  models: Pick<Catalogue, 'isFree' | 'find'>
  limits: { historyTokensMax: number; answerTokensMax: number }
  temperature: number
  pseudonymOf: (caller: { userId: string }) => string
  tellDevices: TellDevices
  /** For tests. */
  backoff?: JobHandler['backoff'] | undefined
}

/** Over about two hours; then what is there stays. */
const attemptsMax = 6
const defaultBackoff = { firstMs: 240_000, maxMs: 3_600_000 }
/** For the whole call: less than an attempt at a job gets, ms. */
const callMs = 25_000
/** A welcome has 180 words; four times what its tokens may be, UTF-16 units. */
const writtenCharsMax = 20_000

export function createRewriteHandler(deps: RewriteDeps): JobHandler {
  const { transactions, models, backoff = defaultBackoff } = deps
  const ask = createAside({ ...deps, catalogue: models })

  async function run(
    { key: conversationId, payload, attempt }: Parameters<JobHandler['run']>[0],
    signal: AbortSignal,
  ): Promise<JobOutcome> {
    const { userId, tier } = rewritePayload.parse(payload)
    const found = await transactions.asSystem('look at a welcome', (tx) => find(tx, conversationId))
    if (found === undefined) return { kind: 'done' }
    const chain = chainOf(deps.chain, tiersOf(tier))
    const model = chain?.[(attempt - 1) % chain.length]
    if (model === undefined) return { kind: 'dead', why: 'no_model', expected: true }
    const call = await ask(orderOf(deps, found, { model, userId, conversationId }), signal)
    if (call.kind === 'unasked') return { kind: 'retry', why: call.why, afterMs: call.afterMs }
    if (call.kind !== 'answered' || call.answer?.finishReason === undefined || call.text.trim() === '')
      return { kind: 'retry', why: call.kind === 'failed' ? call.error.code : call.kind }
    let listed: ListedConversation | undefined
    const text = call.text.trim()
    const writer = { model: call.answer.model ?? model, isFree: models.isFree(model) }
    return {
      kind: 'done',
      write: async (tx) => {
        listed = await replace(tx, conversationId, found.welcomeId, text, writer)
      },
      committed: () => {
        if (listed !== undefined) deps.tellDevices(userId, { ...listed, reason: 'answer' })
      },
    }
  }

  return { attemptsMax, backoff, runningMax: 2, run }
}

interface Found {
  conversation: OwnAdviser
  results: AssessmentResults
  welcomeId: string
  generationId: string | null
}

/** Undefined: it is not to be written again, or not any more. */
async function find(tx: Tx, conversationId: string): Promise<Found | undefined> {
  const conversation = await readOwn(tx, conversationId)
  if (conversation?.status !== 'active') return undefined
  const parsed = parseResults(conversation.context_data)
  const { welcomes, hasSpoken } = await readBeginning(tx, conversationId)
  const [welcome] = welcomes
  if ('problem' in parsed || hasSpoken || welcome?.status !== 'complete' || !welcome.composed)
    return undefined
  return { conversation, results: parsed.results, welcomeId: welcome.id, generationId: welcome.generation_id }
}

function chainOf(chain: Pick<ModelChain, 'choose'>, tiers: readonly Tier[]): Chain | undefined {
  for (const tier of tiers) {
    try {
      return chain.choose({ contextType: 'assessment', tier })
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'model_not_allowed') throw error
    }
  }
  return undefined
}

function orderOf(
  { models, limits, temperature, pseudonymOf }: RewriteDeps,
  { conversation, results, welcomeId, generationId }: Found,
  { model, userId, conversationId }: { model: string; userId: string; conversationId: string },
): AsideOrder {
  const instruction = welcomeInstruction(writtenIn(results))
  const { messages } = composeContext([{ role: 'user', content: instruction }], {
    contextType: 'assessment',
    contextData: conversation.context_data,
    isFreeModel: models.isFree(model),
    tokensMax: limits.historyTokensMax,
    windowTokens: models.find(model)?.contextLength ?? undefined,
    answerTokensMax: limits.answerTokensMax,
  })
  return {
    model,
    messages,
    temperature,
    tokensMax: limits.answerTokensMax,
    writtenCharsMax,
    timeoutMs: callMs,
    user: pseudonymOf({ userId }),
    // One that was said without any model has no generation.
    accountedTo: { userId, conversationId, messageId: welcomeId, generationId: generationId ?? uuidv7() },
  }
}

/** Whoever has spoken meanwhile has read the other one: it stays. */
async function replace(
  tx: Tx,
  conversationId: string,
  welcomeId: string,
  text: string,
  writer: { model: string; isFree: boolean },
): Promise<ListedConversation | undefined> {
  // In the order of locks that onboarding has.
  const own = await readOwn(tx, conversationId)
  if (own?.assessment_id != null) await lockAssessment(tx, own.assessment_id)
  await lockConversation(tx, conversationId)
  const still = await find(tx, conversationId)
  if (still?.welcomeId !== welcomeId) return undefined
  const suggestions = questionsFor(still.results, text)
  if (still.conversation.assessment_id !== null)
    await noteReady(tx, still.conversation.assessment_id, suggestions)
  return replaceWelcome(tx, conversationId, welcomeId, { text, suggestions, ...writer })
}
