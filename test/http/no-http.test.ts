/** Bytes that are no HTTP, or that never end: answered with a problem where anybody can read it, then closed. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { sendRaw, type RawAnswer } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let token: string

beforeAll(async () => {
  service = await startService()
  token = (await service.as('ann')).token ?? ''
})
afterAll(() => service.close())

function expectRawProblem(answer: RawAnswer, status: number, code: string): void {
  expect([answer.status, answer.headers.get('content-type')]).toEqual([
    status,
    'application/problem+json; charset=utf-8',
  ])
  expect(answer.headers.get('connection')).toBe('close')
  const problem = JSON.parse(answer.text) as unknown
  expect(problem).toMatchObject({
    type: 'about:blank',
    status,
    code,
    request_id: answer.headers.get('x-request-id'),
  })
}

const request = (...headers: string[]) =>
  `GET /health HTTP/1.1\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`

it.each<[what: string, bytes: string | Uint8Array]>([
  ['words', 'hello there\r\n\r\n'],
  ['an empty method', ' / HTTP/1.1\r\n\r\n'],
  ['an unknown method', 'BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n'],
  ['a version of the future', 'GET / HTTP/9.9\r\nhost: x\r\n\r\n'],
  ['a TLS hello', Uint8Array.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03])],
  ['an HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['an SSH banner', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ['NUL bytes', new Uint8Array(64)],
  ['a NUL in a header', request('host: x', 'x-a: a\0b')],
  ['a header without a colon', request('host: x', 'nonsense')],
  ['a folded header', request('host: x', 'x-a: a', ' b')],
  ['a space before the colon', request('host: x', 'x-a : b')],
  ['a negative length', request('host: x', 'content-length: -1')],
  ['two lengths', request('host: x', 'content-length: 1', 'content-length: 2')],
  [
    'a length and chunks, as in request smuggling',
    request('host: x', 'content-length: 1', 'transfer-encoding: chunked'),
  ],
  ['an unknown transfer encoding', request('host: x', 'transfer-encoding: nonsense, x')],
  ['no host', request('connection: close')],
  [
    'a chunk of no size',
    `POST /api/chat/conversations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`,
  ],
])('%s: 400, and the connection is closed', async (_what, bytes) => {
  expectRawProblem(await sendRaw(service.origin, bytes), 400, 'invalid_request')
})

it.each([
  ['a header of 64 KiB', request('host: x', `x-a: ${'a'.repeat(65_536)}`)],
  ['3,000 headers', request('host: x', ...Array.from({ length: 3_000 }, (_, index) => `x-${index}: a`))],
  ['a URL of 64 KiB', `GET /${'a'.repeat(65_536)} HTTP/1.1\r\nhost: x\r\n\r\n`],
])('%s: 431, and the connection is closed', async (_what, bytes) => {
  expectRawProblem(await sendRaw(service.origin, bytes), 431, 'headers_too_large')
})

it('a body in chunks is cut off where it becomes too large', async () => {
  const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`
  const answer = await sendRaw(
    service.origin,
    `POST /api/chat/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${chunk.repeat(20)}`,
  )
  expectRawProblem(answer, 413, 'body_too_large')
})

it(
  'who never finishes a header or a body, or says nothing at all, is cut off within 30 s',
  { timeout: 40_000 },
  async () => {
    const post = `POST /api/chat/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\n`
    const answers = await Promise.all([
      sendRaw(service.origin, 'GET /health HTTP/1.1\r\nhost: x\r\n', { bytes: 'x-a: b\r\n', everyMs: 1_000 }),
      sendRaw(service.origin, `${post}content-length: 100000\r\n\r\n{`, { bytes: ' ', everyMs: 1_000 }),
      sendRaw(service.origin, `${post}transfer-encoding: chunked\r\n\r\n1\r\n{\r\n`, {
        bytes: '1\r\n \r\n',
        everyMs: 1_000,
      }),
      sendRaw(service.origin, ''),
    ])
    for (const answer of answers) {
      expect(answer.ms).toBeLessThan(30_000)
      expectRawProblem(answer, 408, 'request_timeout')
    }
  },
)

it('an expectation that nobody knows is no reason to refuse', async () => {
  const answer = await sendRaw(service.origin, request('host: x', 'expect: wonders', 'connection: close'))
  expect([answer.status, answer.headers.get('content-type')]).toEqual([
    200,
    'application/json; charset=utf-8',
  ])
})

it('answers everybody else as before', async () => {
  expect((await service.anonymous.get('/health')).status).toBe(200)
})
