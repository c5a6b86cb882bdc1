/** `GET /conversations/:id/usage`, and a message's own usage: the same rows, added up by conversation and by message. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Message } from '../../src/messages/schemas.ts'
import type { ConversationUsage } from '../../src/usage/schemas.ts'
import type { Client } from '../support/client.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'
import { storeUsage } from '../support/usage.ts'

let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())

async function usageOf(id: string): Promise<ConversationUsage> {
  const { status, body } = await ann.get<ConversationUsage>(`/conversations/${id}/usage`)
  expect(status).toBe(200)
  return body
}

/** A conversation and one answer in it, of which no usage is known. */
async function answered(): Promise<{
  conversationId: string
  messageId: string
  read: () => Promise<Message>
}> {
  const conversationId = await ann.conversation()
  const { body } = await ann.post<{ assistant_message: Message }>(
    `/conversations/${conversationId}/messages`,
    {
      content: 'Hello?',
    },
  )
  const messageId = body.assistant_message.id
  await service.sql`delete from chat.usage_tracking where message_id = ${messageId}`
  const url = `/conversations/${conversationId}/messages/${messageId}`
  return { conversationId, messageId, read: async () => (await ann.get<Message>(url)).body }
}

describe('a conversation’s usage', () => {
  it('is zeros and empty lists where nothing was answered', async () => {
    expect(await usageOf(await ann.conversation())).toEqual({
      total_tokens: 0,
      total_cost: '0',
      unpriced_answers: 0,
      messages_count: 0,
      cost_breakdown: [],
      model_usage: [],
    })
  })

  it('adds up messages and models, on every branch', async () => {
    const { conversationId, messageId } = await answered()
    const { body } = await ann.post<{ new_message: Message }>(
      `/conversations/${conversationId}/messages/${messageId}/regenerate`,
    )
    const sibling = body.new_message.id
    await service.sql`delete from chat.usage_tracking where message_id = ${sibling}`
    await storeUsage(service.sql, [
      { conversationId, messageId, model: 'a/b', cost: '0.1' },
      { conversationId, messageId, model: 'c/d', cost: '0.2' },
      { conversationId, messageId: sibling, model: 'c/d', cost: null, source: 'estimated' },
    ])
    const sums = { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12 }
    const twice = { prompt_tokens: 20, completion_tokens: 4, total_tokens: 24 }
    expect(await usageOf(conversationId)).toEqual({
      total_tokens: 36,
      total_cost: '0.3',
      unpriced_answers: 1,
      messages_count: 2,
      cost_breakdown: [
        {
          message_id: messageId,
          ...twice,
          cost: '0.3',
          is_free_model: false,
          source: 'reported',
          answers: 2,
          unpriced_answers: 0,
        },
        {
          message_id: sibling,
          ...sums,
          cost: null,
          is_free_model: false,
          source: 'estimated',
          answers: 1,
          unpriced_answers: 1,
        },
      ],
      model_usage: [
        { model: 'c/d', ...twice, cost: '0.2', answers: 2, unpriced_answers: 1, is_free: false },
        { model: 'a/b', ...sums, cost: '0.1', answers: 1, unpriced_answers: 0, is_free: false },
      ],
    })
  })

  it('of 20,000 answers names the newest 1,000 messages, oldest first, and adds up all', async () => {
    const id = await ann.conversation()
    await service.sql`
      insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
        completion_tokens, total_tokens, cost, is_free_model, source)
      select gen_random_uuid(), 'ann', ${id}, lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), 'some/model', 1, 1, 2,
        0.1, false, 'reported'
      from generate_series(1, 20000) n`
    const usage = await usageOf(id)
    expect(usage).toMatchObject({ total_tokens: 40_000, total_cost: '2000', messages_count: 20_000 })
    const numbers = usage.cost_breakdown.map(({ message_id }) => parseInt(message_id.replaceAll('-', ''), 16))
    expect(numbers).toEqual(Array.from({ length: 1_000 }, (_, index) => 19_001 + index))
  })

  it.each<[name: string, id: () => Promise<string> | string]>([
    ['somebody else’s', async () => (await service.as('ben')).conversation()],
    ['no', () => uuidv7()],
    ['no UUID’s', () => 'nonsense'],
    ['NUL’s', () => '%00'],
    [
      'a deleted',
      async () => {
        const { conversationId } = await answered()
        await storeUsage(service.sql, [{ conversationId }])
        await ann.request('DELETE', `/conversations/${conversationId}`)
        return conversationId
      },
    ],
  ])('of %s conversation is not found', async (_name, id) => {
    const path = `/conversations/${await id()}/usage`
    expectProblem(await ask(service.origin, { path, token: ann.token }), {
      status: 404,
      code: 'conversation_not_found',
      path,
    })
  })
})

describe('a message’s usage', () => {
  it.each([
    ['adds what is known', ['0.1', '0.2'], '0.3'],
    ['adds what is known of it, where a part is not', ['0.1', null, '0.02'], '0.12'],
    ['is not known where nothing of it is', [null, null], null],
    ['is not known where only the free part of it is', ['0', null], null],
    ['is zero where all of it was free', ['0', '0'], '0'],
  ])('%s', async (_name, costs, cost) => {
    const { conversationId, messageId, read } = await answered()
    await storeUsage(
      service.sql,
      costs.map((part) => ({ conversationId, messageId, cost: part })),
    )
    expect((await read()).usage).toMatchObject({ cost, total_tokens: 12 * costs.length })
  })

  it.each([
    [['reported', 'reconciled', 'estimated'], 'estimated'],
    [['reported', 'reconciled'], 'reconciled'],
    [['reported', 'reported'], 'reported'],
  ] as const)('from %j is as certain as the least certain: %s', async (sources, source) => {
    const { conversationId, messageId, read } = await answered()
    await storeUsage(
      service.sql,
      sources.map((each) => ({ conversationId, messageId, source: each })),
    )
    expect((await read()).usage?.source).toBe(source)
  })

  it('is free only where every part of it was', async () => {
    const { conversationId, messageId, read } = await answered()
    await storeUsage(service.sql, [{ conversationId, messageId, cost: '0', isFreeModel: true }])
    expect((await read()).usage?.is_free_model).toBe(true)
    await storeUsage(service.sql, [{ conversationId, messageId }])
    expect((await read()).usage?.is_free_model).toBe(false)
  })

  it('is none where nothing was answered', async () => {
    const { read } = await answered()
    expect((await read()).usage).toBeNull()
  })
})
