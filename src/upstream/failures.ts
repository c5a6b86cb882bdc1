/** What an upstream's answer means for us: the table of statuses → our catalogue. */
import { AppError, type ErrorCode } from '../errors.ts'

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

export function upstreamError(
  code: ErrorCode,
  cause?: unknown,
  retryAfter?: number,
  retryable?: boolean,
): AppError {
  const detail = sentences[code]
  return new AppError(code, {
    ...(retryable !== undefined && { retryable }),
    ...(detail !== undefined && { detail }),
    ...(retryAfter !== undefined && { retryAfter }),
    cause,
  })
}

/** Statuses by the table in the design: 401 and 403 are our key or moderation, never the caller's credentials. */
export function failureToError(failure: UpstreamFailure): AppError {
  const { status, message, retryAfter } = failure
  const cause = new Error(`upstream ${status ?? 'failure'}: ${withoutQuotations(message).slice(0, 500)}`)
  switch (status) {
    case 400:
    case 413:
      if (/context.{0,20}length|maximum context|too long/i.test(message))
        return upstreamError('context_too_long', cause)
      return upstreamError('upstream_error', cause, undefined, false)
    case 401:
    case 403:
      return upstreamError('upstream_refused', cause)
    case 402:
      return upstreamError('upstream_quota', cause, 3600)
    case 429:
      return upstreamError('upstream_quota', cause, retryAfter ?? 30)
    case 408:
    case 504:
    case 524:
      return upstreamError('upstream_timeout', cause, 5)
    case 502:
    case 503:
    case 529:
      return upstreamError('upstream_unavailable', cause, retryAfter ?? 5)
    default:
      // What it calls our mistake (an unknown model, a wrong field) stays one when it is sent again.
      return upstreamError(
        'upstream_error',
        cause,
        undefined,
        !(status !== undefined && status >= 400 && status < 500 && status !== 409),
      )
  }
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
