/** Promises about which model answers, attacked: in the middle of a change of models, by detours, and by many at once. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import * as demo from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { createAttempts } from '../../src/upstream/attempts.ts'
import { createBreakers } from '../../src/upstream/breakers.ts'
import { UpstreamFailed, type FailureKind } from '../../src/upstream/failures.ts'
import { createFreeTurns } from '../../src/upstream/free-turns.ts'
import { createLatencies } from '../../src/upstream/latency.ts'
import { createUpstream } from '../../src/upstream/openrouter.ts'
import { textOf, type Client, type OpenStream } from '../support/client.ts'
import { scrape } from '../support/metrics.ts'
import { first, paid, second, startPriced } from '../support/priced.ts'
import type { Service } from '../support/service.ts'
import { takeTurn } from '../support/turn.ts'
import { exact, sum } from '../support/usage.ts'

const { answer, httpError, gated, hang, reason, finish, usage, done, comment } = demo

let service: Service
let ann: Client

async function start(env: Record<string, string> = {}, upstreamModel = first): Promise<void> {
  const started = await startPriced(env, upstreamModel)
  service = started.service
  ann = started.ann
}
async function restart(env: Record<string, string>, upstreamModel = first): Promise<void> {
  await service.close()
  await start(env, upstreamModel)
}
beforeEach(() => start())
afterEach(() => service.close())

const asked = () => service.upstream.requests.map(({ body }) => body.model)
const messageOf = async (stream: OpenStream) =>
  (await stream.until(({ data }) => data.type === 'assistant_start')).data['message'] as Message
const typesOf = (stream: OpenStream) => stream.frames.map(({ data }) => data.type)

/** An answer whose first model has failed and whose next one is being asked, or waited for. */
async function begin(headers: Record<string, string> = {}) {
  const id = await ann.conversation()
  const path = `/conversations/${id}/messages`
  const stream = await ann.stream(path, { content: 'go' }, headers)
  return { id, path, stream, message: await messageOf(stream) }
}

describe('in the middle of a change of models', () => {
  it.each([
    ['a back-off', '60000', ''],
    ['a silent second model', '1', second],
  ])(
    '%s: a delete, an interrupt and the end of the service stop it, and nobody else is asked',
    async (_n, retry, next) => {
      await restart({ UPSTREAM_RETRY_MS: retry, FALLBACK_MODEL: next })
      const failing = [httpError(500), ...(next === '' ? [] : [hang({ after: 'headers' })])]
      const calls = failing.length
      const reached = async () => {
        for (let call = 0; call < calls; call++) await service.upstream.nextRequest()
      }

      service.upstream.script(...failing)
      const deleted = await begin()
      await reached()
      expect((await ann.request('DELETE', `/conversations/${deleted.id}`)).status).toBe(204)
      await deleted.stream.ended
      expect(service.upstream.requests).toHaveLength(calls)

      service.upstream.script(...failing, answer('the new one'))
      const interrupted = await begin()
      await reached()
      const after = await takeTurn(ann, interrupted.id, 'json', { if_generating: 'interrupt' })
      expect(after.assistant.content).toBe('the new one')
      await interrupted.stream.ended
      expect(interrupted.stream.frames.at(-1)?.data).toMatchObject({
        type: 'complete',
        message: { status: 'stopped', content: '' },
      })
      expect(service.upstream.requests).toHaveLength(2 * calls + 1)

      service.upstream.forget()
      service.upstream.script(...failing)
      const cut = await begin()
      await reached()
      await service.app.close(0)
      const frames = await cut.stream.ended
      expect(frames.at(-1)?.data).toMatchObject({ type: 'error', message: { status: 'interrupted' } })
      expect(service.upstream.requests).toHaveLength(calls)
    },
  )

  it('20 retries with one key are one turn, in one conversation, by two calls', async () => {
    const gate = gated({ tokens: ['once'] })
    service.upstream.script(httpError(500), gate)
    const id = await ann.conversation()
    const path = `/conversations/${id}/messages`
    const key = { 'idempotency-key': 'again and again' }
    const streams = [await ann.stream(path, { content: 'go' }, key)]
    await service.upstream.nextRequest()
    await service.upstream.nextRequest()
    streams.push(
      ...(await Promise.all(Array.from({ length: 20 }, () => ann.stream(path, { content: 'go' }, key)))),
    )
    await Promise.all(streams.map(messageOf))
    gate.release(1)
    gate.end()
    for (const stream of streams) {
      await stream.ended
      expect(stream.frames.at(-1)?.data).toMatchObject({ type: 'complete', message: { content: 'once' } })
    }
    expect(asked()).toEqual([first, second])
    const { body } = await ann.get<{ messages: Message[] }>(path)
    expect(body.messages).toHaveLength(2)
  })

  it('a viewer resumes at each of its frames exactly, status frames too, and nothing follows the end', async () => {
    service.upstream.script(httpError(500), answer(['a', 'b', 'c'], { perTokenMs: 30, delayMs: 30 }))
    const { stream, path, message } = await begin()
    const all = await stream.ended
    expect(typesOf(stream).slice(0, 3)).toEqual(['user_message', 'assistant_start', 'status'])
    expect(all.filter(({ data }) => data.type === 'complete' || data.type === 'error')).toEqual([all.at(-1)])
    for (const [index, { id }] of all.slice(0, -1).entries()) {
      const resumed = await ann.stream(`${path}/${message.id}/stream`, undefined, { 'last-event-id': id })
      const rest = await resumed.ended
      expect(textOf(rest)).toBe(textOf(all.slice(index + 1)))
      expect(rest.filter(({ data }) => data.type === 'status').length).toBe(index < 2 ? 1 : 0)
      expect(rest.every(({ seq }) => seq > (all[index]?.seq ?? 0))).toBe(true)
    }
  })

  it('reasoning counts as an answer begun: what fails behind it is not asked again', async () => {
    service.upstream.script({ steps: [comment, reason(['Hm']), ...demo.errorAfter(0).steps.slice(1)] })
    const turn = await takeTurn(ann, await ann.conversation(), 'sse')
    expect(asked()).toEqual([first])
    expect(turn.assistant).toMatchObject({ status: 'failed', metadata: { reasoning: 'Hm' } })
  })
})

it('a model that fails after it was sent less gets its moment of rest too', async () => {
  await restart({ UPSTREAM_RETRY_MS: '400', FALLBACK_MODEL: '' })
  service.upstream.script(httpError(400), httpError(503), answer('ok'))
  const turn = await takeTurn(ann, await ann.conversation(), 'json')
  expect(turn.assistant.content).toBe('ok')
  const [, failed = 0, again = 0] = service.upstream.requests.map(({ receivedAt }) => receivedAt)
  expect(again - failed).toBeGreaterThan(350)
})

describe('the books and the figures after a change of models', () => {
  const rowsOf = (message: Message) => service.sql<{ model: string; source: string; cost: string | null }[]>`
    select model, source, cost from chat.usage_tracking where message_id = ${message.id} order by id`

  it('hold nothing for an attempt that had failed before its user stopped the answer', async () => {
    await restart({ FALLBACK_MODEL: demo.PAID_MODEL_ID })
    const eve = await service.as('eve', { tier: 'premium' })
    service.upstream.script(httpError(500), demo.errorAfter(0), hang({ after: 'headers' }))
    const id = await eve.conversation()
    const stream = await eve.stream(`/conversations/${id}/messages`, { content: 'go', model: paid })
    const message = await messageOf(stream)
    const calls = [1, 2, 3].map(() => service.upstream.nextRequest())
    const [, , silent] = await Promise.all(calls)
    await eve.post(`/conversations/${id}/messages/${message.id}/stop`)
    await stream.ended
    expect(asked()).toEqual([paid, first, demo.PAID_MODEL_ID])
    expect(silent?.model).toBe(demo.PAID_MODEL_ID)
    expect(await rowsOf(message)).toEqual([{ model: demo.PAID_MODEL_ID, source: 'estimated', cost: null }])
  })

  it('add up what a failed attempt reported and what answered, to the last digit, in all three sums', async () => {
    const eve = await service.as('eve', { tier: 'premium' })
    const wordless = (cost: number) => ({
      usage: { cost },
      steps: [comment, finish('length'), usage, done],
    })
    const costs: [number, number][] = [
      [1e-30, 0.1],
      [0.2, 1e-7],
      [1e21, 0.30000000000000004],
    ]
    let turns = 0
    for (const [failed, told] of costs) {
      service.upstream.script(wordless(failed), answer('yes', { usage: { cost: told } }))
      const id = await eve.conversation()
      const turn = await takeTurn(eve, id, 'json', { model: paid })
      const both = sum([failed, told].map((cost) => exact(String(cost))))
      expect(exact(turn.assistant.usage?.cost ?? '')).toBe(both)
      const { body } = await eve.get<{ total_cost: string }>(`/conversations/${id}/usage`)
      expect(exact(body.total_cost)).toBe(both)
      expect(service.upstream.requests).toHaveLength((turns += 2))
    }
    const { body } = await eve.get<{ total_cost: string }>('/api/chat/usage/summary?period=all')
    expect(exact(body.total_cost)).toBe(sum(costs.flat().map((cost) => exact(String(cost)))))
  })

  it.each([
    ['negative', -1],
    ['a string', '0.5'],
    ['not a number', null],
  ])('a cost that is %s is no cost: not zero, not a failure', async (_name, cost) => {
    const eve = await service.as('eve', { tier: 'premium' })
    service.upstream.script(answer('yes', { usage: { cost } as never }))
    const turn = await takeTurn(eve, await eve.conversation(), 'sse', { model: paid })
    expect(turn.assistant).toMatchObject({ status: 'complete', usage: { cost: null, source: 'reported' } })
  })

  it('count as many calls as were made, whatever they came to, under no name that a model made up', async () => {
    service.upstream.script(httpError(429), answer('a', { model: 'made/up' }), httpError(500), httpError(500))
    for (let turn = 0; turn < 3; turn++) await takeTurn(ann, await ann.conversation(), 'json')
    const { series, text } = await scrape(service.origin)
    const counted = [...series].filter(([key]) => key.startsWith('openrouter_requests_total{'))
    const calls = counted.filter(([key]) => !key.includes('skipped'))
    expect(calls.reduce((total, [, value]) => total + value, 0)).toBe(service.upstream.requests.length)
    expect(text).not.toContain('made/up')
  })
})

describe('many at once', () => {
  const failure = (kind: FailureKind, closedForMs?: number) =>
    new UpstreamFailed('upstream_error', kind, { closedForMs })

  it('100 that were asked together and fail together open a breaker once: for its first time, not for its last', () => {
    let nowMs = 1_000
    const breakers = createBreakers({ nowMs: () => nowMs })
    const failAll = (kind: FailureKind, closedForMs?: number) => {
      for (let one = 0; one < 100; one++) breakers.asked(paid)
      for (let one = 0; one < 100; one++) breakers.failed(paid, failure(kind, closedForMs))
      return breakers.closedTo(paid)?.waitMs
    }
    expect(failAll('transient')).toBe(15_000)
    nowMs += 15_000
    expect(failAll('limited', 10_000)).toBe(10_000)
    nowMs += 10_000
    breakers.asked(paid)
    breakers.failed(paid, failure('transient'))
    expect(breakers.closedTo(paid)?.waitMs).toBe(60_000)
  })

  it('the minute’s limit, told late, does not end the day’s', () => {
    const breakers = createBreakers({ nowMs: () => 0 })
    breakers.failed(first, failure('free_quota', 3_600_000))
    breakers.failed(second, failure('free_quota', 60_000))
    expect(breakers.closedTo(first)).toMatchObject({ waitMs: 3_600_000, firm: true })
  })

  it('100 answers at once ask a model whose time has come once: the others are answered by the next', async () => {
    let nowMs = 0
    const breakers = createBreakers({ nowMs: () => nowMs })
    breakers.failed(first, failure('limited', 10))
    nowMs = 10
    const upstream = createUpstream({
      baseUrl: service.upstream.baseUrl,
      apiKey: 'test',
      timeouts: { connectMs: 5_000, firstTextMs: 20_000, idleMs: 20_000, totalMs: 20_000 },
    })
    const gate = gated({ tokens: ['probe'] })
    service.upstream.always(({ model }) => (model === first ? gate : answer('well')))
    const ask = createAttempts({
      upstream,
      breakers,
      freeTurns: createFreeTurns(),
      latencies: createLatencies(),
      observe: () => undefined,
      nowMs: () => nowMs,
      random: Math.random,
      retryMs: 1,
      fallbackAfterMs: 20_000,
    })
    const order = {
      models: [first, second] as const,
      request: (model: string) => ({
        model,
        messages: [{ role: 'user' as const, content: 'x' }],
        temperature: 1,
        maxTokens: 10,
        user: 'u',
        sessionId: 's',
        promptTokens: 1,
      }),
    }
    const switches: string[] = []
    const handlers = {
      opened: () => undefined,
      text: () => undefined,
      reasoning: () => undefined,
      packet: () => undefined,
      switched: (model: string) => void switches.push(model),
    }
    const ends = Array.from({ length: 100 }, () => ask(order, handlers, new AbortController().signal))
    await expect.poll(() => asked().length, { timeout: 10_000 }).toBe(100)
    gate.release(1)
    gate.end()
    const answers = await Promise.all(ends)
    await upstream.close()
    expect(answers.filter(({ error }) => error !== undefined)).toEqual([])
    expect(asked().filter((model) => model === first)).toHaveLength(1)
    expect(switches).toHaveLength(99)
    expect(answers.filter(({ attempts }) => attempts.some(({ skipped }) => skipped))).toHaveLength(99)
  })
})
