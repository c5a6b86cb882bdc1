/** Analytics: how one conversation went, and how a user's all did in a period. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Message } from '../../src/messages/schemas.ts'
import type { ConversationAnalytics, UserAnalytics } from '../../src/usage/analytics-schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
let count = 0
beforeAll(async () => {
  service = await startService()
})
afterAll(() => service.close())
beforeEach(async () => {
  ann = await service.as(`ann-${++count}`)
})

async function ask(id: string, content: string): Promise<Message> {
  const { body } = await ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
    content,
  })
  return body.assistant_message
}
const react = (message: Message, reaction: string) =>
  ann.request('PUT', `/conversations/${message.conversation_id}/messages/${message.id}/reaction`, {
    reaction,
  })
const of = (id: string) => ann.get<ConversationAnalytics>(`/api/chat/conversations/${id}/analytics`)
const mine = async (query = '') => (await ann.get<UserAnalytics>(`/api/chat/usage/analytics${query}`)).body

describe('of a conversation', () => {
  it('counts its messages, times, reactions and what it took', async () => {
    const id = await ann.conversation()
    const first = await ask(id, '1234')
    const second = await ask(id, '123456')
    await react(first, 'like')
    await react(second, 'helpful')
    for (const [ms, message] of [
      [100, first],
      [300, second],
    ] as const)
      await service.sql`
        update chat.messages set metadata = metadata || jsonb_build_object('processing_time_ms', ${ms}::int)
        where id = ${message.id}`
    const { status, body } = await of(id)
    expect(status).toBe(200)
    const usage = (await ann.get<{ total_tokens: number }>(`/api/chat/conversations/${id}/usage`)).body
    const lengths = [first, second].map(({ content }) => [...content].length)
    expect(body).toEqual({
      conversation_id: id,
      message_statistics: [
        {
          sender_type: 'assistant',
          count: 2,
          avg_length: expect.closeTo(((lengths[0] ?? 0) + (lengths[1] ?? 0)) / 2, 0) as number,
        },
        { sender_type: 'user', count: 2, avg_length: 5 },
      ],
      usage_statistics: {
        total_tokens: usage.total_tokens,
        total_cost: '0',
        avg_processing_time: 200,
        p95_processing_time: 300,
        total_requests: 2,
      },
      reactions: { like: 1, dislike: 0, helpful: 1, not_helpful: 0 },
      conversation_duration_seconds: expect.any(Number) as number,
      last_activity: expect.stringMatching(/Z$/) as string,
    })
  })

  it('without a message is empty, and times that nobody took are null', async () => {
    expect((await of(await ann.conversation())).body).toMatchObject({
      message_statistics: [],
      usage_statistics: {
        total_tokens: 0,
        total_cost: '0',
        avg_processing_time: null,
        p95_processing_time: null,
      },
      reactions: { like: 0, dislike: 0, helpful: 0, not_helpful: 0 },
      conversation_duration_seconds: 0,
    })
  })

  it('is its user’s alone, and gone when it is deleted', async () => {
    const id = await ann.conversation()
    const eve = await service.as('eve')
    expect((await eve.get(`/api/chat/conversations/${id}/analytics`)).status).toBe(404)
    expect((await of('none')).status).toBe(404)
    await ann.request('DELETE', `/conversations/${id}`)
    expect((await of(id)).status).toBe(404)
  })
})

describe('of a user', () => {
  it('adds up a period, without others’ and without what was deleted', async () => {
    const [id, deleted] = [await ann.conversation(), await ann.conversation()]
    await react(await ask(id, 'Hello?'), 'dislike')
    await react(await ask(deleted, 'Bye?'), 'like')
    await ann.request('DELETE', `/conversations/${deleted}`)
    const eve = await service.as('eve')
    const theirs = await eve.conversation()
    await eve.post(`/conversations/${theirs}/messages`, { content: 'Mine.' })
    const body = await mine('?period=day')
    expect(body).toMatchObject({
      period: 'day',
      conversations_count: 1,
      messages: { user: 1, assistant: 1, system: 0 },
      reactions: { like: 0, dislike: 1, helpful: 0, not_helpful: 0 },
      busiest_hours: [{ hour: expect.any(Number) as number, messages: 1 }],
    })
    expect(body.usage.by_model).toHaveLength(1)
    expect(body.response_time.avg_ms).toBeGreaterThanOrEqual(0)
    expect(await mine('?period=year&year=2001')).toMatchObject({
      conversations_count: 0,
      messages: { user: 0, assistant: 0, system: 0 },
      response_time: { avg_ms: null, p95_ms: null },
      busiest_hours: [],
    })
  })

  it('of all time begins with the first answer; a period that is none is refused', async () => {
    await ask(await ann.conversation(), 'Hello?')
    expect(await mine('?period=all')).toMatchObject({ messages: { user: 1 } })
    expect((await ann.get('/api/chat/usage/analytics?period=decade')).status).toBe(400)
  })
})
