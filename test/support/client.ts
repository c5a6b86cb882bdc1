/** A client as a user of the API would write one: fetch, JSON, and a reader of event streams. */
import { createParser } from 'eventsource-parser'

export interface Answer<T = Record<string, unknown>> {
  status: number
  headers: Headers
  body: T
}

export interface Frame {
  id: string
  seq: number
  data: Record<string, unknown> & { type: string }
}

export interface OpenStream {
  status: number
  headers: Headers
  /** Frames so far. */
  frames: Frame[]
  /** Resolves with the first frame that matches, past or to come. Rejects when the response ends without one. */
  until(matches: (frame: Frame) => boolean): Promise<Frame>
  /** Resolves when the response ended. */
  ended: Promise<Frame[]>
  /** Everything received, as text. */
  raw(): string
  /** Drops the connection, as a closed browser tab does. */
  drop(): void
}

export interface Client {
  token: string | undefined
  request<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer<T>>
  get<T = Record<string, unknown>>(path: string): Promise<Answer<T>>
  post<T = Record<string, unknown>>(path: string, body?: unknown): Promise<Answer<T>>
  stream(path: string, body: unknown, headers?: Record<string, string>): Promise<OpenStream>
  /** A new conversation's id. */
  conversation(body?: Record<string, unknown>): Promise<string>
}

export const basePath = '/api/chat'

export function createClient(origin: string, token?: string): Client {
  const authorization: Record<string, string> =
    token === undefined ? {} : { authorization: `Bearer ${token}` }
  const urlOf = (path: string) =>
    path.startsWith('/conv') ? `${origin}${basePath}${path}` : `${origin}${path}`

  const client: Client = {
    token,
    async request<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
      const response = await fetch(urlOf(path), {
        method,
        headers: {
          ...authorization,
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
      const text = await response.text()
      const json = response.headers.get('content-type')?.includes('json') === true && text !== ''
      return {
        status: response.status,
        headers: response.headers,
        body: (json ? JSON.parse(text) : text) as T,
      }
    },
    get: (path) => client.request('GET', path),
    post: (path, body) => client.request('POST', path, body),
    async stream(path, body, headers = {}) {
      const controller = new AbortController()
      const response = await fetch(urlOf(path), {
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...authorization,
          accept: 'text/event-stream',
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: controller.signal,
      })
      return readStream(response, controller)
    },
    async conversation(body = {}) {
      const made = await client.post<{ id: string }>('/conversations', body)
      if (made.status !== 201) throw new Error(`no conversation: ${JSON.stringify(made.body)}`)
      return made.body.id
    },
  }
  return client
}

function readStream(response: Response, controller: AbortController): OpenStream {
  const frames: Frame[] = []
  const waiting: {
    matches: (frame: Frame) => boolean
    resolve: (frame: Frame) => void
    reject: (error: Error) => void
  }[] = []
  let raw = ''
  const parser = createParser({
    onEvent({ id = '', data }) {
      const frame: Frame = { id, seq: Number(id.split(':')[1]), data: JSON.parse(data) as Frame['data'] }
      frames.push(frame)
      for (const waiter of waiting.filter(({ matches }) => matches(frame))) {
        waiting.splice(waiting.indexOf(waiter), 1)
        waiter.resolve(frame)
      }
    },
  })
  const ended = (async () => {
    const decoder = new TextDecoder()
    try {
      for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        const text = decoder.decode(bytes, { stream: true })
        raw += text
        parser.feed(text)
      }
    } catch (error) {
      if (!controller.signal.aborted) throw error
    } finally {
      for (const { reject } of waiting.splice(0))
        reject(new Error(`the stream ended without it: ${raw.slice(-300)}`))
    }
    return frames
  })()
  ended.catch(() => undefined)
  return {
    status: response.status,
    headers: response.headers,
    frames,
    ended,
    raw: () => raw,
    drop: () => controller.abort(),
    until(matches) {
      const seen = frames.find(matches)
      if (seen !== undefined) return Promise.resolve(seen)
      return new Promise((resolve, reject) => waiting.push({ matches, resolve, reject }))
    },
  }
}

/** The text that a viewer has after these frames. */
export function textOf(frames: readonly Frame[]): string {
  return frames
    .filter(({ data }) => data.type === 'assistant_chunk')
    .map(({ data }) => String(data['content']))
    .join('')
}
