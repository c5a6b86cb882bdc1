/**
 * One generation's life: pulls the upstream's answer into the log, and settles once.
 *
 * States: running → settling → settled. Out of `running` leads the upstream's end, a failure, or `stop`; whichever
 * is first decides the outcome. The terminal event is appended only after its transaction has been committed.
 * Nobody needs to watch: a run knows no viewer.
 */
import type { TellDevices } from '../conversations/changes.ts'
import type { Caller, Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Jobs, NewJob } from '../jobs/jobs.ts'
import type { Logger } from '../logging.ts'
import type { Message, Usage } from '../messages/schemas.ts'
import type { SettledFigures } from '../operations/recorder.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { AnswerEnd, AskUpstream, Order } from '../upstream/attempts.ts'
import type { UpstreamAnswer, UpstreamRequest } from '../upstream/openrouter.ts'
import { plausibleTokens, usageOf } from './accounts.ts'
import { brokenOff, ended, endedBy, type StopReason } from './endings.ts'
import type { FrameError, LogEvent, Outcome, TerminalEvent } from './events.ts'
import type { Journal, UpstreamNote } from './journal.ts'
import { createLog, type Log } from './log.ts'
import { settlePatiently, type Settlement } from './settle.ts'
import { createSilence } from './silence.ts'

export interface GenerationSpec {
  id: string
  caller: Caller
  conversationId: string
  /** The assistant's message as stored by the turn, still empty. */
  message: Message
  order: Order
  question: string
  titleJob?: NewJob | undefined
  /** Says something where no model has said a word: then the answer is complete. */
  standIn?: { sender: string; text: () => string } | undefined
  /** What every viewer is shown first. */
  opening: LogEvent[]
}

export interface Settled {
  message: Message
  usage: Usage | null
  /** Why it failed or was cut short, where it was. */
  error: AppError | undefined
}

export interface Generation {
  readonly id: string
  readonly conversationId: string
  readonly messageId: string
  readonly log: Log
  readonly settled: Promise<Settled>
  /** Closes the upstream now; the text so far is kept. Idempotent: the first reason counts. */
  stop(reason: StopReason): void
}

export interface RunDeps {
  journal: Journal
  ask: AskUpstream
  isFree: (model: string) => boolean
  /** How long an answer of this model takes, ms, as far as is known. */
  estimateMs: (model: string) => number | undefined
  transactions: Transactions
  jobs: Pick<Jobs, 'wake'>
  tellDevices?: TellDevices | undefined
  /** Tells other services of answers. */
  outbox?: Outbox | undefined
  log: Logger
  /** Told of what has settled. */
  observe: (settled: SettledFigures) => void
  nowMs: () => number
}

export function startRun(deps: RunDeps, spec: GenerationSpec): Generation {
  const { nowMs } = deps
  const log = createLog(spec.id)
  const controller = new AbortController()
  const startedAtMs = nowMs()
  const pieces: string[] = []
  const thoughts: string[] = []
  let firstTokenAtMs: number | undefined
  let asked: StopReason | undefined
  let heard: Readonly<UpstreamAnswer> | undefined
  /** Who is being asked, and what. */
  let request: UpstreamRequest | undefined

  for (const event of spec.opening) log.append(event)

  const handlers = {
    opened(answer: Readonly<UpstreamAnswer>) {
      heard = answer
    },
    text(content: string) {
      firstTokenAtMs ??= nowMs()
      silence.broken()
      pieces.push(content)
      log.append({ type: 'assistant_chunk', content })
    },
    reasoning(content: string) {
      silence.broken()
      thoughts.push(content)
      log.append({ type: 'reasoning_chunk', content })
    },
    packet: () => log.wake(),
    switched(model: string, why: AppError) {
      log.append({ type: 'status', state: 'fallback', model, detail: why.message })
      log.wake()
    },
  }
  const order: Order = {
    models: spec.order.models,
    request(model, shorter) {
      heard = undefined
      request = spec.order.request(model, shorter)
      return request
    },
  }
  const askedModel = () => request?.model ?? spec.order.models[0]
  const silence = createSilence(log, { model: askedModel, nowMs })

  const entry = deps.journal.open({
    id: spec.id,
    log,
    tell: (verdict) => stop(verdict === 'stop' ? 'stopped' : verdict),
    note,
  })

  /** Once the upstream has begun; an id that comes later than the first text is news again. */
  function note(): UpstreamNote | undefined {
    if (heard?.upstreamId === undefined && firstTokenAtMs === undefined && thoughts.length === 0)
      return undefined
    if (request === undefined) return undefined
    const { promptTokens, model } = request
    return { upstreamId: heard?.upstreamId ?? null, promptTokens, model }
  }

  function stop(reason: StopReason): void {
    asked ??= reason
    controller.abort()
  }

  async function live(): Promise<Settled> {
    const { attempts, ...end } = await pull()
    silence.over()
    const storedSeq = await entry.leave()
    const content = pieces.join('')
    const written = (end.standIn === undefined ? content : '') + thoughts.join('')
    const answering = attempts.at(-1)
    const durationMs = nowMs() - startedAtMs
    const settlement: Settlement = {
      caller: spec.caller,
      generationId: spec.id,
      conversationId: spec.conversationId,
      messageId: spec.message.id,
      outcome: end.outcome,
      content,
      sender: end.standIn?.sender ?? askedModel(),
      tokens:
        thoughts.length === 0 && end.outcome === 'complete'
          ? plausibleTokens(heard?.usage?.completionTokens, content)
          : undefined,
      metadata: {
        model: end.standIn === undefined ? (heard?.model ?? askedModel()) : null,
        is_free_model: deps.isFree(askedModel()),
        finish_reason: heard?.finishReason ?? null,
        processing_time_ms: Math.round(durationMs),
        first_token_ms: firstTokenAtMs === undefined ? null : Math.round(firstTokenAtMs - startedAtMs),
        estimated_response_time_ms: deps.estimateMs(askedModel()) ?? null,
        fallbacks: attempts
          .filter(
            (attempt) => (attempt !== answering || end.standIn !== undefined) && attempt.error !== undefined,
          )
          .map(({ model, error, skipped }) => ({ model, error: error?.code, ...(skipped && { skipped }) })),
        ...(request?.promptVersion !== undefined && { prompt_version: request.promptVersion }),
        ...(end.standIn !== undefined && { composed: true }),
        ...(thoughts.length > 0 && { reasoning: thoughts.join('') }),
        ...(end.error !== undefined && { error: { code: end.error.code, message: end.error.message } }),
      },
      upstreamId: heard?.upstreamId,
      lastSeq: log.head() + 1,
      storedSeq,
      tail: eventsAfter(log, storedSeq),
      terminal:
        end.error === undefined ? { type: 'complete' } : { type: 'error', error: frameError(end.error) },
      errorCode: end.error?.code,
      question: spec.question,
      titleJob: spec.titleJob,
      usages: attempts.flatMap(
        (attempt) =>
          usageOf(
            attempt,
            attempt === answering ? written : '',
            // What had failed before the stop was ended by nobody but itself.
            attempt.stopped ? endedBy(asked) : 'by itself',
            deps.isFree,
          ) ?? [],
      ),
    }
    const { message, error } = await store(deps, settlement, spec.message, end.error)
    const terminal = terminalEvent(message, error)
    log.append(terminal)
    log.wake()
    deps.log.info(
      {
        event: 'generation_settled',
        generationId: spec.id,
        model: settlement.metadata['model'],
        outcome: message.status,
        firstTokenMs: settlement.metadata['first_token_ms'],
        durationMs: settlement.metadata['processing_time_ms'],
        tokens: sum(settlement.usages, ({ totalTokens }) => totalTokens),
        cost: settlement.usages.map(({ cost }) => cost),
        ...(error !== undefined && { err: error }),
      },
      'generation settled',
    )
    deps.observe({
      model: askedModel(),
      outcome: message.status,
      firstTokenMs: firstTokenAtMs === undefined ? undefined : firstTokenAtMs - startedAtMs,
      durationMs,
      usages: settlement.usages,
    })
    return { message, usage: message.usage, error }
  }

  async function pull(): Promise<Pulled> {
    const { attempts, answer, error } = await deps
      .ask(order, handlers, controller.signal)
      // A mistake of ours: the answer fails, and must not be left running.
      .catch((mistake: unknown) => ({ attempts: [], answer: undefined, error: internal(mistake) }))
    if (asked !== undefined) return { attempts, ...ended(asked) }
    if (spec.standIn !== undefined && !isVisible(pieces)) {
      handlers.text(spec.standIn.text())
      log.wake()
      return { attempts, outcome: 'complete', standIn: spec.standIn }
    }
    if (error !== undefined) return { attempts, outcome: 'failed', error }
    if (answer?.finishReason !== undefined) return { attempts, outcome: 'complete' }
    return { attempts, outcome: 'interrupted', error: brokenOff() }
  }

  const settled = live()

  return {
    id: spec.id,
    conversationId: spec.conversationId,
    messageId: spec.message.id,
    log,
    settled,
    stop,
  }
}

/** Blanks say nothing, whichever they are. */
const isVisible = (pieces: readonly string[]) => pieces.some((piece) => /[^\s\p{Cf}\p{Cc}]/u.test(piece))

interface Pulled {
  attempts: AnswerEnd['attempts']
  outcome: Outcome
  error?: AppError
  /** Who spoke, where no model did. */
  standIn?: GenerationSpec['standIn']
}

const internal = (cause: unknown) => new AppError('internal_error', { cause })

const sum = <T>(items: readonly T[], figure: (item: T) => number) =>
  items.reduce((total, item) => total + figure(item), 0)

async function store(
  deps: RunDeps,
  settlement: Settlement,
  unsettled: Message,
  failure: AppError | undefined,
): Promise<{ message: Message; error: AppError | undefined }> {
  try {
    const { message, ours } = await settlePatiently(deps, settlement)
    if (message !== undefined && ours) return { message, error: failure }
    // Somebody else was first (a reaper, a sweep): what is stored is what counts.
    const error = new AppError('upstream_error', { detail: 'This answer was ended from elsewhere.' })
    return { message: message ?? unsettled, error }
  } catch (error) {
    const refused = error instanceof AppError ? error : internal(error)
    // What cannot be stored whole is stored as far as it can be: a row left running would lock the conversation.
    // A database that stayed away for all that patience will not take less either: then the reaper ends it.
    if (refused.code === 'database_unavailable')
      return { message: { ...unsettled, content: settlement.content, status: 'failed' }, error: refused }
    const told = failure ?? refused
    const bare: Settlement = {
      ...settlement,
      outcome: 'failed',
      metadata: { error: { code: told.code, message: told.message } },
      errorCode: told.code,
      tail: [],
      terminal: { type: 'error', error: frameError(told) },
    }
    // What it cost is given up last.
    for (const end of [bare, { ...bare, usages: [], upstreamId: undefined }]) {
      const stored = await settlePatiently(deps, end).catch(() => undefined)
      if (stored?.message !== undefined) return { message: stored.message, error: told }
    }
    return { message: { ...unsettled, content: settlement.content, status: 'failed' }, error: told }
  }
}

function terminalEvent(message: Message, error: AppError | undefined): TerminalEvent {
  if (error === undefined) return { type: 'complete', message, usage: message.usage }
  return { type: 'error', error: frameError(error), message }
}

function frameError({ code, message, retryable, retryAfter }: AppError): FrameError {
  return { code, message, retryable, ...(retryAfter !== undefined && { retry_after: retryAfter }) }
}

function eventsAfter(log: Log, seq: number): LogEvent[] {
  const events: LogEvent[] = []
  for (let next = log.next(seq); next !== undefined; next = log.next(next.seq)) events.push(next.event)
  return events
}
