/**
 * How long it takes to send, over HTTP, and the promise: 50 ms for one, 200 ms for a hundred, 1 s for ten thousand who are
 * told the same. Nothing is promised of ten thousand different ones; twice that is asserted.
 */
import { afterAll, beforeAll, expect, it, type TestContext } from 'vitest'
import { createClient, type Client } from '../support/client.ts'
import { quickest } from '../support/quickest.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

const base = '/api/chat/internal/notifications'
let service: Service
let sender: Client
beforeAll(async () => {
  service = await startService()
  sender = createClient(service.origin, serviceKey)
})
afterAll(() => service.close())

/** The same request again and again. @returns the median, ms: of the quickest row of them, where it is not under the bound at once. */
async function timed(
  { annotate }: TestContext,
  options: { path: string; body: object; times: number; boundMs: number },
): Promise<number> {
  const { path, body, times, boundMs } = options
  const row = async () => {
    const took: number[] = []
    for (let n = 0; n < times; n++) {
      const startedAt = performance.now()
      const { status } = await sender.post(path, body)
      took.push(performance.now() - startedAt)
      expect(status).toBeLessThan(202)
    }
    const sorted = took.toSorted((one, other) => one - other)
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? Infinity
    const [median, p95] = [at(0.5), at(0.95)].map((ms) => ms.toFixed(1))
    await annotate(`${path} ×${times}: median ${median} ms, p95 ${p95} ms`)
    return at(0.5)
  }
  return quickest(boundMs, row)
}

const said = { type: 'announcement', title: 'News', body: 'There is news.', data: { k: 1 } }
const users = (count: number) => Array.from({ length: count }, (_, n) => `user-${n}`)
const patience = { timeout: 120_000 }

it.for([
  ['one', base, { user_id: 'ann', ...said }, 60, 50],
  ['a hundred', `${base}/bulk`, { user_ids: users(100), ...said }, 15, 200],
  ['ten thousand, who are told the same', `${base}/bulk`, { user_ids: users(10_000), ...said }, 4, 1_000],
  [
    'ten thousand, each of whom is told something else',
    `${base}/bulk`,
    { notifications: users(10_000).map((user_id, n) => ({ user_id, ...said, title: `News ${n}` })) },
    4,
    2_000,
  ],
] as const)('%s', patience, async ([, path, body, times, boundMs], context) => {
  expect(await timed(context, { path, body, times, boundMs })).toBeLessThan(boundMs)
})
