/**
 * Door of embedded, for the demo and for tests: a small HTTP server on loopback that speaks the protocol of the archive
 * service (`GET /api/archive/results/:assessment_id`), and fails as scripted.
 *
 * Open → closed. A request is answered as the next scripted behaviour says, else with what was put, else (where it
 * generates) with results made from the id, which are the same each time, else 404. Where it has a key, nobody else's
 * is taken.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { demoResults } from './demo-results.ts'

export interface DemoArchive {
  /** `http://127.0.0.1:<port>` */
  baseUrl: string
  /** Every request, whatever became of it, oldest first; the newest 1,000. */
  requests: readonly ArchiveRequest[]
  /** @param results sent as JSON; a string is the body as it is. */
  put: (assessmentId: string, results: unknown) => void
  /** The next questions for results are answered so, first in first out. */
  script: (...behaviours: ArchiveBehaviour[]) => void
  /** Forgets what was put and scripted, and the requests, so that tests can share one archive. */
  forget: () => void
  /** Cuts everything that is open; resolves when no socket is left. */
  close: () => Promise<void>
}

export interface ArchiveRequest {
  /** As it was sent, encoded. */
  path: string
  authorization: string | undefined
  /** ms since 1970 */
  at: number
}

export type ArchiveBehaviour =
  | { kind: 'status'; status: number; headers?: Readonly<Record<string, string>> }
  /** Silence until the client leaves: before any answer (default), after the headers, or after half of the body. */
  | { kind: 'hang'; after?: 'headers' | 'half' }
  /** The connection is reset before any answer. */
  | { kind: 'cut' }
  /** Half of the results; then the connection goes. */
  | { kind: 'half' }
  /** The results, with 2 MB of something else among them. */
  | { kind: 'huge' }
  | { kind: 'redirect'; to: string }
  /** Status 200, with this text. Default: JSON without an end. */
  | { kind: 'body'; text?: string }
  /** The results with all of their keys in camelCase. */
  | { kind: 'camelCase' }
  /** The results as `{success, data}`. */
  | { kind: 'wrapped' }

export interface DemoArchiveOptions {
  /** default: a free one */
  port?: number
  /** default: everybody may ask */
  serviceKey?: string
  /** Whether every assessment has results. */
  generate?: boolean
}

/** The same behaviour for so many requests. */
export const times = (count: number, behaviour: ArchiveBehaviour): ArchiveBehaviour[] =>
  Array.from({ length: count }, () => behaviour)

const REQUESTS_MAX = 1_000
const HUGE_BYTES = 2_000_000

export async function startDemoArchive(options: DemoArchiveOptions = {}): Promise<DemoArchive> {
  const { port = 0, serviceKey, generate = false } = options
  const kept = new Map<string, unknown>()
  const scripted: ArchiveBehaviour[] = []
  const requests: ArchiveRequest[] = []
  let closing: Promise<void> | undefined

  const server = createServer((request, response) => {
    request.resume()
    const { method, url: path = '', headers } = request
    requests.push({ path, authorization: headers.authorization, at: Date.now() })
    if (requests.length > REQUESTS_MAX) requests.shift()

    const id = method === 'GET' ? idOf(path) : undefined
    if (id === undefined) {
      sendError(response, 404, 'ROUTE_NOT_FOUND')
      return
    }
    const next = scripted.shift()
    if (next) play(response, next, kept.get(id) ?? demoResults(id))
    else if (serviceKey !== undefined && headers.authorization !== `Bearer ${serviceKey}`)
      sendError(response, 401, 'UNAUTHORIZED')
    else if (kept.has(id)) sendBody(response, kept.get(id))
    else if (generate) sendBody(response, demoResults(id))
    else sendError(response, 404, 'NOT_FOUND')
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The demo archive has no TCP port')

  return {
    baseUrl: `http://127.0.0.1:${address.port}`,
    requests,
    put: (assessmentId, results) => void kept.set(assessmentId, results),
    script: (...behaviours) => void scripted.push(...behaviours),
    forget() {
      kept.clear()
      scripted.length = 0
      requests.length = 0
    },
    close() {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      return closing
    },
  }
}

/** One part of a path, decoded. */
function idOf(path: string): string | undefined {
  const [, encoded] = /^\/api\/archive\/results\/([^/?#]+)$/.exec(path) ?? []
  try {
    return encoded === undefined ? undefined : decodeURIComponent(encoded)
  } catch {
    return undefined
  }
}

function play(response: ServerResponse, behaviour: ArchiveBehaviour, results: unknown): void {
  const text = textOf(results)
  switch (behaviour.kind) {
    case 'status':
      sendError(response, behaviour.status, `STATUS_${behaviour.status}`, behaviour.headers)
      return
    case 'hang':
      if (behaviour.after !== undefined) begin(response, text, behaviour.after === 'half')
      return
    case 'cut':
      response.socket?.resetAndDestroy()
      return
    case 'half':
      begin(response, text, true, () => response.destroy())
      return
    case 'huge':
      sendBody(response, { padding: 'x'.repeat(HUGE_BYTES), ...objectOf(results) })
      return
    case 'redirect':
      sendError(response, 302, 'FOUND', { location: behaviour.to })
      return
    case 'body':
      sendBody(response, behaviour.text ?? text.slice(0, -1))
      return
    case 'camelCase':
      sendBody(response, withCamelCaseKeys(results))
      return
    case 'wrapped':
      sendBody(response, { success: true, data: results })
      return
  }
}

/** The headers promise all of the body. @param then called when what is sent has left. */
function begin(response: ServerResponse, text: string, half: boolean, then?: () => void): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  if (half) response.write(text.slice(0, text.length / 2), then)
  else response.flushHeaders()
}

const textOf = (results: unknown): string => (typeof results === 'string' ? results : JSON.stringify(results))

const objectOf = (value: unknown): object => (typeof value === 'object' && value !== null ? value : {})

function withCamelCaseKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withCamelCaseKeys)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      withCamelCaseKeys(inner),
    ]),
  )
}

function sendBody(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(textOf(body))
}

function sendError(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = JSON.stringify({ success: false, error: { code } })
  // 1xx, 204 and 304 have none.
  const hasBody = status >= 200 && status !== 204 && status !== 304
  response
    .writeHead(status, { ...headers, ...(hasBody && { 'content-type': 'application/json' }) })
    .end(hasBody ? body : undefined)
}
