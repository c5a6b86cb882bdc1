/** `GET /metrics`: who may read it, and what it says of a service that is being used. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, DEMO_MODEL_ID, gated } from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { eventually, handler, startBench } from '../support/jobs.ts'
import { scrape } from '../support/metrics.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { representations, takeTurn } from '../support/turn.ts'

const path = '/metrics'
const sendRoute = '/api/chat/conversations/:id/messages'

describe('the route', () => {
  let service: Service
  let ann: Client
  beforeAll(async () => {
    service = await startService()
    ann = await service.as('ann')
  })
  afterAll(() => service.close())

  it('answers a service in the text format of Prometheus', async () => {
    const answer = await ask(service.origin, { path, token: serviceKey })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(answer.body).toMatch(/^# HELP http_request_duration_seconds /m)
    expect(String(answer.body).endsWith('\n')).toBe(true)
  })

  it('answers HEAD with headers alone', async () => {
    const answer = await ask(service.origin, { path, method: 'HEAD', token: serviceKey })
    expect(answer).toMatchObject({ status: 200, body: '' })
  })

  it.each<[what: string, key: string | undefined]>([
    ['no key', undefined],
    ['a wrong key', 'x'.repeat(serviceKey.length)],
  ])('is closed to %s: 401', async (_what, token) => {
    expectProblem(await ask(service.origin, { path, token }), { status: 401, code: 'unauthorized', path })
  })

  it("is closed to a user's token: 403", async () => {
    const answer = await ask(service.origin, { path, token: ann.token })
    expectProblem(answer, { status: 403, code: 'forbidden', path })
  })

  it('is at the root alone', async () => {
    const answer = await ask(service.origin, { path: '/api/chat/metrics', token: serviceKey })
    expectProblem(answer, { status: 404, code: 'route_not_found', path: '/api/chat/metrics' })
  })

  it('stands on the API page', async () => {
    const { body } = await service.anonymous.get<{ paths: Record<string, unknown> }>('/docs/openapi.json')
    expect(body.paths[path]).toMatchObject({
      get: { responses: { 200: { content: { 'text/plain': { schema: { type: 'string' } } } } } },
    })
  })
})

describe('where it is closed', () => {
  it('no service key is configured: 503, to whoever asks', async () => {
    const service = await startService({ env: { INTERNAL_SERVICE_KEY: '' } })
    try {
      const answer = await ask(service.origin, { path, token: serviceKey })
      expectProblem(answer, { status: 503, code: 'service_scope_closed', path })
    } finally {
      await service.close()
    }
  })

  it('ENABLE_METRICS=false: 404 as for any URL that is not there, and the API page does not know it', async () => {
    const service = await startService({ env: { ENABLE_METRICS: 'false' } })
    try {
      for (const token of [serviceKey, undefined])
        expectProblem(await ask(service.origin, { path, token }), {
          status: 404,
          code: 'route_not_found',
          path,
        })
      const { body } = await service.anonymous.get<{ paths: Record<string, unknown> }>('/docs/openapi.json')
      expect(Object.keys(body.paths)).not.toContain(path)
    } finally {
      await service.close()
    }
  })
})

describe('what it says', () => {
  let service: Service
  let ann: Client
  beforeEach(async () => {
    service = await startService()
    ann = await service.as('ann')
  })
  afterEach(() => service.close())

  const sent = { method: 'POST', route: sendRoute, status_code: '200' }

  it('of a stream: it is counted when it begins, by the time to its headers, and seen while it is open', async () => {
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${await ann.conversation()}/messages`, { content: 'go' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    const during = await scrape(service.origin)
    expect(during.value('http_request_duration_seconds_count', sent)).toBe(1)
    expect(during.value('rivulet_viewers')).toBe(1)
    expect(during.value('rivulet_generations_running')).toBe(1)
    await delay(300)
    gate.end()
    await stream.ended
    await eventually(async () => (await scrape(service.origin)).value('rivulet_viewers')).toBe(0)
    const after = await scrape(service.origin)
    expect(after.value('rivulet_generations_running')).toBe(0)
    expect(after.value('http_request_duration_seconds_count', sent)).toBe(1)
    expect(after.value('http_request_duration_seconds_sum', sent)).toBe(
      during.value('http_request_duration_seconds_sum', sent),
    )
  })

  it('of an answer that is waited for: it is counted when it was sent, with all its time', async () => {
    const gate = gated()
    service.upstream.script(gate)
    const answering = ann.post(`/conversations/${await ann.conversation()}/messages`, { content: 'go' })
    await service.upstream.nextRequest()
    gate.release(1)
    await delay(310)
    expect((await scrape(service.origin)).value('http_request_duration_seconds_count', sent)).toBeUndefined()
    gate.end()
    await answering
    const { value } = await scrape(service.origin)
    expect(value('http_request_duration_seconds_count', sent)).toBe(1)
    expect(value('http_request_duration_seconds_sum', sent)).toBeGreaterThan(0.3)
  })

  it('of a stream that is refused before it begins: its status', async () => {
    const missing = '01900000-0000-7000-8000-000000000000'
    const refused = await ann.stream(`/conversations/${missing}/messages`, { content: 'go' })
    expect(refused.status).toBe(404)
    const { value } = await scrape(service.origin)
    expect(value('http_request_duration_seconds_count', { ...sent, status_code: '404' })).toBe(1)
  })

  it('of those who ask for anything: nothing that they made up, and no series more', async () => {
    const flood = async (seed: string) => {
      const methods = ['GET', 'POST', 'PROPFIND', 'MKCOL', 'PURGE', 'DELETE', 'OPTIONS']
      for (let n = 0; n < 60; n++) {
        const word = `${seed}${n}`
        await Promise.all([
          ...methods.map((method) => ask(service.origin, { method, path: `/${word}/${word}?${word}` })),
          ask(service.origin, { path: `/${word}%E0%A4%A` }),
          ask(service.origin, { path: `/docs/${word}` }),
          ask(service.origin, { path: `/api/chat/conversations/${word}`, token: ann.token }),
          ask(service.origin, { method: 'PURGE', path: `/api/chat/conversations/${word}`, token: ann.token }),
          ann.post('/conversations', { model: word }),
        ])
      }
      return scrape(service.origin)
    }
    await scrape(service.origin)
    const first = await flood('wolf')
    const second = await flood('bear')
    expect([...second.series.keys()].filter((key) => !first.series.has(key))).toEqual([])
    expect(second.text).not.toMatch(/wolf|bear|PROPFIND|PURGE/)
    const unmatched = { route: 'unmatched', status_code: '404' }
    expect(
      second.value('http_request_duration_seconds_count', { method: 'other', ...unmatched }),
    ).toBeGreaterThan(100)
  })

  it('of answers: how they ended, what they took, and how long', async () => {
    const usage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 }
    service.upstream.script(answer('one', { usage }), answer('two', { usage }))
    const id = await ann.conversation()
    for (const as of representations) await takeTurn(ann, id, as)
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    await ann.post(stream.headers.get('content-location')?.replace(/stream$/, 'stop') ?? '')
    await stream.ended
    const { value } = await scrape(service.origin)
    const model = DEMO_MODEL_ID
    expect(value('rivulet_generations_total', { model, outcome: 'complete' })).toBe(2)
    expect(value('rivulet_generations_total', { model, outcome: 'stopped' })).toBe(1)
    expect(value('rivulet_generation_duration_seconds_count', { outcome: 'complete' })).toBe(2)
    expect(value('rivulet_first_token_seconds_count', { outcome: 'stopped' })).toBe(1)
    // What was stopped is estimated, and there is some of it.
    const [stored] = await service.sql<{ prompt: number; completion: number }[]>`
      select sum(prompt_tokens)::int as prompt, sum(completion_tokens)::int as completion from chat.usage_tracking`
    expect(stored?.prompt).toBeGreaterThan(200)
    expect(value('token_usage_total', { model, type: 'prompt' })).toBe(stored?.prompt)
    expect(value('token_usage_total', { model, type: 'completion' })).toBe(stored?.completion)
  })

  it('of everybody: their active conversations, the hardest user, the jobs', async () => {
    const bob = await service.as('bob')
    const ids = [await ann.conversation(), await ann.conversation(), await bob.conversation()]
    await ann.request('DELETE', `/conversations/${ids[0] ?? ''}`)
    await useTokens('ann', 3_000, '10 min')
    await useTokens('ann', 4_000, '50 min')
    await useTokens('ann', 90_000, '70 min')
    await useTokens('bob', 5_000, '1 min')
    for (const [status, afterS] of [
      ['queued', -1],
      ['queued', 3_600],
      ['dead', -1],
      ['dead', 3_600],
    ] as const)
      await service.sql`
        insert into chat.jobs (id, kind, key, payload, status, run_at)
        values (gen_random_uuid(), 'elsewhere', gen_random_uuid(), '{}', ${status}, now() + make_interval(secs => ${afterS}))`
    const unread = await scrape(service.origin)
    expect(unread.value('conversations_active_total')).toBeUndefined()
    await eventually(async () => (await scrape(service.origin)).value('conversations_active_total')).toBe(2)
    const { value } = await scrape(service.origin)
    expect(value('rivulet_user_tokens_hour_max')).toBe(7_000)
    expect(value('rivulet_jobs_queued')).toBe(1)
    expect(value('rivulet_jobs_dead')).toBe(2)
  })

  it('of the database: that it is there, and its connections', async () => {
    await scrape(service.origin)
    await eventually(async () => (await scrape(service.origin)).value('rivulet_database_up')).toBe(1)
    const { value } = await scrape(service.origin)
    for (const pool of ['requests', 'settling']) {
      expect(value('rivulet_database_waiting', { pool })).toBe(0)
      expect(value('rivulet_database_connections', { pool, state: 'idle' })).toBeGreaterThanOrEqual(0)
    }
    // Now and then one does background work.
    await eventually(async () =>
      (await scrape(service.origin)).value('rivulet_database_connections', {
        pool: 'requests',
        state: 'busy',
      }),
    ).toBe(0)
  })

  it('of the process: its memory, its time, its event loop; and sockets, of which there are none yet', async () => {
    const { value } = await scrape(service.origin)
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(10_000_000)
    expect(value('process_cpu_seconds_total')).toBeGreaterThan(0.1)
    expect(value('process_start_time_seconds')).toBeLessThan(Date.now() / 1000)
    expect(value('nodejs_version_info', { version: process.version })).toBe(1)
    expect(value('rivulet_event_loop_delay_seconds', { percentile: '99' })).toBeLessThan(5)
    expect(value('rivulet_sockets')).toBe(0)
  })

  it('of the event loop: how late it was since the scrape before, and not before that', async () => {
    await scrape(service.origin)
    // What is late is late after something: the monitor comes round every 20 ms.
    await delay(100)
    const untilMs = performance.now() + 400
    while (performance.now() < untilMs);
    const late = { percentile: '100' }
    const blocked = await scrape(service.origin)
    expect(blocked.value('rivulet_event_loop_delay_seconds', late)).toBeGreaterThan(0.3)
    await delay(100)
    const rested = await scrape(service.origin)
    expect(rested.value('rivulet_event_loop_delay_seconds', late)).toBeLessThan(0.3)
  })

  /** So long ago: its id begins with the time too. */
  async function useTokens(user: string, tokens: number, ago: string): Promise<void> {
    await service.sql`
      insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
        completion_tokens, total_tokens, cost, is_free_model, source, created_at)
      select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
          || '8' || substr(md5(random()::text), 1, 15))::uuid,
        ${user}, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), ${DEMO_MODEL_ID}, ${tokens}, 0, ${tokens}, 0,
        true, 'reported', at
      from (select now() - ${ago}::interval as at) as moment`
  }
})

describe('a job', () => {
  it('that is given up is told, and one whose end was expected is not', async () => {
    const bench = await startBench()
    try {
      let given = 0
      bench.worker(
        {
          k: handler(async ({ key }) => ({ kind: 'dead', why: 'tried', expected: key === 'expected' })),
        },
        { gaveUp: () => given++ },
      )
      await bench.add({ key: 'expected' }, { key: 'unexpected' })
      await eventually(async () => (await bench.rows()).map(({ status }) => status)).toEqual(['dead', 'dead'])
      await eventually(() => given).toBe(1)
    } finally {
      await bench.close()
    }
  })
})
