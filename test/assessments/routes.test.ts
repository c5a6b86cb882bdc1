/** The routes of assessments: what each answers, to whom, and to nobody else. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Conversation } from '../../src/conversations/schemas.ts'
import { startDemoArchive, times, type DemoArchive } from '../../src/embedded/demo-archive.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { adviserOf, results, tell, untilReady } from '../support/assessments.ts'
import { createClient, type Client } from '../support/client.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

let service: Service
let archive: DemoArchive
let teller: Client
let user: string
let ann: Client
let eve: Client
let assessment: string
let count = 0

beforeAll(async () => {
  archive = await startDemoArchive({ serviceKey })
  service = await startService({ env: { ARCHIVE_SERVICE_URL: archive.baseUrl } })
  teller = createClient(service.origin, serviceKey)
})
beforeEach(async () => {
  archive.forget()
  service.upstream.forget()
  user = `ann-${++count}`
  assessment = `a ${count}/é`
  ann = await service.as(user)
  eve = await service.as('eve')
})
afterAll(async () => {
  await service.close()
  await archive.close()
})

const known = () => archive.put(assessment, { ...results, assessment_id: assessment, user_id: user })
const path = () => `/api/chat/assessment/${encodeURIComponent(assessment)}`

interface Made {
  conversation: Conversation
  initial_message: Message | null
  suggestions: string[]
}

const make = (client: Client, body?: object) => client.post<Made>('/conversations/from-assessment', body)

describe('POST …/conversations/from-assessment', () => {
  it('makes the conversation with its welcome and suggestions; again it is the same one', async () => {
    known()
    const made = await make(ann, { assessment_id: assessment })
    expect(made).toMatchObject({
      status: 201,
      body: {
        conversation: {
          context_type: 'assessment',
          context_data: { assessment_id: assessment, riasec: results.riasec },
        },
        initial_message: {
          status: 'complete',
          sender_type: 'assistant',
          metadata: { type: 'assessment_welcome' },
        },
      },
    })
    expect(made.body.suggestions.length).toBeGreaterThanOrEqual(6)
    const again = await Promise.all(Array.from({ length: 5 }, () => make(ann, { assessment_id: assessment })))
    for (const { status, body } of again) {
      expect(status).toBe(201)
      expect(body.conversation.id).toBe(made.body.conversation.id)
      expect(body.initial_message?.id).toBe(made.body.initial_message?.id)
    }
    expect(service.upstream.requests).toHaveLength(1)
    // Only the first has made one: the limit counts no more.
    expect(archive.requests).toHaveLength(1)
  })

  it('asked for five times at once makes one, with one welcome', async () => {
    known()
    const made = await Promise.all(Array.from({ length: 5 }, () => make(ann, { assessment_id: assessment })))
    expect(new Set(made.map(({ body }) => body.conversation.id)).size).toBe(1)
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('without an id takes the newest that is known; without a welcome the assistant says nothing', async () => {
    await tell(teller, {
      user_id: user,
      assessment_id: `older ${count}`,
      occurred_at: '2026-01-01T00:00:00Z',
    })
    await tell(teller, { user_id: user, assessment_id: assessment })
    await untilReady(ann)
    const { body } = await make(ann)
    expect(body.conversation.context_data).toMatchObject({ assessment_id: assessment })
    known()
    const other = `other ${count}`
    archive.put(other, { ...results, assessment_id: other, user_id: user })
    const silent = await make(ann, { assessment_id: other, auto_start_message: false, title: 'My own title' })
    expect(silent.body).toMatchObject({
      initial_message: null,
      conversation: { title: 'My own title', message_count: 0 },
    })
    expect(silent.body.suggestions.length).toBeGreaterThanOrEqual(6)
  })

  it.each<[name: string, prepare: () => void]>([
    ['nobody knows', () => undefined],
    [
      'is another user’s',
      () => archive.put(assessment, { ...results, assessment_id: assessment, user_id: 'bob' }),
    ],
    ['has no owner', () => archive.put(assessment, { ...results, assessment_id: assessment })],
  ])('of an assessment that %s is not found, and nothing is kept', async (_name, prepare) => {
    prepare()
    for (const answer of [
      await make(ann, { assessment_id: assessment }),
      await ann.post(`${path()}/initialize`),
    ])
      expect(answer).toMatchObject({ status: 404, body: { code: 'assessment_not_found' } })
    expect(await service.sql`select from chat.assessments where assessment_id = ${assessment}`).toHaveLength(
      0,
    )
  })

  it('says when the archive is away, or answers nonsense', async () => {
    archive.script(...times(3, { kind: 'status', status: 503 }))
    expect(await make(ann, { assessment_id: assessment })).toMatchObject({
      status: 503,
      body: { code: 'archive_unavailable', retry_after: 5 },
    })
    known()
    archive.script({ kind: 'body' })
    expect(await make(ann, { assessment_id: assessment })).toMatchObject({
      status: 502,
      body: { code: 'archive_error' },
    })
  })
})

describe('POST …/conversations/:id/context/assessment', () => {
  it('lets any conversation of mine know the results', async () => {
    known()
    const id = await ann.conversation({ context_data: { school: 'SMA 3' } })
    const { status, body } = await ann.post(`/conversations/${id}/context/assessment`, {
      assessment_id: assessment,
    })
    expect({ status, body }).toMatchObject({
      status: 200,
      body: {
        context_added: true,
        assessment_data: { assessment_id: assessment, riasec: results.riasec, via_is: results.via_is },
      },
    })
    await ann.post(`/conversations/${id}/messages`, { content: 'Who am I?' })
    const asked = JSON.stringify(service.upstream.requests.at(-1)?.body)
    expect(asked).toContain('RIASEC (I: 92, R: 85, A: 78)')
    expect(asked).toContain('SMA 3')
  })

  it('is refused for another’s conversation as for another’s assessment', async () => {
    known()
    const id = await ann.conversation()
    const body = { assessment_id: assessment }
    expect(await eve.post(`/conversations/${id}/context/assessment`, body)).toMatchObject({
      status: 404,
      body: { code: 'conversation_not_found' },
    })
    const own = await eve.conversation()
    expect(await eve.post(`/conversations/${own}/context/assessment`, body)).toMatchObject({
      status: 404,
      body: { code: 'assessment_not_found' },
    })
  })
})

describe('GET …/conversations/assessment-ready/:user_id', () => {
  const ready = (client: Client, id = user) =>
    client.get(`/api/chat/conversations/assessment-ready/${encodeURIComponent(id)}`)

  it('tells the user and services how far it is', async () => {
    expect((await ready(ann)).body).toEqual({
      has_assessment: false,
      assessment_date: null,
      assessment_id: null,
      conversation_exists: false,
      conversation_id: null,
      ready_for_chatbot: false,
    })
    await tell(teller, { user_id: user, assessment_id: assessment })
    await untilReady(ann)
    const { conversation } = await adviserOf(ann, assessment)
    for (const client of [ann, teller])
      expect((await ready(client)).body).toEqual({
        has_assessment: true,
        assessment_date: results.assessment_date,
        assessment_id: assessment,
        conversation_exists: true,
        conversation_id: conversation.id,
        ready_for_chatbot: true,
      })
    await ann.request('DELETE', `/conversations/${conversation.id}`)
    expect((await ready(ann)).body).toMatchObject({ conversation_exists: false, ready_for_chatbot: false })
  })

  it('tells nobody else, whether there is anything to tell or not', async () => {
    for (const id of [user, 'nobody'])
      expect(await ready(eve, id)).toMatchObject({ status: 403, body: { code: 'forbidden' } })
    expect((await ready(service.anonymous)).status).toBe(401)
  })
})

describe('GET …/conversations/:id/suggestions', () => {
  const suggestions = async (client: Client, id: string) =>
    (await client.get<{ suggestions: string[] }>(`/api/chat/conversations/${id}/suggestions`)).body
      .suggestions

  it('are six to eight questions for any conversation, and different ones for different results', async () => {
    const general = await suggestions(ann, await ann.conversation())
    const of = async (riasec: object) =>
      suggestions(ann, await ann.conversation({ context_type: 'assessment', context_data: { riasec } }))
    const lists = [general, await of({ I: 90, A: 80 }), await of({ E: 90, S: 80 })]
    for (const list of lists) {
      expect(list.length).toBeGreaterThanOrEqual(6)
      expect(list.length).toBeLessThanOrEqual(8)
      expect(new Set(list).size).toBe(list.length)
    }
    expect(new Set(lists.map((list) => JSON.stringify(list))).size).toBe(3)
  })

  it('are in the language that is spoken there', async () => {
    const id = await ann.conversation()
    await ann.post(`/conversations/${id}/messages`, { content: 'Apa pekerjaan yang cocok untuk saya?' })
    expect((await suggestions(ann, id)).join(' ')).toMatch(/\bsaya\b/)
  })

  it('are nobody else’s', async () => {
    const id = await ann.conversation()
    expect((await eve.get(`/api/chat/conversations/${id}/suggestions`)).status).toBe(404)
    expect((await ann.get('/api/chat/conversations/none/suggestions')).status).toBe(404)
  })
})

describe('GET …/assessment/:assessment_id/conversation', () => {
  it('is there for its user, and for nobody else as if it were not', async () => {
    expect(await adviserOf(ann, assessment)).toEqual({ exists: false })
    await tell(teller, { user_id: user, assessment_id: assessment })
    await untilReady(ann)
    expect(await adviserOf(ann, assessment)).toMatchObject({
      exists: true,
      messages: [{ status: 'complete' }],
    })
    expect(await adviserOf(eve, assessment)).toEqual({ exists: false })
    expect(await adviserOf(ann, '\0')).toEqual({ exists: false })
  })
})

describe('beginning by hand', () => {
  it('POST …/assessment/:id/initialize answers at once, and the adviser gets ready', async () => {
    known()
    const { status, body } = await ann.post(`${path()}/initialize`, { trigger_source: 'results page' })
    expect({ status, body }).toMatchObject({
      status: 200,
      body: { success: true, message: expect.any(String) as string },
    })
    await untilReady(ann)
    const { conversation } = await adviserOf(ann, assessment)
    expect(conversation).toMatchObject({
      id: body['conversation_id'],
      metadata: { trigger_source: 'results page' },
    })
    expect((await ann.post(`${path()}/initialize`)).body).toMatchObject({ conversation_id: conversation.id })
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('POST …/conversations/auto-initialize does it for a user, by a service alone', async () => {
    known()
    const body = { user_id: user, assessment_id: assessment, trigger_source: 'worker' }
    const answer = await teller.post('/api/chat/conversations/auto-initialize', body)
    expect(answer).toMatchObject({ status: 200, body: { ready: true } })
    expect((answer.body['initial_suggestions'] as string[]).length).toBeGreaterThanOrEqual(6)
    expect((await adviserOf(ann, assessment)).conversation.id).toBe(answer.body['conversation_id'])
    expect((await ann.post('/api/chat/conversations/auto-initialize', body)).status).toBe(403)
    const stolen = await teller.post('/api/chat/conversations/auto-initialize', { ...body, user_id: 'eve' })
    expect(stolen).toMatchObject({ status: 404, body: { code: 'assessment_not_found' } })
  })
})

describe('POST …/internal/events', () => {
  it('is for services alone', async () => {
    expect((await ann.post('/api/chat/internal/events', {})).status).toBe(403)
    expect((await service.anonymous.post('/api/chat/internal/events', {})).status).toBe(401)
  })
})
