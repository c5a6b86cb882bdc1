/** What an upstream's failure means for us: the table of statuses → our catalogue, and what may be tried next. */
import { AppError, type ErrorCode } from '../errors.ts'

export type FailureKind =
  /** A provider's limit: another model at once, this one when its time has come. */
  | 'limited'
  /** The account's quota for all `:free` models. */
  | 'free_quota'
  | 'no_credit'
  /** Our key, or moderation. */
  | 'refused'
  | 'too_long'
  /** Nobody serves this model. */
  | 'gone'
  /** What we sent is wrong, and stays so. */
  | 'mistake'
  /** It said nothing in time. */
  | 'silent'
  | 'transient'

export interface UpstreamFailure {
  /** The upstream's HTTP status, or the code it put into its stream; undefined where there was no answer. */
  status: number | undefined
  /** Its own words: looked at here, logged, never shown. */
  message: string
  /** `Retry-After` in seconds, or `X-RateLimit-Reset` made into seconds. */
  retryAfter?: number | undefined
}

const sentences: Partial<Record<ErrorCode, string>> = {
  context_too_long:
    'This conversation is longer than the model can read. Branch from an earlier message or start a new one.',
  upstream_refused: 'The model provider refused the request.',
  upstream_quota: 'The quota for this model is used up for now.',
  upstream_timeout: 'The model did not answer in time.',
  upstream_unavailable: 'The model cannot be reached at the moment.',
  upstream_error: 'The model failed to answer.',
}

/** One attempt's failure: what the client is told, and what it means for the next attempt. */
export class UpstreamFailed extends AppError {
  readonly kind: FailureKind
  /** How long there is no use in asking again, ms; undefined: it did not say. */
  readonly closedForMs: number | undefined

  constructor(
    code: ErrorCode,
    kind: FailureKind,
    options: {
      cause?: unknown
      retryAfter?: number | undefined
      retryable?: boolean
      closedForMs?: number | undefined
    } = {},
  ) {
    const detail = sentences[code]
    super(code, {
      ...(detail !== undefined && { detail }),
      ...(options.retryable !== undefined && { retryable: options.retryable }),
      ...(options.retryAfter !== undefined && { retryAfter: options.retryAfter }),
      cause: options.cause,
    })
    this.name = 'UpstreamFailed'
    this.kind = kind
    this.closedForMs = options.closedForMs
  }
}

/** A failure that is nobody's fault and may be gone in a moment. */
export const transient = (code: ErrorCode, cause?: unknown, retryAfter?: number): UpstreamFailed =>
  new UpstreamFailed(code, 'transient', { cause, retryAfter })

/** Statuses by the table in the design: 401 and 403 are our key or moderation, never the caller's credentials. */
export function failureToError(failure: UpstreamFailure): UpstreamFailed {
  const { status, message, retryAfter } = failure
  const cause = new Error(`upstream ${status ?? 'failure'}: ${withoutQuotations(message).slice(0, 500)}`)
  switch (status) {
    case 400:
    case 413:
      if (/context.{0,20}length|maximum context|too long/i.test(message))
        return new UpstreamFailed('context_too_long', 'too_long', { cause })
      return new UpstreamFailed('upstream_error', 'mistake', { cause, retryable: false })
    case 401:
    case 403:
      return new UpstreamFailed('upstream_refused', 'refused', { cause })
    case 402:
      return new UpstreamFailed('upstream_quota', 'no_credit', { cause, retryAfter: 3600 })
    case 404:
      return new UpstreamFailed('upstream_error', 'gone', { cause, retryable: false })
    case 429: {
      const isFreeQuota = /\bfree-models-/i.test(message)
      const seconds = retryAfter ?? (isFreeQuota ? freeQuotaS(message) : limitedS)
      return new UpstreamFailed('upstream_quota', isFreeQuota ? 'free_quota' : 'limited', {
        cause,
        retryAfter: seconds,
        closedForMs: seconds * 1000,
      })
    }
    case 408:
    case 504:
    case 524:
      return transient('upstream_timeout', cause, 5)
    case 502:
    case 503:
    case 529:
      return transient('upstream_unavailable', cause, retryAfter ?? 5)
    default:
      // What it calls our mistake (a wrong field, a wrong address) stays one when it is sent again.
      if (status !== undefined && status >= 300 && status < 500 && status !== 409)
        return new UpstreamFailed('upstream_error', 'mistake', { cause, retryable: false })
      return transient('upstream_error', cause)
  }
}

/** A limit that does not say when it ends, seconds. */
const limitedS = 30

/** OpenRouter's windows, where no header says it: a minute, or the UTC day. */
function freeQuotaS(message: string): number {
  if (/per-min/i.test(message)) return 60
  return Math.ceil((86_400_000 - (Date.now() % 86_400_000)) / 1000)
}

/** An upstream's words go into a log: without the prompt, the page or the key that they may quote. */
const withoutQuotations = (words: string) =>
  words.replace(/["`[{<][^]*/, '…').replaceAll(/\b(sk|Bearer)[- ]\S+/g, '…')

/** Seconds until trying again makes sense, from an upstream's headers; at most a day. */
export function retryAfterOf(
  header: (name: string) => string | null | undefined,
  nowMs: number,
): number | undefined {
  const after = header('retry-after')
  if (after != null && after !== '') {
    const seconds = /^\d+(\.\d+)?$/.test(after) ? Number(after) : (Date.parse(after) - nowMs) / 1000
    if (Number.isFinite(seconds)) return withinADay(seconds)
  }
  const reset = Number(header('x-ratelimit-reset') ?? Number.NaN)
  // Milliseconds since 1970 at OpenRouter; seconds elsewhere.
  if (reset > 1e12) return withinADay((reset - nowMs) / 1000)
  if (reset > 1e9) return withinADay(reset - nowMs / 1000)
  return undefined
}

const withinADay = (seconds: number) => Math.min(Math.max(Math.ceil(seconds), 1), 86_400)
