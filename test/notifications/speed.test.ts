/**
 * How long it takes to send, over HTTP: the figures are printed. What is promised (50 ms for one, 200 ms for a hundred,
 * 1 s for ten thousand) is asserted threefold, and of the fastest of some: tests share their machine. Nothing is promised of
 * ten thousand different ones: fivefold.
 */
import { afterAll, beforeAll, expect, it, type TestContext } from 'vitest'
import { createClient, type Client } from '../support/client.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

const base = '/api/chat/internal/notifications'
let service: Service
let sender: Client
beforeAll(async () => {
  service = await startService()
  sender = createClient(service.origin, serviceKey)
})
afterAll(() => service.close())

type Annotate = TestContext['annotate']

/** @returns how long the fastest took, ms. */
async function timed(annotate: Annotate, path: string, body: object, times: number): Promise<number> {
  const took: number[] = []
  for (let n = 0; n < times; n++) {
    const startedAt = performance.now()
    const { status } = await sender.post(path, body)
    took.push(performance.now() - startedAt)
    expect(status).toBeLessThan(202)
  }
  const sorted = took.toSorted((one, other) => one - other)
  const at = (share: number) => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(1)
  await annotate(`${path} ×${times}: median ${at(0.5)} ms, p95 ${at(0.95)} ms, fastest ${at(0)} ms`)
  return Number(at(0))
}

const said = { type: 'announcement', title: 'News', body: 'There is news.', data: { k: 1 } }
const users = (count: number) => Array.from({ length: count }, (_, n) => `user-${n}`)

it('one', async ({ annotate }) => {
  expect(await timed(annotate, base, { user_id: 'ann', ...said }, 60)).toBeLessThan(150)
})

it('a hundred', async ({ annotate }) => {
  expect(await timed(annotate, `${base}/bulk`, { user_ids: users(100), ...said }, 15)).toBeLessThan(600)
})

it('ten thousand, who are told the same', async ({ annotate }) => {
  expect(await timed(annotate, `${base}/bulk`, { user_ids: users(10_000), ...said }, 4)).toBeLessThan(3_000)
})

it('ten thousand, each of whom is told something else', async ({ annotate }) => {
  const notifications = users(10_000).map((user_id, n) => ({ user_id, ...said, title: `News ${n}` }))
  expect(await timed(annotate, `${base}/bulk`, { notifications }, 4)).toBeLessThan(5_000)
})
