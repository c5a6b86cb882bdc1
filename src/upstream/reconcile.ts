/**
 * Door of upstream, for accounts: what an answer cost in the end, as OpenRouter tells it afterwards
 * (`GET /generation?id=…`). Other servers do not know the question.
 *
 * It lags: seconds as a rule, minutes where a stream was cut. What it says is checked here, at the edge.
 */
import { Agent, request } from 'undici'
import { z } from 'zod'
import { parseObject, plainDecimal } from './decode.ts'
import { retryAfterOf } from './failures.ts'

export type Bill =
  /** Tokens are undefined where only the cost is told. */
  | {
      kind: 'billed'
      promptTokens: number | undefined
      completionTokens: number | undefined
      /** Credits, an exact decimal. */
      cost: string
    }
  /** It does not know this answer: not yet, or never. */
  | { kind: 'unknown' }
  /** It does not know the question. */
  | { kind: 'unsupported' }
  /** It answered, and what it said is no bill. */
  | { kind: 'unusable' }
  /** Away, busy, or our key is refused. */
  | { kind: 'unavailable'; why: string; retryAfterMs: number | undefined }

export interface Billing {
  /** @throws where `signal` is aborted, and only then. */
  ask(upstreamId: string, signal: AbortSignal): Promise<Bill>
  close(): Promise<void>
}

/** OpenRouter's ids, and nobody else's: only it can be asked. */
export const canBeAsked = (upstreamId: string | undefined): upstreamId is string =>
  upstreamId !== undefined && /^gen-[\w-]{1,200}$/.test(upstreamId)

/** For the whole question, ms: it is one row of theirs. */
const timeoutMs = 10_000
/** A bill is about a kilobyte. */
const bodyBytesMax = 64 * 1024
/** Above this it is no price of an answer, credits. */
const costMax = 10_000
/** Two of them still fit PostgreSQL's integer. */
const tokensMax = 1_000_000_000

export function createBilling({ baseUrl, apiKey }: { baseUrl: string; apiKey: string }): Billing {
  const agent = new Agent({ connect: { timeout: timeoutMs }, allowH2: false })
  const url = `${baseUrl.replace(/\/$/, '')}/generation?id=`
  return {
    async ask(upstreamId, signal) {
      try {
        // Redirects are not followed: one could take our key to another host.
        const { statusCode, headers, body } = await request(url + encodeURIComponent(upstreamId), {
          dispatcher: agent,
          headers: { authorization: `Bearer ${apiKey}`, accept: 'application/json' },
          signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        })
        const text = await readBounded(body)
        if (statusCode === 200) return readBill(text)
        const header = (name: string) => [headers[name]].flat()[0]
        return refused(statusCode, retryAfterOf(header, Date.now()))
      } catch (error) {
        if (signal.aborted) throw error
        const slow = error instanceof Error && error.name === 'TimeoutError'
        return { kind: 'unavailable', why: slow ? 'no_answer' : 'unreachable', retryAfterMs: undefined }
      }
    },
    close: () => agent.destroy(),
  }
}

/** Undefined: too long. */
async function readBounded(body: AsyncIterable<Buffer>): Promise<string | undefined> {
  const parts: Buffer[] = []
  let bytes = 0
  // Leaving the loop closes the connection.
  for await (const part of body) {
    bytes += part.length
    if (bytes > bodyBytesMax) return undefined
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function refused(status: number, retryAfterS: number | undefined): Bill {
  if (status === 404) return { kind: 'unknown' }
  const transient = status >= 500 || [401, 402, 403, 408, 425, 429].includes(status)
  if (!transient || status === 501) return { kind: 'unsupported' }
  return {
    kind: 'unavailable',
    why: `status_${status}`,
    retryAfterMs: retryAfterS === undefined ? undefined : retryAfterS * 1000,
  }
}

const tokens = z.int().min(0).max(tokensMax).nullish()
const generation = z.object({
  data: z.object({
    total_cost: z.number().min(0).max(costMax),
    native_tokens_prompt: tokens,
    native_tokens_completion: tokens,
    tokens_prompt: tokens,
    tokens_completion: tokens,
  }),
})

function readBill(text: string | undefined): Bill {
  const read = generation.safeParse(text === undefined ? undefined : parseObject(text))
  if (!read.success) return { kind: 'unusable' }
  const { data } = read.data
  return {
    kind: 'billed',
    // The native ones are what was charged; the others are counted by one tokenizer for all models.
    promptTokens: data.native_tokens_prompt ?? data.tokens_prompt ?? undefined,
    completionTokens: data.native_tokens_completion ?? data.tokens_completion ?? undefined,
    cost: plainDecimal(data.total_cost),
  }
}
