/**
 * Door of usage: an aside: one call to a model that is no answer in a conversation, such as for a title, and its row in the
 * books.
 *
 * A model that is to be left alone is not asked. The row is written as an estimate once the upstream has begun to answer,
 * and made right when it has ended. Where the process is killed in between, that row is what is left of the call, and the
 * upstream is asked for its price later: no call that may be charged for is without one, and none shares one with
 * another.
 */
import { v7 as uuidv7 } from 'uuid'
import { estimateTokens, messageOverheadTokens } from '../context/build.ts'
import type { Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import type { EndedAttempt } from '../operations/attempt-status.ts'
import type { Breakers } from '../upstream/breakers.ts'
import type { FreeBudget } from '../upstream/free-budget.ts'
import { isFreeModel, type Catalogue } from '../upstream/models.ts'
import {
  UpstreamFailed,
  type Upstream,
  type UpstreamAnswer,
  type UpstreamMessage,
  type UpstreamRequest,
} from '../upstream/openrouter.ts'
import { recordUsage, withdrawUsage, type UsageRow } from './reconcile.ts'

export interface AsideDeps {
  upstream: Pick<Upstream, 'stream'>
  breakers: Breakers
  freeBudget?: FreeBudget | undefined
  catalogue: Pick<Catalogue, 'isFree'>
  transactions: Transactions
  /** Told of each call that is over. */
  observe: (call: EndedAttempt & { model: string; durationMs: number }) => void
  log: Logger
  nowMs: () => number
}

export interface AsideOrder {
  model: string
  messages: UpstreamMessage[]
  temperature: number
  tokensMax: number
  /** More than its tokens can hold: whoever says more does not listen, and is cut off, UTF-16 units. */
  writtenCharsMax: number
  /** For the whole call: less than an attempt at a job gets, ms. */
  timeoutMs: number
  /** The user's pseudonym. */
  user: string
  /** Whose answer it is about: what the call takes is added to that. */
  accountedTo: Pick<UsageRow, 'userId' | 'conversationId' | 'messageId' | 'generationId'>
}

/** When the upstream is asked for the price of a call that nobody has ended, ms: every attempt at a job is over by then. */
const askAfterMs = 60_000

export type Ask = (order: AsideOrder, signal: AbortSignal) => Promise<Aside>

/** Its calls resolve when the call and its row are ended. @throws where the row cannot be written. */
export function createAside(deps: AsideDeps): Ask {
  const { breakers, freeBudget, nowMs } = deps

  return async function ask(order, signal) {
    const { model } = order
    const closed = breakers.closedTo(model)
    if (closed !== undefined) return { kind: 'unasked', why: 'model_is_left_alone', afterMs: closed.waitMs }
    // It is one of the account's requests as well.
    const taken = isFreeModel(model) ? await freeBudget?.take() : undefined
    if (taken !== undefined && taken.count > (freeBudget?.max ?? 0))
      return { kind: 'unasked', why: 'free_requests_used_up', afterMs: taken.leftMs }
    const startedAtMs = nowMs()
    breakers.asked(model)
    let call: Called | undefined
    try {
      call = await callOnce(deps, order, signal)
    } finally {
      if (call?.kind === 'answered') breakers.succeeded(model, startedAtMs)
      else if (call?.kind === 'failed') breakers.failed(model, call.error)
      // That it came too late says nothing of answers, which may take longer.
      else breakers.abandoned(model)
    }
    deps.observe({ model, durationMs: nowMs() - startedAtMs, ...ended(call) })
    return call
  }
}

const ended = (call: Called): EndedAttempt => ({
  skipped: false,
  stopped: call.kind === 'stopped',
  error:
    call.kind === 'failed' ? call.error : call.kind === 'late' ? { code: 'upstream_timeout' } : undefined,
  answer: call.answer,
})

/** `unasked`: no call was made; in so many ms one may be. */
export type Aside = Called | { kind: 'unasked'; why: string; afterMs: number }

type Called = { answer: Readonly<UpstreamAnswer> | undefined } & (
  | { kind: 'answered'; text: string }
  | { kind: 'failed'; error: UpstreamFailed }
  /** Without an end: what came may be half of it. */
  | { kind: 'brokenOff' }
  /** It took longer than it is worth. */
  | { kind: 'late' }
  /** By the job's signal. */
  | { kind: 'stopped' }
)

async function callOnce(deps: AsideDeps, order: AsideOrder, signal: AbortSignal): Promise<Called> {
  const { upstream, transactions, log } = deps
  const usageId = uuidv7()
  const request = requestOf(order)
  const late = AbortSignal.timeout(order.timeoutMs)
  const enough = new AbortController()
  let text = ''
  let thoughts = ''
  let answer: Readonly<UpstreamAnswer> | undefined
  let error: UpstreamFailed | undefined
  let noted: Promise<void> | undefined
  const isClosedByUs = () => signal.aborted || late.aborted || enough.signal.aborted

  function usage(): UsageRow {
    const completionTokens = estimateTokens(text + thoughts)
    const { promptTokens } = request
    const guess = { promptTokens, completionTokens, totalTokens: promptTokens + completionTokens }
    const { cost, ...tokens } = answer?.usage ?? { ...guess, cost: undefined }
    const isFreeModel = deps.catalogue.isFree(order.model)
    return {
      id: usageId,
      ...order.accountedTo,
      model: answer?.model ?? order.model,
      ...tokens,
      cost: cost ?? (isFreeModel ? '0' : null),
      isFreeModel,
      source: answer?.usage === undefined ? 'estimated' : 'reported',
    }
  }

  /** Nothing was written and nothing reported, and it was not we who closed it: nobody charges for that. */
  const isFreeOfCharge = () =>
    text + thoughts === '' && answer?.usage === undefined && !isClosedByUs() && error?.kind !== 'silent'

  async function note(): Promise<void> {
    const estimate = usage()
    const upstreamId = answer?.upstreamId
    try {
      await transactions.asSystem('note an aside', (tx) =>
        tx.commit(() => recordUsage(tx, estimate, upstreamId, askAfterMs)),
      )
    } catch (failure) {
      log.debug({ event: 'aside_unnoted', err: failure }, 'what an aside costs is written at its end alone')
    }
  }

  async function record(): Promise<void> {
    // Nothing was heard: nothing was noted.
    if (noted === undefined) return
    await noted
    const end = isFreeOfCharge() ? undefined : usage()
    await transactions.asSystem('record an aside', (tx) =>
      tx.commit(() =>
        Promise.all([
          withdrawUsage(tx, usageId),
          end === undefined ? undefined : recordUsage(tx, end, answer?.upstreamId),
        ]),
      ),
    )
  }

  const wrote = () => {
    if (text.length + thoughts.length > order.writtenCharsMax) enough.abort()
  }
  try {
    await upstream.stream(
      request,
      {
        opened(heard) {
          answer = heard
          noted = note()
        },
        text(content) {
          text += content
          wrote()
        },
        reasoning(content) {
          thoughts += content
          wrote()
        },
        packet: () => undefined,
      },
      AbortSignal.any([signal, late, enough.signal]),
    )
  } catch (failure) {
    if (!(failure instanceof UpstreamFailed)) throw failure
    error = failure
  }
  await record()
  if (enough.signal.aborted) return { kind: 'answered', text, answer }
  if (error === undefined && answer?.finishReason !== undefined) return { kind: 'answered', text, answer }
  if (signal.aborted) return { kind: 'stopped', answer }
  if (late.aborted) return { kind: 'late', answer }
  return error === undefined ? { kind: 'brokenOff', answer } : { kind: 'failed', error, answer }
}

function requestOf(order: AsideOrder): UpstreamRequest {
  const { model, messages, temperature, tokensMax, user, accountedTo } = order
  const tokens = messages.map(({ content }) => estimateTokens(content) + messageOverheadTokens)
  return {
    model,
    messages,
    temperature,
    maxTokens: tokensMax,
    user,
    sessionId: accountedTo.conversationId,
    promptTokens: tokens.reduce((total, count) => total + count, 0),
  }
}
