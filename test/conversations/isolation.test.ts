/** One user's wall to the next, and one conversation's to the next: nothing is read, changed, or told apart. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { gated, type Gate } from '../../src/embedded/demo-model.ts'
import type { Answer, Client, OpenStream } from '../support/client.ts'
import { ask, expectProblem, type Ask } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'

interface Place {
  conversation: string
  question: string
  answer: string
}

let service: Service
let ann: Client
let bob: Client
/** Ann's, with an answer being generated in it. */
let hers: Place
let gate: Gate
let watched: OpenStream
let his: Place
let hisOther: Place
let hisDeleted: Place

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  bob = await service.as('bob')
  hers = await talk(ann)
  his = await talk(bob)
  hisOther = await talk(bob)
  hisDeleted = await talk(bob)
  await bob.request('DELETE', `/conversations/${hisDeleted.conversation}`)
  gate = gated({ tokens: ['whole', ' answer'] })
  service.upstream.script(gate)
  watched = await ann.stream(`/conversations/${hers.conversation}/messages`, { content: 'running' })
  await service.upstream.nextRequest(({ body }) => JSON.stringify(body).includes('running'))
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

async function talk(client: Client): Promise<Place> {
  const conversation = await client.conversation({ title: 'mine', metadata: { a: 1 } })
  const { body } = await client.post<{ user_message: { id: string }; assistant_message: { id: string } }>(
    `/conversations/${conversation}/messages`,
    { content: 'hello' },
  )
  return { conversation, question: body.user_message.id, answer: body.assistant_message.id }
}

const missing = (): Place => ({ conversation: randomUUID(), question: randomUUID(), answer: randomUUID() })

/** What a running answer's own process writes to its row, at any time. */
const owned = "- 'heartbeat_at' - 'upstream_id' - 'prompt_tokens_estimate'"

/** Every row of every table, as text. */
async function everything(): Promise<string[]> {
  const tables = ['conversations', 'messages', 'generations', 'usage_tracking']
  const rows = await Promise.all(
    tables.map((name) =>
      service.sql.unsafe<{ row: string }[]>(
        `select (to_jsonb(t) ${owned})::text as row from chat.${name} t order by id`,
      ),
    ),
  )
  return rows.flat().map(({ row }) => row)
}

/** What tells two answers apart: all of it but the ids of the request itself. */
function likeness({ status, headers, body }: Answer<unknown>): unknown {
  const { instance, request_id, ...rest } = (typeof body === 'object' ? body : {}) as Record<string, unknown>
  const kept = [...headers].filter(([name]) => !['date', 'x-request-id'].includes(name))
  return { status, headers: kept, body: rest, instance: typeof instance, id: typeof request_id }
}

/** Asks for `place` and for what does not exist: the same refusal both times, and no row is other than before. */
async function expectMissing(
  token: string | undefined,
  place: Place,
  refusal: { status: number; code: string },
  request: (place: Place) => Ask,
): Promise<void> {
  const before = await everything()
  const real = request(place)
  const answer = await ask(service.origin, { token, ...real })
  const nothing = await ask(service.origin, { token, ...request(missing()) })
  if (real.method !== 'HEAD') expectProblem(answer, { ...refusal, path: real.path })
  expect(answer.status).toBe(refusal.status)
  expect(likeness(answer)).toEqual(likeness(nothing))
  expect(await everything()).toEqual(before)
  expect(service.upstream.requests).toEqual([])
}

const json = (method: string, path: string, body: object, headers = {}): Ask => ({
  method,
  path,
  body: JSON.stringify(body),
  headers,
})
const sse = { accept: 'text/event-stream' }

/** Every route that names a conversation. */
const byConversation: Record<string, (place: Place) => Ask> = {
  read: (at) => ({ path: `/conversations/${at.conversation}` }),
  'ask whether it is there': (at) => ({ method: 'HEAD', path: `/conversations/${at.conversation}` }),
  'read up to a leaf': (at) => ({ path: `/conversations/${at.conversation}?leaf_id=${at.answer}` }),
  'read the tree': (at) => ({ path: `/conversations/${at.conversation}/tree` }),
  rename: (at) => json('PUT', `/conversations/${at.conversation}`, { title: 'taken' }),
  archive: (at) => json('PATCH', `/conversations/${at.conversation}`, { status: 'archived' }),
  'bring back': (at) => json('PATCH', `/conversations/${at.conversation}`, { status: 'active' }),
  'change nothing': (at) => json('PATCH', `/conversations/${at.conversation}`, {}),
  'switch the branch': (at) =>
    json('PUT', `/conversations/${at.conversation}`, { current_message_id: at.question }),
  delete: (at) => ({ method: 'DELETE', path: `/conversations/${at.conversation}` }),
  fork: (at) => json('POST', `/conversations/${at.conversation}/fork`, { message_id: at.answer }),
  'read messages': (at) => ({ path: `/conversations/${at.conversation}/messages` }),
  'read messages before one': (at) => ({
    path: `/conversations/${at.conversation}/messages?before_id=${at.answer}`,
  }),
  'read messages after one': (at) => ({
    path: `/conversations/${at.conversation}/messages?after_id=${at.question}`,
  }),
  'read one message': (at) => ({ path: `/conversations/${at.conversation}/messages/${at.answer}` }),
  send: (at) => json('POST', `/conversations/${at.conversation}/messages`, { content: 'x' }),
  'send for a stream': (at) =>
    json('POST', `/conversations/${at.conversation}/messages`, { content: 'x' }, sse),
  'send from a message': (at) =>
    json('POST', `/conversations/${at.conversation}/messages`, {
      content: 'x',
      parent_message_id: at.answer,
    }),
  'send a new root': (at) =>
    json('POST', `/conversations/${at.conversation}/messages`, { content: 'x', parent_message_id: null }),
  interrupt: (at) =>
    json('POST', `/conversations/${at.conversation}/messages`, { content: 'x', if_generating: 'interrupt' }),
  regenerate: (at) => ({
    method: 'POST',
    path: `/conversations/${at.conversation}/messages/${at.answer}/regenerate`,
  }),
  'regenerate for a stream': (at) => ({
    method: 'POST',
    path: `/conversations/${at.conversation}/messages/${at.answer}/regenerate`,
    headers: sse,
  }),
}
const conversationMissing = { status: 404, code: 'conversation_not_found' }

describe("somebody else's conversation cannot be told from a missing one", () => {
  it.each(Object.entries(byConversation))('%s', async (_what, request) => {
    await expectMissing(bob.token, hers, conversationMissing, request)
  })
})

describe('a deleted conversation of my own cannot be told from a missing one', () => {
  it.each(Object.entries(byConversation))('%s', async (_what, request) => {
    await expectMissing(bob.token, hisDeleted, conversationMissing, request)
  })
})

/** Every place where a request to a conversation of one's own names a message. */
const byMessage: Record<
  string,
  [code: 'message_not_found' | 'invalid_parent', (at: Place, own: Place) => Ask]
> = {
  read: [
    'message_not_found',
    (at, own) => ({ path: `/conversations/${own.conversation}/messages/${at.answer}` }),
  ],
  regenerate: [
    'message_not_found',
    (at, own) => ({
      method: 'POST',
      path: `/conversations/${own.conversation}/messages/${at.answer}/regenerate`,
    }),
  ],
  'leaf_id of a conversation': [
    'message_not_found',
    (at, own) => ({ path: `/conversations/${own.conversation}?leaf_id=${at.answer}` }),
  ],
  'leaf_id of a page': [
    'message_not_found',
    (at, own) => ({ path: `/conversations/${own.conversation}/messages?leaf_id=${at.answer}` }),
  ],
  before_id: [
    'message_not_found',
    (at, own) => ({ path: `/conversations/${own.conversation}/messages?before_id=${at.answer}` }),
  ],
  after_id: [
    'message_not_found',
    (at, own) => ({ path: `/conversations/${own.conversation}/messages?after_id=${at.question}` }),
  ],
  'after_id with a leaf of my own': [
    'message_not_found',
    (at, own) => ({
      path: `/conversations/${own.conversation}/messages?after_id=${at.question}&leaf_id=${own.answer}`,
    }),
  ],
  'before_id with a leaf of its own': [
    'message_not_found',
    (at, own) => ({
      path: `/conversations/${own.conversation}/messages?before_id=${own.answer}&leaf_id=${at.answer}`,
    }),
  ],
  current_message_id: [
    'message_not_found',
    (at, own) =>
      json('PUT', `/conversations/${own.conversation}`, { title: 'x', current_message_id: at.answer }),
  ],
  'message_id of a fork': [
    'message_not_found',
    (at, own) => json('POST', `/conversations/${own.conversation}/fork`, { message_id: at.answer }),
  ],
  parent_message_id: [
    'invalid_parent',
    (at, own) =>
      json('POST', `/conversations/${own.conversation}/messages`, {
        content: 'x',
        parent_message_id: at.answer,
      }),
  ],
  'parent_message_id for a stream': [
    'invalid_parent',
    (at, own) =>
      json(
        'POST',
        `/conversations/${own.conversation}/messages`,
        { content: 'x', parent_message_id: at.answer },
        sse,
      ),
  ],
}

describe('in a conversation of my own, a message of another cannot be told from a missing one', () => {
  const cases = Object.entries(byMessage).map(([what, [code, request]]) => ({
    what,
    refusal: { status: code === 'invalid_parent' ? 422 : 404, code },
    request,
  }))
  it.each(cases)("$what: somebody else's", async ({ refusal, request }) => {
    await expectMissing(bob.token, hers, refusal, (at) => request(at, his))
  })
  it.each(cases)('$what: of my other conversation', async ({ refusal, request }) => {
    await expectMissing(bob.token, hisOther, refusal, (at) => request(at, his))
  })
  it.each(cases)('$what: of my deleted conversation', async ({ refusal, request }) => {
    await expectMissing(bob.token, hisDeleted, refusal, (at) => request(at, his))
  })
})

it('lists hold what is mine and not deleted, whatever is asked for', async () => {
  const mine = [his.conversation, hisOther.conversation].sort()
  const cursor = Buffer.from(`9999-01-01T00:00:00.000Z\n${hers.conversation}`).toString('base64url')
  for (const query of [
    '',
    '?limit=100',
    '?offset=0',
    `?cursor=${cursor}`,
    '?context_type=general',
    '?user_id=ann',
  ]) {
    const { body } = await bob.get<{ conversations: { id: string }[]; total: number }>(
      `/conversations${query}`,
    )
    expect(body.conversations.map(({ id }) => id).sort()).toEqual(mine)
    expect(body.total).toBe(2)
  }
})

it("nobody's attempts touched the answer that was being written meanwhile", async () => {
  gate.release(2)
  gate.end()
  const last = (await watched.ended).at(-1)
  expect(last?.data).toMatchObject({
    type: 'complete',
    message: { content: 'whole answer', status: 'complete' },
  })
})
