/** An answer that took several upstream answers: each is recorded by itself, and set right by its own bill. */
import { v7 as uuidv7 } from 'uuid'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { recordUsage, type UsageRow } from '../../src/usage/reconcile.ts'
import { bill, startBills, type Bills } from '../support/bills.ts'
import { json } from '../support/books.ts'

let bills: Bills
beforeEach(async () => {
  bills = await startBills()
})
afterEach(() => bills.close())

const attempt = (usage: Partial<UsageRow> = {}): UsageRow => ({
  id: uuidv7(),
  userId: 'ann',
  conversationId: '01900000-0000-7000-8000-000000000001',
  messageId: '01900000-0000-7000-8000-000000000002',
  generationId: '01900000-0000-7000-8000-000000000003',
  model: 'some/model',
  promptTokens: 100,
  completionTokens: 10,
  totalTokens: 110,
  cost: null,
  isFreeModel: false,
  source: 'estimated',
  ...usage,
})

/** In one transaction, as a settle does it. */
async function record(...attempts: [usage: UsageRow, upstreamId: string | undefined][]): Promise<void> {
  await bills.bench.database.asCaller({ userId: 'ann' }, (tx) =>
    tx.commit(() => Promise.all(attempts.map(([usage, upstreamId]) => recordUsage(tx, usage, upstreamId)))),
  )
  await bills.bench.sql`update chat.jobs set run_at = now()`
}

it('each attempt gets its own bill, and one that cannot be asked for stays unknown', async () => {
  const costs: Record<string, number> = { 'gen-a': 1e-7, 'gen-b': 0.1, 'gen-free': 0 }
  bills.books.answer((response, request) => {
    const id = new URL(request.url ?? '', 'http://books').searchParams.get('id') ?? ''
    json(bill({ total_cost: costs[id], native_tokens_prompt: id.length }))(response)
  })
  const [first, second, free, refused, told] = [
    attempt(),
    attempt(),
    attempt({ isFreeModel: true, cost: '0' }),
    attempt(),
    attempt({ source: 'reported', cost: '0.2' }),
  ]
  await record(
    [first, 'gen-a'],
    [second, 'gen-b'],
    [free, 'gen-free'],
    [refused, undefined],
    [told, 'gen-told'],
  )
  bills.work()
  await bills.isDone()
  const reconciled = { source: 'reconciled', completion: 3 }
  expect(await bills.usageOf(first.id)).toMatchObject({ ...reconciled, cost: '0.0000001', prompt: 5 })
  expect(await bills.usageOf(second.id)).toMatchObject({ ...reconciled, cost: '0.1', prompt: 5 })
  expect(await bills.usageOf(free.id)).toMatchObject({ ...reconciled, cost: '0', prompt: 8 })
  expect(await bills.usageOf(refused.id)).toMatchObject({ source: 'estimated', cost: null })
  expect(await bills.usageOf(told.id)).toMatchObject({ source: 'reported', cost: '0.2' })
  expect(bills.books.asked.map(({ id }) => id).toSorted()).toEqual(['gen-a', 'gen-b', 'gen-free'])
})

it('attempts that share an upstream’s id are asked for each, and none is billed for another', async () => {
  bills.books.answer(json(bill({ total_cost: 0.5 })))
  const attempts = [attempt(), attempt()]
  await record(...attempts.map((usage): [UsageRow, string] => [usage, 'gen-same']))
  bills.work()
  await bills.isDone()
  for (const { id } of attempts)
    expect(await bills.usageOf(id)).toMatchObject({ source: 'reconciled', cost: '0.5' })
})

it('nothing of it is recorded where one attempt cannot be', async () => {
  const one = attempt()
  await expect(record([one, 'gen-a'], [attempt({ id: one.id }), 'gen-b'])).rejects.toThrow()
  expect(await bills.bench.sql`select from chat.usage_tracking`).toHaveLength(0)
  expect(await bills.bench.rows()).toEqual([])
})
