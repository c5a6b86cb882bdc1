/**
 * Door of conversations, for titles that a model makes.
 *
 * The end of a conversation's first exchange gives it the local rule's title, and adds a job in the same transaction. The
 * job asks the model once: done where it has a title, or where there is nothing left to name; tried again where the
 * upstream failed; given up, the local title staying, where that has no prospects. A user's own title is never touched.
 * Promises: no paid model for who may not have one, asked of the tier that took the turn; every call has its own row of
 * usage, on the first answer's message, also where it is made twice or failed.
 */
import { z } from 'zod'
import type { UserCaller } from '../auth/authenticate.ts'
import type { NewJob, JobHandler, JobOutcome } from '../jobs/jobs.ts'
import type { Tier } from '../upstream/chain.ts'
import type { Catalogue } from '../upstream/models.ts'
import type { UpstreamFailed } from '../upstream/openrouter.ts'
import { createAside, type Aside, type AsideDeps } from '../usage/aside.ts'
import type { ListedConversation, TellDevices } from './changes.ts'
import { titleOf } from './title-answer.ts'
import { titlePrompt } from './title-prompt.ts'
import { readExchange, replaceTitle } from './title-queries.ts'

export const titleKind = 'make_title'

export interface Titles {
  /** What the end of this answer adds, if it is complete. Undefined: the local rule's title stays. */
  jobFor(
    caller: UserCaller,
    conversation: { id: string; titleSource: 'default' | 'auto' | 'user' },
    answer: { messageId: string; generationId: string },
  ): NewJob | undefined
  handler: JobHandler
}

export interface TitlesDeps extends Omit<AsideDeps, 'catalogue'> {
  /** Undefined: no model is asked. */
  model: string | undefined
  freeOnly: boolean
  catalogue: Pick<Catalogue, 'isFree' | 'isPaid'>
  pseudonymOf: (caller: Pick<UserCaller, 'userId'>) => string
  tellDevices?: TellDevices | undefined
  timeoutMs?: number
}

const payloadSchema = z.object({
  messageId: z.uuid(),
  generationId: z.uuid(),
  tier: z.enum(['free', 'premium']),
})

/** Whose time comes later than that has no use any more: the conversation has long been found by its local title, ms. */
const waitMaxMs = 600_000
/** Calls for one title. */
const callsMax = 3
/** With those of processes that were killed. */
const attemptsMax = 5
const defaultTimeoutMs = 10_000
const titleTokensMax = 32
const temperature = 0.2
/** More than a title's tokens can hold, UTF-16 units. */
const writtenCharsMax = 4_000

export function createTitles(deps: TitlesDeps): Titles {
  const { model, freeOnly, catalogue, transactions, log, timeoutMs = defaultTimeoutMs } = deps
  const ask = createAside(deps)

  /** As for the models that the operator named for everybody: one whose price nobody tells may be asked. */
  const mayBeAsked = (named: string, tier: Tier) =>
    (tier === 'premium' && !freeOnly) || !catalogue.isPaid(named)

  async function run(
    { key: conversationId, payload, attempt }: Parameters<JobHandler['run']>[0],
    signal: AbortSignal,
  ): Promise<JobOutcome> {
    const { tier, ...answer } = payloadSchema.parse(payload)
    // What was configured or told of prices when the job was added may have changed since.
    if (model === undefined || !mayBeAsked(model, tier)) return { kind: 'done' }
    const exchange = await transactions.asSystem('read an exchange', (tx) =>
      tx.commit(() => readExchange(tx, conversationId, answer.messageId)),
    )
    if (exchange === undefined) return { kind: 'done' }
    const { userId } = exchange
    const startedAtMs = deps.nowMs()
    const call = await ask(
      {
        model,
        messages: titlePrompt(exchange),
        temperature,
        tokensMax: titleTokensMax,
        writtenCharsMax,
        timeoutMs,
        user: deps.pseudonymOf({ userId }),
        accountedTo: { userId, conversationId, ...answer },
      },
      signal,
    )
    const durationMs = deps.nowMs() - startedAtMs
    if (call.kind === 'unasked') return again(attempt, call.why, call.afterMs)
    const title = call.kind === 'answered' ? titleOf(call.text) : undefined
    if (title === undefined) return withoutTitle(call, attempt)
    const { usage } = call.answer ?? {}
    log.info(
      {
        event: 'title_made',
        conversationId,
        model,
        durationMs,
        tokens: usage?.totalTokens,
        cost: usage?.cost,
      },
      'a model has made a title',
    )
    let named: ListedConversation | undefined
    return {
      kind: 'done',
      write: async (tx) => {
        named = await replaceTitle(tx, conversationId, title)
      },
      committed: () => {
        if (named !== undefined) deps.tellDevices?.(userId, { ...named, reason: 'title' })
      },
    }
  }

  return {
    jobFor(caller, { id, titleSource }, { messageId, generationId }) {
      const { userId, tier } = caller
      if (model === undefined || titleSource !== 'default' || !mayBeAsked(model, tier)) return undefined
      return { kind: titleKind, key: id, userId, payload: { messageId, generationId, tier } }
    },
    handler: { attemptsMax, backoff: { firstMs: 4_000, maxMs: 60_000 }, run },
  }
}

function withoutTitle(call: Exclude<Aside, { kind: 'unasked' }>, attempt: number): JobOutcome {
  switch (call.kind) {
    case 'answered':
      // A model that thinks has used up its tokens before the first word, and would again.
      return call.answer?.finishReason === 'stop' ? again(attempt, 'no_title') : giveUp('no_title')
    case 'failed':
      return afterFailure(call.error, attempt)
    case 'brokenOff':
      return again(attempt, 'broken_off')
    case 'late':
      return again(attempt, 'too_slow')
    case 'stopped':
      return { kind: 'retry', why: 'stopped' }
    default:
      return call satisfies never
  }
}

function afterFailure({ kind, code, closedForMs }: UpstreamFailed, attempt: number): JobOutcome {
  switch (kind) {
    case 'limited':
    case 'free_quota':
      return again(attempt, code, closedForMs)
    case 'transient':
    case 'silent':
      return again(attempt, code)
    case 'no_credit':
    case 'refused':
    case 'too_long':
    case 'gone':
    case 'mistake':
      return giveUp(code)
    default:
      return kind satisfies never
  }
}

function again(attempt: number, why: string, afterMs = 0): JobOutcome {
  if (attempt >= callsMax || afterMs > waitMaxMs) return giveUp(why)
  return { kind: 'retry', why, afterMs }
}

/** The local title is a good one too. */
const giveUp = (why: string): JobOutcome => ({ kind: 'dead', why, expected: true })
