/** The summary of 100,000 answers, one user's among many others', over HTTP. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { UsageSummary } from '../../src/usage/schemas.ts'
import { basePath, type Client } from '../support/client.ts'
import { quickest } from '../support/quickest.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  // Two years of 400,000 answers of four users who take turns: no page of the table is ann's alone.
  await service.sql`
    insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
      completion_tokens, total_tokens, cost, is_free_model, source, created_at)
    select uuidv7(), (array['ann', 'ben', 'cy', 'di'])[1 + n % 4], md5(format('%s %s', n % 4, n / 200))::uuid, uuidv7(),
      uuidv7(), (array['a/b:free', 'c/d:free', 'e/f', 'g/h', 'i/j'])[1 + n / 4 % 5], 500, 100, 600,
      case when n / 4 % 5 < 2 then 0 when n / 4 % 100 = 99 then null else 0.00001234567 end, n / 4 % 5 < 2, 'reported',
      timestamptz '2025-01-01 00:00Z' + n * interval '2.6 min'
    from generate_series(0, 399999) n`
  // As autovacuum does, sooner or later.
  await service.sql`vacuum analyze chat.usage_tracking`
}, 120_000)
afterAll(() => service.close())

async function timed(): Promise<{ ms: number; body: UsageSummary }> {
  const startedAtMs = performance.now()
  const { body } = await ann.get<UsageSummary>(`${basePath}/usage/summary?period=all`)
  return { ms: performance.now() - startedAtMs, body }
}

it('takes less than 200 ms', async ({ annotate }) => {
  // More often than PostgreSQL looks before it settles for one plan, and each connection of the pool has been used.
  for (let n = 0; n < 10; n++) await timed()
  const least = async () => {
    const measured: number[] = []
    for (let n = 0; n < 20; n++) measured.push((await timed()).ms)
    measured.sort((one, other) => one - other)
    const [ms = Infinity, median = Infinity] = [measured[0], measured[9]]
    await annotate(`least ${ms.toFixed(0)} ms, p50 ${median.toFixed(0)} ms`)
    return ms
  }
  // The least: a machine that does other things at the same time makes all but that slower.
  expect(await quickest(200, least, 60_000)).toBeLessThan(200)
}, 120_000)

it('is right', async () => {
  const { body } = await timed()
  expect(body).toMatchObject({
    from: '2025-01-01T00:00:00.000Z',
    total_tokens: 60_000_000,
    prompt_tokens: 50_000_000,
    total_cost: '0.72839453',
    unpriced_answers: 1_000,
    conversations_count: 2_000,
    messages_count: 100_000,
    free_share: 0.4,
  })
  expect(body.by_model.map(({ answers }) => answers)).toEqual([20_000, 20_000, 20_000, 20_000, 20_000])
  expect(body.by_day.reduce((answers, day) => answers + day.answers, 0)).toBe(100_000)
})
