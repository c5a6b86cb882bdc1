/** Asking badly: requests as no decent client sends them, and what the contract promises of every refusal. */
import { connect } from 'node:net'
import { expect } from 'vitest'
import { basePath, type Answer } from './client.ts'

export interface Problem {
  code: string
  detail: string
  errors?: { path: string; message: string }[]
  retry_after?: number
}

export interface Ask {
  method?: string
  /** `/conv…` is under the base path, as in the client. */
  path: string
  token?: string | undefined
  body?: string | Uint8Array<ArrayBuffer> | FormData
  /** undefined leaves out what would be sent otherwise. */
  headers?: Record<string, string | undefined>
}

const pageOrigin = 'http://localhost:5173'

/** One request of a page at an allowed origin. */
export async function ask(origin: string, request: Ask): Promise<Answer<unknown>> {
  const { method = 'GET', path, token, body } = request
  const headers = new Headers({ origin: pageOrigin })
  if (token !== undefined) headers.set('authorization', `Bearer ${token}`)
  if (body !== undefined && !(body instanceof FormData)) headers.set('content-type', 'application/json')
  for (const [name, value] of Object.entries(request.headers ?? {}))
    if (value === undefined) headers.delete(name)
    else headers.set(name, value)
  const response = await fetch(origin + fullPath(path), { method, headers, body: body ?? null })
  const text = await response.text()
  const json = response.headers.get('content-type')?.includes('json') === true && text !== ''
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text }
}

const fullPath = (path: string) => (path.startsWith('/conv') ? basePath + path : path)

/** A stack, SQL, a file, a host: none of it is a client's business. */
const leaks =
  /node_modules|\.[cm]?[jt]s\b|file:|\bat .+:\d+:\d+|\/(work|home|usr|tmp|var)\/|\b(select|insert into|update|delete) .*\b(from|values|set)\b|chat\.\w+|postgres|drizzle|127\.0\.0\.1|localhost|ECONN|FST_ERR|zod/i

/** Everything that holds for every answer to `ask` that is an error. */
export function expectProblem(
  answer: Answer<unknown>,
  expected: { status: number; code: string; path: string },
): Problem {
  const { status, code, path } = expected
  const problem = answer.body as Problem
  expect({ status: answer.status, code: problem.code, detail: problem.detail }).toMatchObject({
    status,
    code,
  })
  expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8')
  expect(answer.headers.get('x-request-id')).toMatch(/^[A-Za-z0-9._:-]{1,128}$/)
  expect(problem).toMatchObject({
    type: 'about:blank',
    title: expect.stringMatching(/./) as string,
    status,
    code,
    detail: expect.stringMatching(/./) as string,
    instance: fullPath(path).replace(/[?#].*$/, ''),
    request_id: answer.headers.get('x-request-id'),
  })
  expect(JSON.stringify({ ...problem, instance: '' })).not.toMatch(leaks)
  expect(answer.headers.get('access-control-allow-origin')).toBe(pageOrigin)
  expect(answer.headers.get('access-control-expose-headers')).toContain('X-Request-Id')
  if (status === 400)
    expect(problem.errors).toContainEqual({
      path: expect.any(String) as string,
      message: expect.stringMatching(/./) as string,
    })
  if (status === 429 || status === 503) {
    expect(problem.retry_after).toEqual(expect.any(Number))
    expect(answer.headers.get('retry-after')).toBe(String(problem.retry_after))
  }
  return problem
}

export interface RawAnswer {
  status: number
  headers: Headers
  text: string
  /** From the first byte sent until the server had closed. */
  ms: number
}

/**
 * Bytes on a bare socket, then whatever comes back until the server closes. `trickle` is sent again every second,
 * for senders that never finish.
 */
export function sendRaw(
  origin: string,
  bytes: string | Uint8Array,
  trickle?: { bytes: string; everyMs: number },
): Promise<RawAnswer> {
  const { port } = new URL(origin)
  const socket = connect({ port: Number(port), host: '127.0.0.1', noDelay: true })
  const startedAt = performance.now()
  const received: Buffer[] = []
  let again: NodeJS.Timeout | undefined
  return new Promise((resolve) => {
    socket.on('connect', () => {
      socket.write(bytes)
      if (trickle !== undefined) again = setInterval(() => socket.write(trickle.bytes), trickle.everyMs)
    })
    socket.on('data', (data: Buffer) => received.push(data))
    // A server that closes on somebody who still sends resets the connection: closed is closed.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearInterval(again)
      const whole = Buffer.concat(received).toString('utf8')
      const end = whole.indexOf('\r\n\r\n')
      const [statusLine = '', ...lines] = whole.slice(0, end).split('\r\n')
      const headers = new Headers()
      for (const line of lines)
        headers.append(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1))
      resolve({
        status: Number(statusLine.split(' ')[1]),
        headers,
        text: whole.slice(end + 4),
        ms: performance.now() - startedAt,
      })
    })
  })
}
