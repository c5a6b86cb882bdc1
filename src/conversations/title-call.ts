/**
 * One call for a title, and its row in the books.
 *
 * The row is written as an estimate once the upstream has begun to answer, and made right when it has ended. Where the
 * process is killed in between, that row is what is left of the call, and the upstream is asked for its price later: no
 * call that may be charged for is without one, and none shares one with another.
 */
import { v7 as uuidv7 } from 'uuid'
import { estimateTokens, messageOverheadTokens } from '../context/build.ts'
import type { Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import {
  UpstreamFailed,
  type Upstream,
  type UpstreamAnswer,
  type UpstreamMessage,
  type UpstreamRequest,
} from '../upstream/openrouter.ts'
import { recordUsage, withdrawUsage, type UsageRow } from '../usage/reconcile.ts'

export interface TitleCallDeps {
  upstream: Pick<Upstream, 'stream'>
  transactions: Transactions
  isFree: (model: string) => boolean
  log: Logger
  /** For the whole call: less than an attempt at a job gets, ms. */
  timeoutMs: number
}

export interface TitleOrder {
  model: string
  messages: UpstreamMessage[]
  /** The user's pseudonym. */
  user: string
  /** Whose first answer it is: what the call takes is added to that. */
  accountedTo: Pick<UsageRow, 'userId' | 'conversationId' | 'messageId' | 'generationId'>
}

export type TitleCall = { answer: Readonly<UpstreamAnswer> | undefined } & (
  | { kind: 'answered'; text: string }
  | { kind: 'failed'; error: UpstreamFailed }
  /** Without an end: what came may be half a title. */
  | { kind: 'brokenOff' }
  /** It took longer than a title is worth. */
  | { kind: 'late' }
  /** By the job's signal. */
  | { kind: 'stopped' }
)

const titleTokensMax = 32
const temperature = 0.2
/** More than a title's tokens can hold: whoever says more does not listen, and is cut off, UTF-16 units. */
const writtenCharsMax = 4_000
/** When the upstream is asked for the price of a call that nobody has ended, ms: every attempt at a job is over by then. */
const askAfterMs = 60_000

/** Resolves when the call and its row are ended. @throws where the row cannot be written. */
export async function callForTitle(
  deps: TitleCallDeps,
  order: TitleOrder,
  signal: AbortSignal,
): Promise<TitleCall> {
  const { upstream, transactions, log } = deps
  const usageId = uuidv7()
  const request = requestOf(order)
  const late = AbortSignal.timeout(deps.timeoutMs)
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
    const isFreeModel = deps.isFree(order.model)
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
      await transactions.asSystem('note a title', (tx) =>
        tx.commit(() => recordUsage(tx, estimate, upstreamId, askAfterMs)),
      )
    } catch (failure) {
      log.debug({ event: 'title_unnoted', err: failure }, 'what a title costs is written at its end alone')
    }
  }

  async function record(): Promise<void> {
    // Nothing was heard: nothing was noted.
    if (noted === undefined) return
    await noted
    const end = isFreeOfCharge() ? undefined : usage()
    await transactions.asSystem('record a title', (tx) =>
      tx.commit(() =>
        Promise.all([
          withdrawUsage(tx, usageId),
          end === undefined ? undefined : recordUsage(tx, end, answer?.upstreamId),
        ]),
      ),
    )
  }

  const wrote = () => {
    if (text.length + thoughts.length > writtenCharsMax) enough.abort()
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

function requestOf({ model, messages, user, accountedTo }: TitleOrder): UpstreamRequest {
  const tokens = messages.map(({ content }) => estimateTokens(content) + messageOverheadTokens)
  return {
    model,
    messages,
    temperature,
    maxTokens: titleTokensMax,
    user,
    sessionId: accountedTo.conversationId,
    promptTokens: tokens.reduce((total, count) => total + count, 0),
  }
}
