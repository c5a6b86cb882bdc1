import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated, PAID_MODEL_ID } from '../../src/embedded/demo-model.ts'
import type { Conversation } from '../../src/conversations/schemas.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

interface List {
  conversations: Conversation[]
  total: number
  pagination: { limit: number; offset: number; has_more: boolean; next_cursor: string | null }
}

describe('a conversation', () => {
  it('is made from nothing, with the defaults of the contract', async () => {
    const made = await ann.post<Conversation>('/conversations')
    expect(made.status).toBe(201)
    expect(made.headers.get('location')).toBe(`/api/chat/conversations/${made.body.id}`)
    expect(made.body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/) as string,
      title: 'New Conversation',
      context_type: 'general',
      context_data: {},
      status: 'active',
      metadata: {},
      model: null,
      current_message_id: null,
      message_count: 0,
      active_generation: null,
      created_at: expect.stringMatching(/\.\d{3}Z$/) as string,
      updated_at: made.body.created_at,
      last_message_at: null,
    })
    const read = await ann.get<{ conversation: Conversation; messages: Message[] }>(
      `/conversations/${made.body.id}`,
    )
    expect(read.body).toEqual({ conversation: made.body, messages: [] })
  })

  it.each(['PUT', 'PATCH'])('is changed by %s, and only in what was named', async (method) => {
    const id = await ann.conversation({ title: 'Before', metadata: { a: 1 } })
    const changed = await ann.request<Conversation>(method, `/conversations/${id}`, { title: '  After  ' })
    expect(changed.body).toMatchObject({ title: 'After', metadata: { a: 1 }, status: 'active' })
    const archived = await ann.request<Conversation>(method, `/conversations/${id}`, {
      status: 'archived',
      metadata: {},
    })
    expect(archived.body).toMatchObject({ title: 'After', metadata: {}, status: 'archived' })
    const refused = await ann.post(`/conversations/${id}/messages`, { content: 'hello?' })
    expect([refused.status, refused.body['code']]).toEqual([409, 'conversation_archived'])
  })

  it('refuses a model that the caller may not use, before anything is stored', async () => {
    const premium = await service.as('pia', { tier: 'premium' })
    const refused = await ann.post('/conversations', { model: PAID_MODEL_ID })
    expect([refused.status, refused.body['code']]).toEqual([422, 'model_not_allowed'])
    expect((await premium.post('/conversations', { model: PAID_MODEL_ID })).status).toBe(201)
    expect((await premium.post('/conversations', { model: 'no/such-model' })).status).toBe(422)
    const id = await ann.conversation()
    const send = await ann.post(`/conversations/${id}/messages`, { content: 'x', model: PAID_MODEL_ID })
    expect(send.status).toBe(422)
    const { body } = await ann.get<{ conversation: Conversation }>(`/conversations/${id}`)
    expect(body.conversation.message_count).toBe(0)
    expect(service.upstream.requests).toHaveLength(0)
  })
})

describe('the list', () => {
  it('has the newest activity first, counts, and filters by status and context type', async () => {
    const lea = await service.as('lea')
    const older = await lea.conversation({ title: 'older' })
    const newer = await lea.conversation({ title: 'newer', context_type: 'career_guidance' })
    const listed = async (query = '') =>
      (await lea.get<List>(`/conversations${query}`)).body.conversations.map(({ id }) => id)
    expect(await listed()).toEqual([newer, older])
    await lea.post(`/conversations/${older}/messages`, { content: 'hi' })
    expect(await listed()).toEqual([older, newer])
    expect(await listed('?context_type=career_guidance')).toEqual([newer])
    await lea.request('PATCH', `/conversations/${newer}`, { status: 'archived' })
    expect(await listed()).toEqual([older])
    expect(await listed('?status=archived')).toEqual([newer])
    expect((await lea.get<List>('/conversations')).body).toMatchObject({
      total: 1,
      pagination: { limit: 20, offset: 0, has_more: false, next_cursor: null },
    })
  })

  it('pages by cursor without repeat while new conversations arrive, and by offset', async () => {
    const max = await service.as('max')
    const ids: string[] = []
    for (let n = 0; n < 7; n++) ids.unshift(await max.conversation())
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const query: string = cursor === '' ? '' : `&cursor=${cursor}`
      const page: List = (await max.get<List>(`/conversations?limit=3${query}`)).body
      seen.push(...page.conversations.map(({ id }) => id))
      cursor = page.pagination.next_cursor
      await max.conversation()
    }
    expect(seen).toEqual(ids)
    const { body } = await max.get<List>('/conversations?limit=2&offset=1')
    expect(body.conversations).toHaveLength(2)
    expect(body.pagination).toMatchObject({ limit: 2, offset: 1, has_more: true })
    expect(body.total).toBe(10)
  })
})

describe('an automatic title', () => {
  it('is made from the first exchange, once', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer('Gladly.'), answer('Sure.'))
    await ann.post(`/conversations/${id}/messages`, {
      content: 'How do I become a **park ranger**? I love trees.',
    })
    const titled = async () =>
      (await ann.get<{ conversation: Conversation }>(`/conversations/${id}`)).body.conversation.title
    expect(await titled()).toBe('How do I become a park ranger?')
    await ann.post(`/conversations/${id}/messages`, { content: 'And something completely different?' })
    expect(await titled()).toBe('How do I become a park ranger?')
  })

  it('never replaces one that the user chose', async () => {
    const given = await ann.conversation({ title: 'Mine' })
    const renamed = await ann.conversation()
    await ann.request('PATCH', `/conversations/${renamed}`, { title: 'Renamed' })
    for (const [id, title] of [
      [given, 'Mine'],
      [renamed, 'Renamed'],
    ]) {
      await ann.post(`/conversations/${String(id)}/messages`, { content: 'How do I become a park ranger?' })
      const { body } = await ann.get<{ conversation: Conversation }>(`/conversations/${String(id)}`)
      expect(body.conversation.title).toBe(title)
    }
  })
})

describe('deleting', () => {
  it('takes it out of every answer at once', async () => {
    const id = await ann.conversation()
    await ann.post(`/conversations/${id}/messages`, { content: 'secret' })
    expect((await ann.request('DELETE', `/conversations/${id}`)).status).toBe(204)
    expect((await ann.get(`/conversations/${id}`)).status).toBe(404)
    expect((await ann.get(`/conversations/${id}/tree`)).status).toBe(404)
    expect((await ann.get(`/conversations/${id}/messages`)).status).toBe(404)
    expect((await ann.post(`/conversations/${id}/messages`, { content: 'still?' })).status).toBe(404)
    expect((await ann.request('PATCH', `/conversations/${id}`, { title: 'x' })).status).toBe(404)
    expect((await ann.request('DELETE', `/conversations/${id}`)).status).toBe(404)
    const { body } = await ann.get<List>('/conversations?limit=100')
    expect(body.conversations.some((conversation) => conversation.id === id)).toBe(false)
  })

  it('stops the answer being generated in it, has it settled before it answers, and records what it cost', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    const upstreamRequest = await service.upstream.nextRequest()
    gate.release(3)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    expect((await ann.request('DELETE', `/conversations/${id}`)).status).toBe(204)
    const rows = await service.sql`select status from chat.generations where conversation_id = ${id}`
    expect(rows.map(({ status }) => status as string)).toEqual(['stopped'])
    const usage = await service.sql`select source from chat.usage_tracking where conversation_id = ${id}`
    expect(usage.map(({ source }) => source as string)).toEqual(['estimated'])
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    const frames = await stream.ended
    expect(frames.filter(({ data }) => data.type === 'complete' || data.type === 'error')).toHaveLength(1)
  })
})
