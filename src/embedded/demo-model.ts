/**
 * Door of the demo model: a small HTTP server on loopback that speaks OpenRouter's chat-completions protocol. It answers by
 * itself for whoever has no API key, and does as scripted for tests and benchmarks.
 *
 * Open → closed. A chat completion is played as the next scripted behaviour says, else as `always` says, else it is
 * a prepared answer at a readable pace. Nobody's authorization is checked.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createDemoAnswers } from './demo-answers.ts'
import { play } from './demo-play.ts'
import { catalogue, chatRequest, type ChatRequest } from './demo-protocol.ts'
import { billed, createRecorder, type RecordedRequest } from './demo-recorder.ts'
import { answer, type Behaviour } from './demo-script.ts'

export {
  DEMO_MODEL_ID,
  PAID_MODEL_ID,
  type ChatRequest,
  type UpstreamError,
  type Usage,
} from './demo-protocol.ts'
export type { RecordedRequest } from './demo-recorder.ts'
export * from './demo-script.ts'
export * from './demo-refusals.ts'

export interface DemoModel {
  /** `http://127.0.0.1:<port>/api/v1` */
  baseUrl: string
  /** every well-formed chat completion request, oldest first; the newest 1,000 */
  requests: readonly RecordedRequest[]
  /** The next chat completions behave so, first in first out. */
  script(...behaviours: Behaviour[]): void
  /** Every unscripted chat completion from now on, until undefined is given or returned. */
  always(behaviour: Behaviour | ((request: ChatRequest) => Behaviour | undefined) | undefined): void
  /**
   * The oldest request, already here or still to come, that no call of this has returned yet (and that matches).
   * Rejects when the model is closed first.
   */
  nextRequest(matches?: (request: RecordedRequest) => boolean): Promise<RecordedRequest>
  /** Forgets scripts, `always` and recorded requests, so that tests can share one model. */
  forget(): void
  /** Cuts everything that is open; resolves when no socket or timer is left. */
  close(): Promise<void>
}

export interface DemoModelOptions {
  /** default: a free one */
  port?: number
  /** of the prepared answers; default 15 */
  tokenDelayMs?: number
  /** default 30 */
  firstTokenDelayMs?: number
}

const ROOT = '/api/v1'
/** More than any context that fits a model, less than what hurts. */
const BODY_BYTES_MAX = 32 * 1024 * 1024
/** Longer than a test pauses: a pooled connection must not die under a client that is about to use it. */
const KEEP_ALIVE_MS = 60_000

export async function startDemoModel(options: DemoModelOptions = {}): Promise<DemoModel> {
  const { port = 0, tokenDelayMs = 15, firstTokenDelayMs = 30 } = options
  const shutdown = new AbortController()
  const scripted: Behaviour[] = []
  const recorder = createRecorder()
  const prepare = createDemoAnswers()
  let standing: Parameters<DemoModel['always']>[0]

  const behaviourFor = (request: ChatRequest): Behaviour => {
    const next = scripted.shift() ?? (typeof standing === 'function' ? standing(request) : standing)
    if (next) return next
    const { tokens, ...rest } = prepare(request)
    return answer(tokens, { ...rest, delayMs: firstTokenDelayMs, perTokenMs: tokenDelayMs })
  }

  const complete = async (request: IncomingMessage, response: ServerResponse) => {
    const parsed = parseChatRequest(await readBody(request))
    if (typeof parsed === 'string') {
      sendError(response, 400, parsed)
      return
    }
    const { headers } = request
    const behaviour = behaviourFor(parsed)
    recorder.add(play({ body: parsed, headers, response, behaviour, shutdown: shutdown.signal }))
  }

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    const [path = '', query] = (request.url ?? '').split('?', 2)
    const route = `${request.method ?? ''} ${path}`
    if (route === `POST ${ROOT}/chat/completions`) {
      complete(request, response).catch((error: unknown) => sendError(response, 500, String(error)))
      return
    }
    request.resume()
    if (route === `GET ${ROOT}/models`) sendJson(response, 200, { data: catalogue })
    else if (route === `GET ${ROOT}/generation`) sendGeneration(response, recorder.requests, query)
    else sendError(response, 404, `Not Found: ${route}`)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The demo model has no TCP port')

  return {
    baseUrl: `http://127.0.0.1:${address.port}${ROOT}`,
    requests: recorder.requests,
    script: (...behaviours) => void scripted.push(...behaviours),
    always: (behaviour) => void (standing = behaviour),
    nextRequest: (matches = () => true) => recorder.next(matches),
    forget() {
      scripted.length = 0
      standing = undefined
      recorder.forget()
    },
    async close() {
      if (shutdown.signal.aborted) return
      shutdown.abort()
      recorder.close()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** Undefined: too long. Rejects when the client leaves while it sends. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes <= BODY_BYTES_MAX) chunks.push(chunk)
  }
  return bytes <= BODY_BYTES_MAX ? Buffer.concat(chunks).toString('utf8') : undefined
}

/** A string says what is wrong. */
function parseChatRequest(body: string | undefined): ChatRequest | string {
  if (body === undefined) return 'The request body is too long'
  let json: unknown
  try {
    json = JSON.parse(body)
  } catch {
    return 'The request body is not JSON'
  }
  const parsed = chatRequest.safeParse(json)
  if (parsed.success) return parsed.data
  return parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
}

/** Only what has ended is known, and after a lag if its behaviour says so. */
function sendGeneration(response: ServerResponse, requests: readonly RecordedRequest[], query = ''): void {
  const id = new URLSearchParams(query).get('id') ?? ''
  const record = requests.findLast(({ generationId }) => generationId !== undefined && generationId === id)
  const known = record && !record.open && record.lookups++ >= (record.behaviour.generationLag ?? 0)
  if (known) sendJson(response, 200, { data: generationOf(id, record) })
  else sendError(response, 404, `Generation ${id} not found`)
}

function generationOf(id: string, record: RecordedRequest) {
  const usage = billed(record)
  return {
    id,
    model: record.model,
    provider_name: 'Rivulet',
    created_at: new Date(record.receivedAt).toISOString(),
    streamed: record.body.stream === true,
    cancelled: record.closedAt !== undefined,
    total_cost: usage.cost,
    usage: usage.cost,
    tokens_prompt: usage.prompt_tokens,
    tokens_completion: usage.completion_tokens,
    native_tokens_prompt: usage.prompt_tokens,
    native_tokens_completion: usage.completion_tokens,
    native_tokens_reasoning: usage.completion_tokens_details.reasoning_tokens,
    is_byok: false,
  }
}

function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, { error: { code: status, message } })
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent || response.destroyed) return
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}
