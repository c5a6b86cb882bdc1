/** `GET /usage/summary`: all of a user's answers of a period, nobody else's, to the last digit. */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { UsageSummary } from '../../src/usage/schemas.ts'
import { basePath, type Client } from '../support/client.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'
import { exact, plain, storeUsage, sum } from '../support/usage.ts'

let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())
afterEach(async () => {
  await service.sql`delete from chat.usage_tracking`
})

const path = `${basePath}/usage/summary`
async function summary(query = '', client = ann): Promise<UsageSummary> {
  const { status, body } = await client.get<UsageSummary>(path + query)
  expect(status).toBe(200)
  return body
}
const march = '?period=month&year=2026&month=3'

describe('a summary', () => {
  it('of nothing is zeros and empty lists', async () => {
    expect(await summary(march)).toEqual({
      period: 'month',
      from: '2026-03-01T00:00:00.000Z',
      to: '2026-04-01T00:00:00.000Z',
      total_tokens: 0,
      prompt_tokens: 0,
      completion_tokens: 0,
      total_cost: '0',
      unpriced_answers: 0,
      conversations_count: 0,
      messages_count: 0,
      by_model: [],
      by_day: [],
      free_share: null,
    })
  })

  it('adds up models and days', async () => {
    const conversationId = uuidv7()
    const messageId = uuidv7()
    const free = { model: 'a/b:free', isFreeModel: true, cost: '0' }
    await storeUsage(service.sql, [
      { at: '2026-03-05T10:00:00Z', conversationId, messageId, ...free, source: 'estimated' },
      { at: '2026-03-05T10:00:00Z', conversationId, messageId, model: 'c/d', cost: '0.25' },
      { at: '2026-03-04T10:00:00Z', conversationId, model: 'c/d', cost: null },
      { at: '2026-03-05T11:00:00Z', model: 'e/f', cost: '1.5', totalTokens: 20 },
    ])
    const one = { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12, answers: 1, unpriced_answers: 0 }
    expect(await summary(march)).toEqual({
      period: 'month',
      from: '2026-03-01T00:00:00.000Z',
      to: '2026-04-01T00:00:00.000Z',
      total_tokens: 56,
      prompt_tokens: 40,
      completion_tokens: 8,
      total_cost: '1.75',
      unpriced_answers: 1,
      conversations_count: 2,
      messages_count: 3,
      by_model: [
        { ...one, model: 'e/f', cost: '1.5', total_tokens: 20, is_free: false },
        {
          model: 'c/d',
          prompt_tokens: 20,
          completion_tokens: 4,
          total_tokens: 24,
          cost: '0.25',
          answers: 2,
          unpriced_answers: 1,
          is_free: false,
        },
        { ...one, model: 'a/b:free', cost: '0', is_free: true },
      ],
      by_day: [
        { ...one, date: '2026-03-04', cost: '0', unpriced_answers: 1 },
        {
          date: '2026-03-05',
          prompt_tokens: 30,
          completion_tokens: 6,
          total_tokens: 44,
          cost: '1.75',
          answers: 3,
          unpriced_answers: 0,
        },
      ],
      free_share: 0.25,
    })
  })

  it('tells a model’s free answers from its paid ones', async () => {
    await storeUsage(service.sql, [{ isFreeModel: true, cost: '0' }, { cost: '2' }])
    expect((await summary()).by_model).toMatchObject([
      { model: 'some/model', is_free: false, cost: '2', answers: 1 },
      { model: 'some/model', is_free: true, cost: '0', answers: 1 },
    ])
  })

  it.each([
    ['what no float adds right', ['0.1', '0.2'], '0.3'],
    ['17 digits and one', ['0.30000000000000004', '0.00000000000000006'], '0.3000000000000001'],
    [
      'the very small beside the large',
      ['0.000000000000000000000000000001', '9007199254740993'],
      '9007199254740993.000000000000000000000000000001',
    ],
    ['zeros at the end', ['0.5000', '1.50'], '2'],
    ['nothing but zeros', ['0.000', '0'], '0'],
    ['what is not known', [null, null], '0'],
  ])('adds %s exactly', async (_name, costs, total) => {
    await storeUsage(
      service.sql,
      costs.map((cost) => ({ cost })),
    )
    const { total_cost, by_model, by_day } = await summary()
    expect([total_cost, by_model[0]?.cost, sum(by_day.map(({ cost }) => exact(cost)))]).toEqual([
      total,
      total,
      exact(total),
    ])
  })

  it('prints a price of 300 digits without an exponent', async () => {
    await storeUsage(service.sql, [{ cost: `0.${'0'.repeat(299)}7` }])
    const { total_cost } = await summary()
    expect(total_cost).toBe(`0.${'0'.repeat(299)}7`)
    expect(total_cost).toMatch(plain)
  })

  it('adds more tokens than an integer holds', async () => {
    const most = 2_147_483_647
    await storeUsage(
      service.sql,
      [1, 2, 3].map(() => ({ promptTokens: most, completionTokens: 0, totalTokens: most })),
    )
    expect(await summary()).toMatchObject({ total_tokens: 3 * most, prompt_tokens: 3 * most })
  })
})

describe('a period', () => {
  it('begins with its first moment and ends before the next one’s', async () => {
    await storeUsage(service.sql, [
      { at: '2026-02-28T23:59:59.999Z', cost: '1' },
      { at: '2026-03-01T00:00:00.000Z', cost: '2' },
      { at: '2026-03-31T23:59:59.999Z', cost: '4' },
      { at: '2026-04-01T00:00:00.000Z', cost: '8' },
    ])
    const { total_cost, by_day } = await summary(march)
    expect(total_cost).toBe('6')
    expect(by_day.map(({ date }) => date)).toEqual(['2026-03-01', '2026-03-31'])
    expect((await summary('?period=year&year=2026')).total_cost).toBe('15')
    expect((await summary('?period=year&year=2025')).total_cost).toBe('0')
  })

  it.each(['', '?period=day', '?period=week', '?period=month', '?period=year', '?period=all'])(
    'that is not named holds what is answered now (%s)',
    async (query) => {
      await ann.post(`/conversations/${await ann.conversation()}/messages`, { content: 'Hello?' })
      const { period, from, to, messages_count } = await summary(query)
      expect({ period, messages_count }).toEqual({
        period: query.split('=')[1] ?? 'month',
        messages_count: 1,
      })
      expect(Date.parse(from ?? '')).toBeLessThanOrEqual(Date.now())
      expect(Date.parse(to)).toBeGreaterThan(Date.now())
    },
  )

  it('of all begins with the first answer, and with null where there is none', async () => {
    expect((await summary('?period=all')).from).toBeNull()
    await storeUsage(service.sql, [{ at: '2026-03-05T10:00:00.123Z' }, { at: '2001-01-01T00:00:00.001Z' }])
    expect(await summary('?period=all')).toMatchObject({
      from: '2001-01-01T00:00:00.001Z',
      messages_count: 2,
    })
  })

  it.each([
    ['year=0', 'period=year&year=0', ['year']],
    ['a year of five digits', 'period=year&year=10000', ['year']],
    ['month=13', 'period=month&year=2026&month=13', ['month']],
    ['month=0', 'period=month&year=2026&month=0', ['month']],
    ['a month without its year', 'period=month&month=3', ['year']],
    ['a month without its year, by default', 'month=3', ['year']],
    ['a year without its month', 'period=month&year=2026', ['month']],
    ['a year of a day', 'period=day&year=2026', ['year']],
    ['a year and a month of all', 'period=all&year=2026&month=3', ['year', 'month']],
    ['a month of a week', 'period=week&month=3', ['month']],
    ['a month of a year', 'period=year&year=2026&month=3', ['month']],
    ['another period', 'period=decade', ['period']],
    ['an empty period', 'period=', ['period']],
    ['two periods', 'period=day&period=week', ['period']],
    ['an empty year', 'period=year&year=', ['year']],
    ['half a year', 'period=year&year=2026.5', ['year']],
    ['a year before all', 'period=year&year=-2026', ['year']],
    ['a year with an exponent', 'period=year&year=2e3', ['year']],
    ['a year of other digits', 'period=year&year=%D9%A2%D9%A0%D9%A2%D9%A6', ['year']],
    ['NUL', 'period=month%00&year=2026&month=3', ['period']],
    ['a name of every object', 'period=constructor', ['period']],
  ])('is refused: %s', async (_name, query, paths) => {
    const problem = expectProblem(await ask(service.origin, { path: `${path}?${query}`, token: ann.token }), {
      status: 400,
      code: 'invalid_request',
      path,
    })
    expect(problem.errors?.map((error) => error.path)).toEqual(paths)
  })
})

describe('usage', () => {
  it('of somebody else is counted for nobody but them', async () => {
    await storeUsage(service.sql, [{ cost: '1' }, { userId: 'ben', cost: '2' }])
    const ben = await service.as('ben')
    expect([(await summary('')).total_cost, (await summary('', ben)).total_cost]).toEqual(['1', '2'])
  })

  it('of a deleted conversation stays counted', async () => {
    const id = await ann.conversation()
    await ann.post(`/conversations/${id}/messages`, { content: 'Hello?' })
    const before = await summary()
    expect(before.messages_count).toBe(1)
    await ann.request('DELETE', `/conversations/${id}`)
    expect(await summary()).toEqual(before)
  })

  it('of a path that was forked is not counted twice', async () => {
    const id = await ann.conversation()
    const { body } = await ann.post<{ assistant_message: { id: string } }>(`/conversations/${id}/messages`, {
      content: 'Hello?',
    })
    const before = await summary()
    const fork = await ann.post(`/conversations/${id}/fork`, { message_id: body.assistant_message.id })
    expect(fork.status).toBe(201)
    expect(await summary()).toEqual(before)
  })

  it('is told to nobody without a token', async () => {
    expect((await service.anonymous.get(path)).status).toBe(401)
  })
})
