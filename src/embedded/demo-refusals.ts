/** Behaviours that are no answer at all: errors as OpenRouter words them, and pages from somebody in between. */
import type { UpstreamError } from './demo-protocol.ts'
import type { Behaviour } from './demo-script.ts'

export interface HttpErrorOptions {
  /** 429 only: the account's own limit on all `:free` models, instead of one provider's */
  freeQuota?: 'per-day' | 'per-min'
  /** replaces the whole body; a string is sent as it is */
  body?: unknown
  /** added to the status's own, or replacing them; lower case */
  headers?: Readonly<Record<string, string>>
}

export function httpError(status: number, options: HttpErrorOptions = {}): Behaviour {
  const refusal = refusalOf(status, options.freeQuota)
  return reply(status, options.body ?? { error: refusal.error }, { ...refusal.headers, ...options.headers })
}

/** 200, `application/json`, and an error in it. */
export function jsonError(error: Partial<UpstreamError> = {}): Behaviour {
  return reply(200, { error: { ...refusalOf(502, undefined).error, ...error } })
}

/** 200 and a page: a captive portal, a misconfigured base URL. */
export function htmlPage(
  html = '<!doctype html><title>Sign in</title><h1>Welcome to the network</h1>',
): Behaviour {
  return reply(200, html, { 'content-type': 'text/html; charset=utf-8' })
}

/** Somebody who follows it to the default location gets a 200 that is not an answer. */
export function redirect(location = '/api/v1/models', status = 302): Behaviour {
  return reply(status, '', { location })
}

export function reply(
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Behaviour {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const all = { 'content-type': 'application/json', ...headers }
  return { steps: [{ kind: 'reply', status, headers: all, body: text }] }
}

interface Refusal {
  error: UpstreamError
  headers: Record<string, string>
}

function refusalOf(status: number, freeQuota: 'per-day' | 'per-min' | undefined): Refusal {
  if (status === 429) return freeQuota ? freeQuotaRefusal(freeQuota) : providerLimitRefusal()
  const known = KNOWN[status] ?? { message: `Upstream answered ${status}` }
  return { error: { code: status, ...known }, headers: {} }
}

const KNOWN: Readonly<Record<number, Omit<UpstreamError, 'code'>>> = {
  400: {
    message:
      "This endpoint's maximum context length is 8192 tokens. However, you requested about 9001 tokens " +
      '(8001 of text input, 1000 in the output). Please reduce the length of either one.',
    metadata: {
      error_type: 'context_length_exceeded',
      provider_name: 'Rivulet',
      raw: '{"error":{"message":"maximum context length exceeded","code":"context_length_exceeded"}}',
    },
  },
  401: { message: 'No auth credentials found' },
  402: { message: 'Insufficient credits. Add more using https://openrouter.ai/settings/credits' },
  403: {
    message: 'Input was flagged by moderation',
    metadata: {
      reasons: ['violence'],
      flagged_input: '…',
      provider_name: 'Rivulet',
      model_slug: 'rivulet/demo',
    },
  },
  408: { message: 'Request timed out' },
  500: { message: 'Internal Server Error' },
  502: { message: 'Provider returned error', metadata: { provider_name: 'Rivulet', raw: 'upstream error' } },
  503: { message: 'There is no available model provider that meets your routing requirements' },
  524: { message: 'A timeout occurred' },
  529: { message: 'Provider overloaded', metadata: { error_type: 'provider_overloaded' } },
}

const PROVIDER_RETRY_S = 5

function providerLimitRefusal(): Refusal {
  const reset = Date.now() + PROVIDER_RETRY_S * 1000
  return {
    error: {
      code: 429,
      message: 'Provider returned error',
      metadata: { raw: 'The model is temporarily rate-limited upstream.', provider_name: 'Rivulet' },
    },
    headers: { 'retry-after': String(PROVIDER_RETRY_S), 'x-ratelimit-reset': String(reset) },
  }
}

/** OpenRouter repeats its rate-limit headers inside the body; the reset is in epoch milliseconds. */
function freeQuotaRefusal(quota: 'per-day' | 'per-min'): Refusal {
  const windowMs = quota === 'per-day' ? 86_400_000 : 60_000
  const now = Date.now()
  const reset = (Math.floor(now / windowMs) + 1) * windowMs
  const limits = {
    'X-RateLimit-Limit': quota === 'per-day' ? '50' : '20',
    'X-RateLimit-Remaining': '0',
    'X-RateLimit-Reset': String(reset),
  }
  const advice = quota === 'per-day' ? ' Add 10 credits to unlock 1000 free model requests per day' : ''
  return {
    error: {
      code: 429,
      message: `Rate limit exceeded: free-models-${quota}.${advice}`,
      metadata: { headers: limits, provider_name: null },
    },
    headers: {
      'retry-after': String(Math.ceil((reset - now) / 1000)),
      ...Object.fromEntries(Object.entries(limits).map(([name, value]) => [name.toLowerCase(), value])),
    },
  }
}
