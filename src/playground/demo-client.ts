/** The demo's client: JSON, and an answer's events as they arrive, over fetch. */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { Agent, fetch, type Response } from 'undici'
import type { LogEvent } from '../generation/events.ts'
import type { TicketOptions } from './client/ticket.ts'

export interface DemoClient {
  /** @throws Error naming the status and the problem's title. */
  call<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T>
  /** Asks, or without a body watches what was asked for. Ends with the response; the last event is `complete` or `error`. */
  stream(path: string, body?: object): AsyncIterable<LogEvent>
  /** Over the same connections, and ended by the same signal. */
  fetch: TicketOptions['fetch']
  /** Closes its connections, the spare one included that undici opens after a request was aborted. */
  close(): Promise<void>
}

/** @param options.api the service's origin and base path; `signal` ends every request. */
export function createDemoClient(options: { api: string; token: string; signal: AbortSignal }): DemoClient {
  const { api, token, signal } = options
  const agent = new Agent()

  async function send(method: string, path: string, body?: object): Promise<Response> {
    const response = await fetch(`${api}${path}`, {
      method,
      signal,
      dispatcher: agent,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    if (response.ok) return response
    const problem = (await response.json()) as { title: string; detail?: string }
    throw new Error(`${method} ${path}: ${response.status}, ${problem.detail ?? problem.title}`)
  }

  return {
    async call<T>(method: 'GET' | 'POST', path: string, body?: object) {
      const response = await send(method, path, body)
      return (await response.json()) as T
    },
    async *stream(path, body) {
      const response = await (body === undefined
        ? send('GET', path)
        : send('POST', path, { ...body, stream: true }))
      if (response.body === null) return
      const events = response.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream())
      for await (const { data } of events) yield JSON.parse(data) as LogEvent
    },
    fetch: (url, init) => fetch(url, { ...init, signal, dispatcher: agent }),
    close: () => agent.destroy(),
  }
}
