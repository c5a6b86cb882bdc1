/**
 * One generation's life: pulls the upstream's answer into the log, and settles once.
 *
 * States: running → settling → settled. Out of `running` leads the upstream's end, a failure, or `stop`; whichever
 * is first decides the outcome. The terminal event is appended only after its transaction has been committed.
 * Nobody needs to watch: a run knows no viewer.
 */
import { estimateTokens } from '../context/build.ts'
import type { Caller, Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Jobs } from '../jobs/jobs.ts'
import type { Logger } from '../logging.ts'
import type { Message, Usage } from '../messages/schemas.ts'
import { isFreeModel } from '../upstream/chain.ts'
import {
  upstreamError,
  type Upstream,
  type UpstreamAnswer,
  type UpstreamRequest,
} from '../upstream/openrouter.ts'
import type { FrameError, LogEvent, TerminalEvent } from './events.ts'
import type { Journal, UpstreamNote } from './journal.ts'
import { createLog, type Log } from './log.ts'
import { settlePatiently, type Outcome, type Settlement } from './settle.ts'

export interface GenerationSpec {
  id: string
  caller: Caller
  conversationId: string
  /** The assistant's message as stored by the turn, still empty. */
  message: Message
  request: UpstreamRequest
  question: string
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

/** Asked for by its user, by a shutdown, or by the journal: it cannot keep what is said, or somebody else settled it. */
export type StopReason = 'stopped' | 'interrupted' | 'stalled' | 'lost'

export interface RunDeps {
  journal: Journal
  upstream: Upstream
  transactions: Transactions
  jobs: Pick<Jobs, 'wake'>
  log: Logger
  nowMs: () => number
}

export function startRun(deps: RunDeps, spec: GenerationSpec): Generation {
  const { upstream, nowMs } = deps
  const log = createLog(spec.id)
  const controller = new AbortController()
  const startedAtMs = nowMs()
  const pieces: string[] = []
  const thoughts: string[] = []
  let firstTokenAtMs: number | undefined
  let asked: StopReason | undefined
  let heard: Readonly<UpstreamAnswer> | undefined
  let promptTokens: number | undefined

  for (const event of spec.opening) log.append(event)

  const handlers = {
    opened(answer: Readonly<UpstreamAnswer>) {
      heard = answer
    },
    text(content: string) {
      firstTokenAtMs ??= nowMs()
      pieces.push(content)
      log.append({ type: 'assistant_chunk', content })
    },
    reasoning(content: string) {
      thoughts.push(content)
      log.append({ type: 'reasoning_chunk', content })
    },
    packet: () => log.wake(),
  }

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
    promptTokens ??= promptTokensOf(spec.request)
    return { upstreamId: heard?.upstreamId ?? null, promptTokens }
  }

  function stop(reason: StopReason): void {
    asked ??= reason
    controller.abort()
  }

  async function live(): Promise<Settled> {
    const end = await pull()
    const storedSeq = await entry.leave()
    const content = pieces.join('')
    // Closed by us before its first word: its prompt had been read, and some providers charge for that.
    const closedByUs = asked !== undefined || end.error?.code === 'upstream_timeout'
    const mayBeBilled = asked === 'stopped' || (closedByUs && heard !== undefined)
    const settlement: Settlement = {
      caller: spec.caller,
      generationId: spec.id,
      conversationId: spec.conversationId,
      messageId: spec.message.id,
      outcome: end.outcome,
      content,
      metadata: {
        model: heard?.model ?? spec.request.model,
        finish_reason: heard?.finishReason ?? null,
        processing_time_ms: Math.round(nowMs() - startedAtMs),
        first_token_ms: firstTokenAtMs === undefined ? null : Math.round(firstTokenAtMs - startedAtMs),
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
      usage: usageOf(spec.request, content + thoughts.join(''), heard, mayBeBilled),
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
        tokens: settlement.usage?.totalTokens,
        cost: settlement.usage?.cost,
        ...(error !== undefined && { err: error }),
      },
      'generation settled',
    )
    return { message, usage: message.usage, error }
  }

  async function pull(): Promise<{ outcome: Outcome; error?: AppError }> {
    try {
      const answer = await upstream.stream(spec.request, handlers, controller.signal)
      if (asked !== undefined) return ended(asked)
      if (pieces.length === 0) return { outcome: 'failed', error: emptyAnswer(answer) }
      if (answer.finishReason !== undefined) return { outcome: 'complete' }
      return { outcome: 'interrupted', error: upstreamError('upstream_error', new Error('stream broke off')) }
    } catch (error) {
      if (asked !== undefined) return ended(asked)
      return { outcome: 'failed', error: error instanceof AppError ? error : internal(error) }
    }
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

function ended(asked: StopReason): { outcome: Outcome; error?: AppError } {
  switch (asked) {
    case 'stopped':
      return { outcome: 'stopped' }
    case 'interrupted':
      return {
        outcome: 'interrupted',
        error: new AppError('shutting_down', {
          detail: 'The server was restarted while this answer was being written. What had arrived is kept.',
          retryAfter: 5,
        }),
      }
    case 'stalled':
    case 'lost':
      return {
        outcome: 'failed',
        error: new AppError('database_unavailable', {
          detail: 'This answer was ended since it could not be stored as it came.',
          retryAfter: 5,
        }),
      }
    default:
      return asked satisfies never
  }
}

/** No text is no answer, whatever the finish reason says: shown as a success it would be a lie. */
function emptyAnswer(answer: UpstreamAnswer): AppError {
  if (answer.finishReason === 'content_filter')
    return upstreamError('upstream_refused', new Error('content filter'))
  return upstreamError(
    'upstream_error',
    new Error(`no text, finish reason ${answer.finishReason ?? 'none'}`),
    1,
  )
}

const internal = (cause: unknown) => new AppError('internal_error', { cause })

/** What the upstream reported; else an estimate, which is never a free one for a model that is not. */
function usageOf(
  request: UpstreamRequest,
  written: string,
  answer: UpstreamAnswer | undefined,
  mayBeBilled: boolean,
): Settlement['usage'] {
  const isFree = isFreeModel(request.model)
  const reported = answer?.usage
  const model = answer?.model ?? request.model
  if (reported !== undefined) {
    const { promptTokens, completionTokens, totalTokens } = reported
    const cost = reported.cost ?? (isFree ? '0' : null)
    return {
      model,
      promptTokens,
      completionTokens,
      totalTokens,
      cost,
      isFreeModel: isFree,
      source: 'reported',
    }
  }
  // Nothing was written and nothing reported: a refusal, a reset, an error page. Nobody charges for those.
  if (written === '' && !mayBeBilled) return undefined
  const promptTokens = promptTokensOf(request)
  const completionTokens = estimateTokens(written)
  return {
    model,
    promptTokens,
    completionTokens,
    totalTokens: promptTokens + completionTokens,
    cost: isFree ? '0' : null,
    isFreeModel: isFree,
    source: 'estimated',
  }
}

const promptTokensOf = ({ messages }: UpstreamRequest) =>
  estimateTokens(messages.map(({ content }) => content).join('\n'))

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
    for (const end of [bare, { ...bare, usage: undefined, upstreamId: undefined }]) {
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
