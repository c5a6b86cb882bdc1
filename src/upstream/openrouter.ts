/**
 * Door of upstream: one streamed answer from an OpenAI-compatible server.
 *
 * The SDK builds the request and its errors; the body is read here as a plain Node stream, which costs a third of
 * the SDK's own iteration (measured in the design). There is one retry layer, and it is not here: `maxRetries` is
 * 0. Closing the connection is what stops the work and the bill, so every way out of `stream` closes it.
 */
import OpenAI, { APIError } from 'openai'
import { Agent, request as httpRequest, type Dispatcher } from 'undici'
import { createDecoder, parseObject, readError, type Decoded } from './decode.ts'
import { failureToError, retryAfterOf, transient, UpstreamFailed } from './failures.ts'

export { UpstreamFailed } from './failures.ts'

/** Longest answer kept, in UTF-16 units. Beyond it the upstream is closed and the answer fails, its text kept. */
const answerCharsMax = 4 * 1024 * 1024
/** What is read of an answer that is no event stream, bytes. */
const strayBytesMax = 64 * 1024
/** How long a finished stream may take to close before its connection is, ms. */
const lingerMs = 1_000

export interface UpstreamTimeouts {
  connectMs: number
  /** Until the first text or reasoning. */
  firstTextMs: number
  /** Between two events of a stream; comments do not count. */
  idleMs: number
  totalMs: number
}

export interface UpstreamMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

export interface UpstreamRequest {
  model: string
  messages: UpstreamMessage[]
  temperature: number
  maxTokens: number
  /** A stable pseudonym of the end user. */
  user: string
  /** The conversation: keeps a provider's prompt cache warm. */
  sessionId: string
  /** Of all messages, as far as counted, else estimated: what it is accounted for where nobody reports. */
  promptTokens: number
  /** Which of our texts the messages begin with. */
  promptVersion?: string
}

export interface UpstreamHandlers {
  /** The answer has begun. What it tells of itself fills in as it comes, and stays when it breaks off. */
  opened(answer: Readonly<UpstreamAnswer>): void
  text(content: string): void
  reasoning(content: string): void
  /** Everything that one packet held has been handed over. */
  packet(): void
}

/** How a stream ended. `finishReason` undefined: it broke off. */
export type UpstreamAnswer = Pick<Decoded, 'finishReason' | 'usage' | 'model' | 'upstreamId'>

export interface Upstream {
  /**
   * Resolves when the stream has ended, however; check `signal.aborted` before believing that it is complete.
   * @param firstTextMs instead of the configured time until the first text.
   * @throws UpstreamFailed; text may have been handed over before.
   */
  stream(
    request: UpstreamRequest,
    handlers: UpstreamHandlers,
    signal: AbortSignal,
    firstTextMs?: number,
  ): Promise<UpstreamAnswer>
  close(): Promise<void>
}

export function createUpstream(options: {
  baseUrl: string
  apiKey: string
  timeouts: UpstreamTimeouts
  referer?: string | undefined
  title?: string | undefined
}): Upstream {
  const { baseUrl, timeouts } = options
  const agent = new Agent({
    connect: { timeout: timeouts.connectMs },
    // Ours are narrower and tell apart what undici cannot; HTTP/2 would share a connection, and stop closes it.
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
  })
  const bodies = new WeakMap<Response, Dispatcher.ResponseData['body']>()
  const client = new OpenAI({
    apiKey: options.apiKey,
    baseURL: baseUrl,
    maxRetries: 0,
    timeout: timeouts.totalMs,
    logLevel: 'off',
    fetch: (url, init) => fetchThrough(agent, bodies, url instanceof Request ? url.url : String(url), init),
    defaultHeaders: {
      ...(options.referer !== undefined && { 'HTTP-Referer': options.referer }),
      ...(options.title !== undefined && { 'X-OpenRouter-Title': options.title, 'X-Title': options.title }),
    },
  })
  // OpenAI itself answers 400 to fields that it does not know; every other server seen ignores them.
  const strict = /(^|\.)(openai\.com|azure\.com)$/.test(new URL(baseUrl).hostname)

  async function open(request: UpstreamRequest, signal: AbortSignal): Promise<Response> {
    const { model, messages, temperature, maxTokens, user, sessionId } = request
    return client.chat.completions
      .create(
        {
          model,
          messages,
          temperature,
          user,
          stream: true,
          stream_options: { include_usage: true },
          ...(strict
            ? { max_completion_tokens: maxTokens }
            : { max_tokens: maxTokens, usage: { include: true }, session_id: sessionId }),
        },
        { signal },
      )
      .asResponse()
  }

  return {
    async stream(request, handlers, signal, firstTextMs = timeouts.firstTextMs) {
      const clock = createClock({ ...timeouts, firstTextMs }, signal)
      try {
        const response = await open(request, clock.signal)
        const body = bodies.get(response)
        if (body === undefined) throw transient('upstream_error', new Error('no body'))
        let ended = false
        try {
          const answer = await readStream(response, body, handlers, clock)
          ended = true
          return answer
        } finally {
          if (ended) letGo(body)
          else body.destroy()
        }
      } catch (error) {
        throw toFailure(error, clock)
      } finally {
        clock.stop()
      }
    },
    close: () => agent.destroy(),
  }
}

/** `fetch` over undici's `request`: the same Response, its body kept aside as the Node stream that it is. */
async function fetchThrough(
  agent: Agent,
  bodies: WeakMap<Response, Dispatcher.ResponseData['body']>,
  url: string,
  init: RequestInit = {},
): Promise<Response> {
  const { statusCode, headers, body } = await httpRequest(url, {
    dispatcher: agent,
    method: init.method ?? 'GET',
    headers: Object.fromEntries(init.headers instanceof Headers ? init.headers : new Headers(init.headers)),
    body: (init.body ?? null) as string | null,
    ...(init.signal != null && { signal: init.signal }),
  })
  // Destroyed streams say so; whoever reads learns it from its own listeners.
  body.on('error', () => undefined)
  const plain = new Headers()
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) plain.set(name, Array.isArray(value) ? value.join(', ') : value)
  const succeeded = statusCode >= 200 && statusCode < 300
  // A redirect is an answer like any other here: followed, it could take our key to another host.
  const status = statusCode >= 200 && statusCode <= 599 ? statusCode : 502
  if (!succeeded)
    return new Response(nullBody(status) ? null : await readStray(body), { status, headers: plain })
  const response = new Response(null, { status, headers: plain })
  bodies.set(response, body)
  return response
}

const nullBody = (status: number) => status === 204 || status === 205 || status === 304

async function readStray(body: Dispatcher.ResponseData['body']): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of body as AsyncIterable<Buffer>) {
    parts.push(part)
    bytes += part.length
    if (bytes >= strayBytesMax) break
  }
  body.destroy()
  return Buffer.concat(parts).toString('utf8', 0, strayBytesMax)
}

async function readStream(
  response: Response,
  body: Dispatcher.ResponseData['body'],
  handlers: UpstreamHandlers,
  clock: Clock,
): Promise<UpstreamAnswer> {
  const type = response.headers.get('content-type') ?? ''
  if (/^(application\/json|text\/html)/i.test(type)) throw notAStream(type, await readStray(body))

  let chars = 0
  const spoke = (content: string) => {
    chars += content.length
    clock.spoke()
  }
  const decoder = createDecoder({
    text(content) {
      spoke(content)
      handlers.text(content)
    },
    reasoning(content) {
      spoke(content)
      handlers.reasoning(content)
    },
  })
  const { decoded } = decoder
  decoded.upstreamId = response.headers.get('x-generation-id') ?? undefined
  handlers.opened(decoded)

  await new Promise<void>((resolve, reject) => {
    let events = 0
    body.on('data', (bytes: Buffer) => {
      decoder.push(bytes)
      if (decoded.events !== events) {
        events = decoded.events
        clock.heard()
      }
      handlers.packet()
      // Text behind the end is none of ours, and waiting for a server to close costs the user the terminal frame.
      if (decoded.done || decoded.error !== undefined || decoded.malformed !== undefined) resolve()
      else if (chars > answerCharsMax) reject(transient('upstream_error', new Error('answer over the cap')))
    })
    body.once('end', resolve)
    body.once('close', resolve)
    // Text that broke off is kept as such: no finish reason. Without text the next attempt may do better.
    body.once('error', (error) => {
      if (chars > 0 && !clock.signal.aborted) resolve()
      else reject(error)
    })
  })
  decoder.end()
  handlers.packet()

  if (decoded.error !== undefined)
    throw failureToError({ status: decoded.error.code, message: decoded.error.message })
  if (decoded.malformed !== undefined)
    throw transient('upstream_error', new Error(`upstream sent ${decoded.malformed}`))
  return decoded
}

/** A stream that said `[DONE]` ends at once as a rule: its connection is then free for the next answer. */
function letGo(body: Dispatcher.ResponseData['body']): void {
  if (body.closed) return
  const impatience = setTimeout(() => body.destroy(), lingerMs)
  impatience.unref()
  body.once('close', () => clearTimeout(impatience))
  body.removeAllListeners('data')
  body.resume()
}

/** 200 with JSON or a page: an error in disguise. */
function notAStream(type: string, text: string): UpstreamFailed {
  const error = parseObject(text)?.['error']
  if (typeof error !== 'object' || error === null)
    return transient('upstream_error', new Error(`upstream sent ${type} where a stream was asked for`))
  const { code, message } = readError(error as Record<string, unknown>)
  return failureToError({ status: code, message })
}

type Clock = ReturnType<typeof createClock>

/** The three timeouts and the caller's own signal as one, and which of them it was. */
function createClock(timeouts: UpstreamTimeouts, signal: AbortSignal) {
  const controller = new AbortController()
  let timedOut = false
  let spoken = false
  const expire = () => {
    timedOut = true
    controller.abort()
  }
  const relay = () => controller.abort()
  if (signal.aborted) relay()
  signal.addEventListener('abort', relay, { once: true })
  const total = setTimeout(expire, timeouts.totalMs)
  let waiting = setTimeout(expire, timeouts.firstTextMs)
  return {
    signal: controller.signal,
    timedOut: () => timedOut,
    stopped: () => signal.aborted,
    /** The first text: from now on only silence counts. */
    spoke() {
      if (spoken) return
      spoken = true
      clearTimeout(waiting)
      waiting = setTimeout(expire, timeouts.idleMs)
    },
    heard() {
      if (spoken) waiting.refresh()
    },
    stop() {
      clearTimeout(total)
      clearTimeout(waiting)
      signal.removeEventListener('abort', relay)
    },
  }
}

function toFailure(error: unknown, clock: Clock): UpstreamFailed {
  if (error instanceof UpstreamFailed) return error
  if (clock.timedOut())
    return new UpstreamFailed('upstream_timeout', 'silent', { cause: error, retryAfter: 5 })
  if (error instanceof APIError && typeof error.status === 'number') {
    const headers = error.headers as Headers | undefined
    return failureToError({
      status: error.status,
      message: error.message,
      retryAfter: retryAfterOf((name) => headers?.get(name), Date.now()),
    })
  }
  if (clock.stopped()) return transient('upstream_error', error)
  return transient('upstream_unavailable', error, 5)
}
