/** Requests wrong in everything but their body: query, path, method, headers, and bytes that are no HTTP at all. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Client } from '../support/client.ts'
import { ask, expectProblem, type Ask, type Problem } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
let id: string
let answerId: string

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  id = await ann.conversation()
  const sent = await ann.post<{ assistant_message: { id: string } }>(`/conversations/${id}/messages`, {
    content: 'x',
  })
  answerId = sent.body.assistant_message.id
})
afterAll(() => service.close())

/** In a path, `:id` and `:answer` stand for a conversation of the caller and its answer. */
const here = (path: string) => path.replaceAll(':id', id).replaceAll(':answer', answerId)
const asked = (request: Ask) =>
  ask(service.origin, { token: ann.token, ...request, path: here(request.path) })

async function refused(status: number, code: string, request: Ask): Promise<Problem> {
  return expectProblem(await asked(request), { status, code, path: here(request.path) })
}

describe('query parameters of a wrong type are 400', () => {
  const integers = [
    '0',
    '-1',
    'abc',
    '1e3',
    '',
    '+5',
    ' 5',
    '5%20',
    '0x10',
    '1.5',
    '1000',
    '99999999999999999999',
    '%00',
    'NaN',
  ]
  const uuids = ['', 'x', '%00', "' or 1=1 --", 'null', '%ED%A0%80', '00000000-0000-0000-0000-00000000000g']
  const cursor = (text: string) => Buffer.from(text).toString('base64url')
  const uuid = '0198c0de-0000-7000-8000-000000000000'
  const cursors = [
    '',
    'x',
    '%00',
    '%F0%9F%92%A5',
    'x'.repeat(201),
    cursor('a\nb'),
    cursor(`2026-01-01T00:00:00.000Z`),
    cursor(`2026-01-01T00:00:00.000Z\nx`),
    cursor(`2026-02-30T00:00:00.000Z\n${uuid}`),
    cursor(`0000-01-01T00:00:00.000Z\n${uuid}`),
    cursor(`infinity\n${uuid}`),
    cursor(`2026-01-01T00:00:00.000Z\n${uuid}\nx`),
    cursor(`2026-01-01T00:00:00.000Z\0\n${uuid}`),
  ]
  const list: [path: string, name: string, values: string[]][] = [
    ['/conversations', 'limit', [...integers, '101']],
    ['/conversations', 'offset', [...integers.filter((value) => !['0', '1000'].includes(value)), '100001']],
    ['/conversations', 'cursor', cursors],
    ['/conversations', 'status', ['', 'deleted', 'Active', '%00']],
    ['/conversations', 'context_type', ['', 'x', '__proto__', '%00']],
    ['/conversations/:id', 'leaf_id', uuids],
    ['/conversations/:id/messages', 'limit', [...integers, '201']],
    ['/conversations/:id/messages', 'before_id', uuids],
    ['/conversations/:id/messages', 'after_id', uuids],
    ['/conversations/:id/messages', 'leaf_id', uuids],
    ['/health', 'full', ['', '1', 'yes', 'TRUE', 'true&full=true']],
  ]
  const cases = list.flatMap(([path, name, values]) =>
    values.map((value) => ({ name, path: `${path}?${name}=${value}` })),
  )
  it.each(cases)('$path', async ({ name, path }) => {
    const problem = await refused(400, 'invalid_request', { path })
    expect(problem.errors?.map((error) => error.path)).toEqual([name])
  })

  it.each([
    '/conversations?limit=1&limit=2',
    '/conversations?cursor=a&cursor=b',
    '/conversations/:id?leaf_id=:answer&leaf_id=:answer',
    '/conversations/:id/messages?before_id=:answer&after_id=:answer',
  ])('contradicting each other: %s', async (path) => {
    await refused(400, 'invalid_request', { path })
  })

  it('unknown ones are ignored', async () => {
    expect((await asked({ path: '/conversations?nope=1&__proto__=x&constructor=y&=&&%' })).status).toBe(200)
  })
})

describe('an id that is no UUID names nothing', () => {
  const uuid = '0198c0de-0000-7000-8000-000000000000'
  const ids = [
    'x',
    '1',
    'null',
    'undefined',
    '%00',
    `${uuid}%00`,
    `%00${uuid}`,
    '%20',
    `%7B${uuid}%7D`,
    uuid.replaceAll('-', ''),
    `${uuid}0`,
    '..%2f..%2fhealth',
    "'%20or%201=1--",
    '%F0%9F%92%A5',
    '*',
    ':id%3Anope',
    'a'.repeat(200),
  ]
  const places: [method: string, before: string, after: string, code: string, body?: string][] = [
    ['GET', '/conversations/', '', 'conversation_not_found'],
    ['PUT', '/conversations/', '', 'conversation_not_found', '{}'],
    ['PATCH', '/conversations/', '', 'conversation_not_found', '{}'],
    ['DELETE', '/conversations/', '', 'conversation_not_found'],
    ['GET', '/conversations/', '/tree', 'conversation_not_found'],
    ['POST', '/conversations/', '/fork', 'conversation_not_found', `{"message_id":"${uuid}"}`],
    ['GET', '/conversations/', '/messages', 'conversation_not_found'],
    ['POST', '/conversations/', '/messages', 'conversation_not_found', '{"content":"x"}'],
    ['GET', '/conversations/', `/messages/${uuid}`, 'conversation_not_found'],
    ['POST', '/conversations/', `/messages/${uuid}/regenerate`, 'conversation_not_found'],
    ['GET', '/conversations/:id/messages/', '', 'message_not_found'],
    ['POST', '/conversations/:id/messages/', '/regenerate', 'message_not_found'],
  ]
  it.each(places)('%s %s…%s', async (method, before, after, code, body) => {
    for (const wrong of ids) {
      await refused(404, code, {
        method,
        path: `${before}${wrong}${after}`,
        ...(body !== undefined && { body }),
      })
    }
  })
})

it('an id in capitals names what it names in small letters', async () => {
  const capitals = answerId.toUpperCase()
  for (const path of [
    `/conversations/${id.toUpperCase()}`,
    `/conversations/:id/messages/${capitals}`,
    `/conversations/:id?leaf_id=${capitals}`,
    `/conversations/:id/messages?before_id=${capitals}`,
    `/conversations/:id/messages?after_id=${capitals}&leaf_id=:answer`,
  ])
    expect(await asked({ path })).toMatchObject({ status: 200 })
})

describe('a URL', () => {
  it.each(['%', '%z', '%zz', '%0', '%ff', '%c0%80', '%ed%a0%80', 'x%'])(
    'with %s in its path is 400',
    async (part) => {
      const problem = await refused(400, 'invalid_request', {
        path: `/conversations/${part}?secret=in-the-query`,
      })
      expect(JSON.stringify(problem)).not.toContain('in-the-query')
    },
  )

  it('with an id of 10,000 characters is 414', async () => {
    await refused(414, 'uri_too_long', { path: `/conversations/${'a'.repeat(10_000)}` })
  })

  it('with a query of 10,000 characters is read as any other', async () => {
    expect((await asked({ path: `/conversations?x=${'a'.repeat(10_000)}` })).status).toBe(200)
  })

  it.each([
    '/api',
    '/api/chat',
    '/api/chat/',
    '/api/chat/nope',
    '/conversationss',
    '/API/CHAT/conversations',
    '/conversations/:id/nope',
    '/conversations/:id/tree/x',
    '/conversations/:id/messages/:answer/nope',
    '/api/chat//conversations',
    '/.env',
    '/docs/nope',
    '/health/nope',
    '/__proto__',
  ])('%s is no route, with any method', async (path) => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
      await refused(404, 'route_not_found', {
        method,
        path: `${path}?secret=x`,
        ...(method === 'POST' && { body: '{' }),
      })
  })
})

describe('methods', () => {
  const routes: [path: string, allow: string[]][] = [
    ['/health', ['GET', 'HEAD']],
    ['/health/live', ['GET', 'HEAD']],
    ['/api/chat/health/ready', ['GET', 'HEAD']],
    ['/docs', ['GET', 'HEAD']],
    ['/docs/openapi.json', ['GET', 'HEAD']],
    ['/conversations', ['GET', 'HEAD', 'POST']],
    ['/conversations/:id', ['DELETE', 'GET', 'HEAD', 'PATCH', 'PUT']],
    ['/conversations/:id/tree', ['GET', 'HEAD']],
    ['/conversations/:id/fork', ['POST']],
    ['/conversations/:id/messages', ['GET', 'HEAD', 'POST']],
    ['/conversations/:id/messages/:answer', ['GET', 'HEAD']],
    ['/conversations/:id/messages/:answer/regenerate', ['POST']],
  ]
  it.each(routes)('%s: every other method is 405 and Allow lists %j', async (path, allow) => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((name) => !allow.includes(name))) {
      const answer = await asked({ method, path, ...(method !== 'GET' && { body: '{' }) })
      expectProblem(answer, { status: 405, code: 'method_not_allowed', path: here(path) })
      expect(answer.headers.get('allow')?.split(', ').sort()).toEqual(allow)
    }
  })

  it.each(routes.filter(([, allow]) => allow.includes('HEAD')))(
    'HEAD %s says what GET says, without a body',
    async (path) => {
      const [head, get] = await Promise.all([asked({ method: 'HEAD', path }), asked({ path })])
      expect([head.status, head.body]).toEqual([200, ''])
      expect(head.headers.get('content-type')).toBe(get.headers.get('content-type'))
    },
  )

  it.each(routes.filter(([, allow]) => !allow.includes('HEAD')))('HEAD %s is 405', async (path, allow) => {
    const answer = await asked({ method: 'HEAD', path })
    expect([answer.status, answer.body, answer.headers.get('allow')]).toEqual([405, '', allow.join(', ')])
    expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8')
  })
})

describe('headers', () => {
  const path = '/conversations/x'
  const idOf = async (given: string) =>
    (await asked({ path, headers: { 'x-request-id': given } })).headers.get('x-request-id')

  it.each(['a', '7f3c.retry:2_b-c', 'a'.repeat(128)])("the caller's request id %s is kept", async (given) => {
    expect(await idOf(given)).toBe(given)
  })

  it.each(['', 'a b', 'a'.repeat(129), 'caf\u00e9', '<script>', 'a,b', '{"level":60}', '%0a'])(
    'a request id such as %j is replaced',
    async (given) => {
      expect(await idOf(given)).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    },
  )

  it('an origin that is not allowed gets the error without the header that would let its page read it', async () => {
    const answer = await asked({ path, headers: { origin: 'https://evil.example' } })
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([404, null])
  })

  it.each(['accept', 'user-agent', 'origin', 'x-forwarded-for', 'last-event-id'])(
    'a %s of 8,000 characters changes nothing',
    async (name) => {
      expect((await asked({ path: '/health', headers: { [name]: 'a,;= '.repeat(1_600) } })).status).toBe(200)
    },
  )
})
