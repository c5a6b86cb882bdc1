/**
 * Door of upstream, for an answer: its chain of models asked one after the other until one speaks.
 *
 * The one retry layer. An attempt follows another only while nothing was said: after the first text or reasoning its end
 * is the answer's end, whatever it is. At most `attemptsMax` attempts; what fails fast is given up after `fastMs` in all.
 * A model whose breaker is open is asked when all others have failed; while the account's free quota is used up no free
 * one is asked at all.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { Breakers, Closed } from './breakers.ts'
import type { Chain } from './chain.ts'
import { UpstreamFailed } from './failures.ts'
import type { FreeBudget } from './free-budget.ts'
import type { FreeTurns } from './free-turns.ts'
import type { Latencies } from './latency.ts'
import { isFreeModel } from './models.ts'
import type { Upstream, UpstreamAnswer, UpstreamHandlers, UpstreamRequest } from './openrouter.ts'

export interface Attempt {
  model: string
  /** Undefined: passed over, or nothing was heard. */
  answer: Readonly<UpstreamAnswer> | undefined
  /** Undefined: it answered. */
  error: AppError | undefined
  /** Its breaker was open: no call was made. */
  skipped: boolean
  /** It was ended by us: nobody waits for it, or nobody can keep it. */
  stopped: boolean
  request: UpstreamRequest | undefined
  durationMs: number
}

export interface Order {
  models: Chain
  /** @param shorter the upstream said that the last one was too long. */
  request(model: string, shorter: boolean): UpstreamRequest
}

export interface AttemptHandlers extends UpstreamHandlers {
  /** Another model is asked now. @param why the last one is not. */
  switched(model: string, why: AppError): void
}

export interface AnswerEnd {
  /** In the order of being asked; the last one is what the answer's end is made of. */
  attempts: readonly Attempt[]
  answer: UpstreamAnswer | undefined
  error: AppError | undefined
}

export type AskUpstream = (order: Order, handlers: AttemptHandlers, signal: AbortSignal) => Promise<AnswerEnd>

export interface AttemptDeps {
  upstream: Upstream
  breakers: Breakers
  freeTurns: FreeTurns
  latencies: Latencies
  /** Told of each attempt that is over, and of each model that was passed over. */
  observe: (attempt: Attempt) => void
  freeBudget?: FreeBudget | undefined
  nowMs: () => number
  random: () => number
  /** Before the same model is asked again, ms; twice as long the next time, and from half of it to all. */
  retryMs: number
  /** Until the first text of a model that has another one behind it, ms. */
  fallbackAfterMs: number
}

const attemptsMax = 3
/** For all attempts that did not end in silence, ms. */
const fastMs = 10_000
/** What a client is told to wait where nothing better is known, seconds. */
const retryAfterS = 5

/** Never rejects: what went wrong is the last attempt's error. */
export function createAttempts(deps: AttemptDeps): AskUpstream {
  const { upstream, breakers, freeTurns, latencies, observe, nowMs, random } = deps
  const isOpenTo = (model: string) => breakers.closedTo(model) === undefined

  return async function ask(order, handlers, signal) {
    const attempts: Attempt[] = []
    const { queue, away, late } = line(order.models)
    const isStopped = () => signal.aborted
    const isNew = (model: string) => attempts.every((attempt) => attempt.model !== model)
    let calls = 0
    let spentFastMs = 0
    let shorter = false
    /** What was too long is asked again at once: it has not failed. */
    let atOnce = false
    /** Why the model before is not asked, or not again. */
    let why = away.concat(late).find(({ model }) => model === order.models[0])?.error
    let announced: string = order.models[0]
    for (let model = queue.shift(); model !== undefined; model = queue.shift()) {
      if (calls >= attemptsMax || spentFastMs >= fastMs) break
      const leave = isFreeModel(model) ? await freeTurns.enter(signal) : undefined
      try {
        // Another attempt of this answer may just have found out.
        const closed = (await overBudget(model)) ?? breakers.closedTo(model)
        if (isStopped()) break
        if (closed?.firm === true) {
          const passed = passedOver(model, closed)
          observe(passed)
          attempts.push(passed)
          continue
        }
        // Another answer is just finding out: whom this one has not asked yet goes first.
        if (closed !== undefined && isNew(model) && queue.some((other) => isNew(other) && isOpenTo(other))) {
          if (late.every((passed) => passed.model !== model)) late.push(passedOver(model, closed))
          why ??= closed.error
          queue.push(model)
          continue
        }
        // One that has failed needs a moment; another one does not.
        if (!isNew(model) && !atOnce) {
          const waitMs = deps.retryMs * 2 ** (calls - 1) * (0.5 + random() / 2)
          await delay(waitMs, undefined, { signal }).catch(() => undefined)
          spentFastMs += waitMs
          if (isStopped()) break
        }
        if (model !== announced && why !== undefined) handlers.switched(model, why)
        announced = model
        atOnce = false
        calls++
        const hasAnother = calls < attemptsMax && queue.some(isOpenTo)
        const attempt = await attemptOnce(order.request(model, shorter), handlers, signal, hasAnother)
        attempts.push(attempt)
        observe(attempt)
        const { error, spoken } = attempt
        if (error === undefined || spoken || isStopped()) break
        why = error
        const kind = error instanceof UpstreamFailed ? error.kind : 'mistake'
        if (kind !== 'silent') spentFastMs += attempt.durationMs
        if (kind === 'too_long' && !shorter) {
          shorter = true
          atOnce = true
          queue.unshift(model)
        } else if (kind === 'transient') queue.push(model)
        else if (kind === 'no_credit' || kind === 'refused' || kind === 'mistake' || kind === 'too_long')
          break
      } finally {
        leave?.()
      }
    }
    const passed = [...away, ...late.filter(({ model }) => isNew(model))]
    passed.forEach(observe)
    const all = [...passed, ...attempts]
    const last = all.at(-1)
    return { attempts: all, answer: last?.answer, error: last?.error === undefined ? undefined : told(all) }
  }

  async function overBudget(model: string): Promise<Closed | undefined> {
    if (deps.freeBudget === undefined || !isFreeModel(model) || breakers.closedTo(model)?.firm)
      return undefined
    const { count, leftMs } = await deps.freeBudget.take()
    if (count <= deps.freeBudget.max) return undefined
    const cause = new Error('our own budget of requests to free models is used up')
    return {
      error: new UpstreamFailed('upstream_quota', 'free_quota', { cause }),
      waitMs: leftMs,
      firm: true,
    }
  }

  /** Who is asked in which order: what is known to fail comes last, and what cannot answer before its time not at all. */
  function line(models: Chain): { queue: string[]; away: Attempt[]; late: Attempt[] } {
    const queue: string[] = []
    const away: Attempt[] = []
    const late: Attempt[] = []
    for (const model of models) {
      const closed = breakers.closedTo(model)
      if (closed === undefined) queue.push(model)
      else (closed.firm ? away : late).push(passedOver(model, closed))
    }
    return { queue: [...queue, ...late.map(({ model }) => model)], away, late }
  }

  async function attemptOnce(
    request: UpstreamRequest,
    handlers: UpstreamHandlers,
    signal: AbortSignal,
    hasAnother: boolean,
  ): Promise<Attempt & { spoken: boolean }> {
    const { model } = request
    const startedAtMs = nowMs()
    const said = { anything: false, text: false }
    let answer: Readonly<UpstreamAnswer> | undefined
    let error: AppError | undefined
    breakers.asked(model)
    try {
      await upstream.stream(
        request,
        {
          ...handlers,
          opened(heard) {
            answer = heard
            if (isFreeModel(model)) freeTurns.allowed()
            handlers.opened(heard)
          },
          text(content) {
            said.anything = true
            said.text = true
            handlers.text(content)
          },
          reasoning(content) {
            said.anything = true
            handlers.reasoning(content)
          },
        },
        signal,
        hasAnother ? deps.fallbackAfterMs : undefined,
      )
      if (!signal.aborted && !said.text) error = emptyAnswer(answer)
    } catch (failure) {
      error = failure instanceof AppError ? failure : new AppError('internal_error', { cause: failure })
    }
    const durationMs = nowMs() - startedAtMs
    if (signal.aborted) breakers.abandoned(model)
    else if (error instanceof UpstreamFailed) breakers.failed(model, error)
    else breakers.succeeded(model, startedAtMs)
    if (error instanceof UpstreamFailed && error.kind === 'free_quota') freeTurns.refused()
    else if (!signal.aborted && isFreeModel(model)) freeTurns.allowed()
    if (error === undefined && answer?.finishReason !== undefined) latencies.note(model, durationMs)
    return {
      model,
      answer,
      error,
      skipped: false,
      stopped: signal.aborted,
      request,
      durationMs,
      spoken: said.anything,
    }
  }
}

const passedOver = (model: string, closed: Closed): Attempt => ({
  model,
  answer: undefined,
  error: retryIn(closed.error, Math.ceil(closed.waitMs / 1000)),
  skipped: true,
  stopped: false,
  request: undefined,
  durationMs: 0,
})

/** No text is no answer, whatever the finish reason says: shown as a success it would be a lie. */
function emptyAnswer(answer: Readonly<UpstreamAnswer> | undefined): UpstreamFailed {
  if (answer?.finishReason === 'content_filter')
    return new UpstreamFailed('upstream_refused', 'refused', { cause: new Error('content filter') })
  const cause = new Error(`no text, finish reason ${answer?.finishReason ?? 'none'}`)
  return new UpstreamFailed('upstream_error', 'transient', { cause, retryAfter: 1 })
}

/**
 * One error for all attempts: the last one's, and the soonest time at which one of the models may answer again. After
 * what no waiting mends (a refusal, a mistake of ours) there is none.
 */
function told(attempts: readonly Attempt[]): AppError {
  const errors = attempts.flatMap(({ error }) => error ?? [])
  // A model that was asked says more than one that was passed over.
  const error = attempts.findLast(({ skipped }) => !skipped)?.error ?? errors[0]
  if (error === undefined) return new AppError('upstream_error')
  const mended = errors.filter(({ retryable }) => retryable)
  if (!error.retryable && mended.length === 0) return error
  const soonest = Math.min(...mended.map(({ retryAfter }) => retryAfter ?? retryAfterS))
  return retryIn(error.retryable ? error : (mended[0] ?? error), soonest)
}

const retryIn = (error: AppError, seconds: number): AppError =>
  new AppError(error.code, {
    ...(error.detail !== undefined && { detail: error.detail }),
    retryable: error.retryable,
    retryAfter: Math.max(seconds, 1),
    cause: error.cause,
  })
