/** A process that cannot keep up refuses new requests and nothing else. */
import { getHeapStatistics } from 'node:v8'
import { setTimeout as delay } from 'node:timers/promises'
import fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { gated } from '../../src/embedded/demo-model.ts'
import { registerErrorHandler } from '../../src/http/error-handler.ts'
import { registerOverload } from '../../src/http/overload.ts'
import { textOf, type OpenStream } from '../support/client.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { startService } from '../support/service.ts'

/** Busy for several samples: each of them finds the event loop over a second late. */
async function keepBusy(): Promise<void> {
  for (let n = 0; n < 3; n++) {
    const untilMs = performance.now() + 1_500
    while (performance.now() < untilMs);
    await delay(0)
  }
}

describe('an event loop that is a second late', () => {
  it('refuses new requests with 503 until it has recovered; health and running streams go on', async () => {
    const service = await startService()
    onTestFinished(() => service.close())
    const ann = await service.as('ann')
    const gate = gated({ tokens: ['before', ' after'] })
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${await ann.conversation()}/messages`, { content: 'x' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')

    await keepBusy()
    const path = '/conversations'
    const [refused, health, live, ready, under] = await Promise.all([
      ask(service.origin, { path, token: ann.token }),
      ...['/health', '/health/live', '/health/ready', '/api/chat/health'].map((url) =>
        service.anonymous.get(url),
      ),
    ])
    const problem = expectProblem(refused, { status: 503, code: 'overloaded', path })
    expect(problem.retry_after).toBe(5)
    expect([health, live, ready, under].map((one) => one?.status)).toEqual([200, 200, 200, 200])

    gate.release(1)
    gate.end()
    const frames = await stream.ended
    expect(textOf(frames)).toBe('before after')
    expect(frames.at(-1)?.data.type).toBe('complete')
    while ((await ann.get(path)).status === 503);
    expect((await ann.get(path)).status).toBe(200)
  })
})

describe('a heap that is nearly full', () => {
  it.each([
    ['over', 0.5, 503],
    ['under', 2, 200],
  ])('%s its share of the limit', async (_, timesUsed, status) => {
    const { used_heap_size, heap_size_limit } = getHeapStatistics()
    const app = fastify()
    onTestFinished(() => app.close())
    registerErrorHandler(app)
    const heapShareMax = (timesUsed * used_heap_size) / heap_size_limit
    await registerOverload(app, '/api', { heapShareMax, sampleMs: 100 })
    for (const url of ['/work', '/metrics', '/api/health']) app.get(url, async () => 'done')
    await app.ready()
    const statusOf = async (url: string) => (await app.inject(url)).statusCode
    // It looks for the first time.
    while (app.memoryUsage().heapUsed === 0) await delay(10)
    expect(await statusOf('/work')).toBe(status)
    expect([await statusOf('/metrics'), await statusOf('/api/health')]).toEqual([200, 200])
  })
})

it('refuses none of 1,000 streams that run at the same time', { timeout: 120_000 }, async () => {
  const service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '1000' } })
  onTestFinished(() => service.close())
  const ann = await service.as('ann')
  const gate = gated({ tokens: ['all', ' run'] })
  service.upstream.always(gate)
  const streams: OpenStream[] = []
  while (streams.length < 1_000)
    streams.push(
      ...(await Promise.all(
        Array.from({ length: 50 }, async () =>
          ann.stream(`/conversations/${await ann.conversation()}/messages`, { content: 'x' }),
        ),
      )),
    )
  expect(streams.filter(({ status }) => status !== 200)).toHaveLength(0)
  gate.release(2)
  gate.end()
  expect((await ann.get('/conversations')).status).toBe(200)
  const ends = await Promise.all(streams.map((stream) => stream.ended))
  expect(ends.filter((frames) => frames.at(-1)?.data.type !== 'complete')).toHaveLength(0)
})
