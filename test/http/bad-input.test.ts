/** Bodies that nobody should send: refused as the contract says, and nothing of them is stored. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Client } from '../support/client.ts'
import { ask, expectProblem, type Ask } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
let id: string
let answerId: string

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  id = await ann.conversation({ title: 'kept' })
  const sent = await ann.post<{ assistant_message: { id: string } }>(`/conversations/${id}/messages`, {
    content: 'kept',
  })
  answerId = sent.body.assistant_message.id
  service.upstream.forget()
})
afterAll(() => service.close())

const here = (text: string) => text.replaceAll(':id', id).replaceAll(':answer', answerId)

/** `:id` and `:answer` stand for a conversation of the caller and its answer. */
const asked = (request: Ask) =>
  ask(service.origin, {
    token: ann.token,
    ...request,
    path: here(request.path),
    ...(typeof request.body === 'string' && { body: here(request.body) }),
  })

async function refused(status: number, code: string, request: Ask) {
  return expectProblem(await asked(request), { status, code, path: here(request.path) })
}

const create = ['POST', '/conversations'] as const
const put = ['PUT', '/conversations/:id'] as const
const patch = ['PATCH', '/conversations/:id'] as const
const fork = ['POST', '/conversations/:id/fork'] as const
const send = ['POST', '/conversations/:id/messages'] as const
const regenerate = ['POST', '/conversations/:id/messages/:answer/regenerate'] as const
type Route = readonly [method: string, path: string]

const notTexts = ['1', '0', 'true', '[]', '["x"]', '{}']
const badTexts = ['"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00 x"', '"x\\ud83d"', '"\\udc00\\ud800"']
const emptyTexts = ['""']
const notNumbers = ['"0.7"', '"1"', 'true', 'null', '[]', '[1]', '{}', '-1', '1e400']
const notObjects = ['"x"', '1', 'null', '[]', 'true', '[{}]']
const badObjects = [
  '{"k":"a\\u0000b"}',
  '{"a\\u0000b":1}',
  '{"k":["\\ud800"]}',
  '{"\\udc00":{}}',
  '{"n":1e400}',
  '{"__proto__":{"admin":true}}',
  '{"k":{"__proto__":1}}',
  `{"k":${'['.repeat(100)}${']'.repeat(100)}}`,
  `{"k":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
  `{"k":${'{"a":'.repeat(40_000)}1${'}'.repeat(40_000)}}`,
]

/** Route, field, what else the body needs, and values that the field must refuse. */
const fields: [Route, field: string, rest: string, values: string[]][] = [
  [
    create,
    'title',
    '',
    ['null', ...notTexts, ...badTexts, ...emptyTexts, '"  \\n "', `"${'x'.repeat(256)}"`],
  ],
  [create, 'context_type', '', ['null', ...notTexts, ...badTexts, ...emptyTexts, '"General"', '"toString"']],
  [create, 'model', '', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [create, 'context_data', '', [...notObjects, ...badObjects]],
  [create, 'metadata', '', [...notObjects, ...badObjects]],
  [put, 'title', '', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [put, 'status', '', ['null', ...notTexts, ...badTexts, ...emptyTexts, '"deleted"']],
  [put, 'metadata', '', [...notObjects, ...badObjects]],
  [put, 'current_message_id', '', ['null', ...notTexts, ...badTexts, ...emptyTexts, '"x"']],
  [patch, 'title', '', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [patch, 'metadata', '', [...notObjects, ...badObjects]],
  [fork, 'message_id', '', ['null', ...notTexts, ...badTexts, ...emptyTexts, '"x"']],
  [fork, 'title', '"message_id":":answer"', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [
    send,
    'content',
    '',
    ['null', ...notTexts, ...badTexts, ...emptyTexts, '" \\n\\t "', `"${'x'.repeat(4001)}"`],
  ],
  [send, 'content_type', '"content":"x"', ['null', ...notTexts, ...badTexts, ...emptyTexts, '"video"']],
  [send, 'parent_message_id', '"content":"x"', [...notTexts, ...badTexts, ...emptyTexts, '"x"', '"null"']],
  [send, 'if_generating', '"content":"x"', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [send, 'model', '"content":"x"', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [send, 'temperature', '"content":"x"', [...notNumbers, '2.1']],
  [send, 'max_tokens', '"content":"x"', [...notNumbers, '0', '1.5']],
  [send, 'stream', '"content":"x"', ['"true"', '1', '0', 'null', '[]', '{}']],
  [regenerate, 'model', '', ['null', ...notTexts, ...badTexts, ...emptyTexts]],
  [regenerate, 'temperature', '', [...notNumbers, '2.1']],
  [regenerate, 'max_tokens', '', [...notNumbers, '0', '1.5']],
  [regenerate, 'stream', '', ['"true"', '1', '0', 'null', '[]', '{}']],
]

describe('a field of a wrong type or with text that cannot be stored is 400, never coerced', () => {
  const cases = fields.flatMap(([[method, path], field, rest, values]) =>
    values.map((value) => ({
      name: `${method} ${path} ${field} = ${value.length > 60 ? `${value.slice(0, 20)}…` : value}`,
      request: { method, path, body: `{${rest}${rest === '' ? '' : ','}"${field}":${value}}` },
      field,
      // What the parser itself refuses has no field.
      parsed: !/__proto__/.test(value) && value.length < 50_000,
    })),
  )
  it.each(cases)('$name', async ({ request, field, parsed }) => {
    const problem = await refused(400, 'invalid_request', request)
    if (parsed) expect(new Set(problem.errors?.map(({ path }) => path))).toEqual(new Set([field]))
  })
})

describe('a body that is no object of this route is 400', () => {
  const everywhere = ['null', '[]', '[{}]', '"text"', '1', 'true']
  const malformed = [
    '{',
    '}',
    '{"a":}',
    "{'content':'x'}",
    '{"content":"x"}x',
    'content=x',
    'NaN',
    '\\u0000',
    '\0',
    ' ',
  ]
  const unknown = [
    '{"content":"x","title":"x","message_id":":answer","nope":1}',
    '{"constructor":1}',
    '{"toString":1}',
    '{"":1}',
    '{"__proto__":{}}',
  ]
  const cases = [create, put, patch, fork, send, regenerate].flatMap(([method, path]) =>
    [...everywhere, ...malformed, ...unknown].map((body) => ({ method, path, body })),
  )
  it.each(cases)('$method $path $body', async (request) => {
    await refused(400, 'invalid_request', request)
  })

  it.each([put, patch, fork, send].map(([method, path]) => ({ method, path })))(
    '$method $path without a body',
    async (request) => {
      await refused(400, 'invalid_request', request)
    },
  )

  it.each([
    ['a lone continuation byte', [0x80]],
    ['an overlong NUL', [0xc0, 0x80]],
    ['a surrogate in UTF-8', [0xed, 0xa0, 0x80]],
    ['a byte that UTF-8 never has', [0xff]],
    ['a sequence cut short', [0xe2, 0x82]],
    ['beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ])('invalid UTF-8: %s', async (_name, bytes) => {
    const body = Uint8Array.from([...Buffer.from('{"content":"'), ...bytes, ...Buffer.from('"}')])
    await refused(400, 'invalid_request', { method: 'POST', path: '/conversations/:id/messages', body })
  })

  it('UTF-16, whatever the content type says', async () => {
    await refused(400, 'invalid_request', {
      method: 'POST',
      path: '/conversations',
      body: Uint8Array.from(Buffer.from('{"title":"x"}', 'utf16le')),
      headers: { 'content-type': 'application/json; charset=utf-16' },
    })
  })
})

describe('size and depth', () => {
  const pad = (bytes: number) => `{"metadata":{"k":"${'x'.repeat(bytes - 21)}"}}`

  it('takes a body of exactly 256 KiB', async () => {
    const answer = await asked({ method: 'POST', path: '/conversations', body: pad(262_144) })
    expect(answer.status).toBe(201)
  })

  it.each([
    ['one byte over', pad(262_145)],
    ['100 times over', pad(26_214_400)],
    ['200,000 levels, closed', '['.repeat(200_000) + ']'.repeat(200_000)],
  ])('%s is 413', async (_name, body) => {
    await refused(413, 'body_too_large', { method: 'POST', path: '/conversations', body })
  })

  it('200,000 levels, never closed, are 400', async () => {
    await refused(400, 'invalid_request', {
      method: 'POST',
      path: '/conversations',
      body: '['.repeat(200_000),
    })
  })

  it('what is not read without a token is 401, whatever its size', async () => {
    const path = '/conversations'
    const answer = await ask(service.origin, { method: 'POST', path, body: pad(262_145) })
    expectProblem(answer, { status: 401, code: 'unauthorized', path })
  })
})

describe('content types', () => {
  const form = new FormData()
  form.set('content', 'x')
  const types = [
    'text/plain',
    'application/xml',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'application/json, text/plain',
    'application/vnd.api+json',
    'garbage',
    ';',
    ' ',
  ]
  it.each(types)('a body as %j is 415', async (type) => {
    const headers = { 'content-type': type }
    await refused(415, 'unsupported_media_type', {
      method: 'POST',
      path: '/conversations',
      body: '{}',
      headers,
    })
  })

  it('a body without a content type is 415', async () => {
    await refused(415, 'unsupported_media_type', {
      method: 'POST',
      path: '/conversations',
      body: Uint8Array.from(Buffer.from('{}')),
      headers: { 'content-type': undefined },
    })
  })

  it('multipart is 415', async () => {
    await refused(415, 'unsupported_media_type', { method: 'POST', path: '/conversations', body: form })
  })

  it.each(['application/json', 'application/json; charset=utf-8', 'Application/JSON', 'application/json;'])(
    'DELETE as %s with no body works',
    async (type) => {
      const path = `/conversations/${await ann.conversation()}`
      const answer = await asked({ method: 'DELETE', path, headers: { 'content-type': type } })
      expect([answer.status, answer.body]).toEqual([204, ''])
    },
  )
})

it('keeps keys of the client that JavaScript has a meaning for as they are', async () => {
  const metadata = { constructor: 'a', toString: 1, prototype: { hasOwnProperty: null }, then: 'b' }
  const made = await ann.post<{ metadata: unknown }>('/conversations', { metadata })
  expect(made.body.metadata).toEqual(metadata)
})

it('nothing of what was refused was stored, or sent to the model', async () => {
  const { body } = await ann.get<{ conversation: unknown; messages: { content: string }[] }>(
    `/conversations/${id}`,
  )
  expect(body.conversation).toMatchObject({ title: 'kept', message_count: 2, metadata: {}, status: 'active' })
  expect(body.messages.map(({ content }) => content)[0]).toBe('kept')
  expect(service.upstream.requests).toEqual([])
})
