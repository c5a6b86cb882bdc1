/** What machines tell, and what a scrape shows of it. */
import { Registry } from 'prom-client'
import { beforeEach, describe, expect, it } from 'vitest'
import { attemptStatusOf } from '../../src/operations/attempt-status.ts'
import { createCounters, type Counters } from '../../src/operations/counters.ts'
import { attemptStatuses, type AttemptStatus } from '../../src/operations/recorder.ts'
import { failureToError, transient } from '../../src/upstream/failures.ts'
import { readExposition } from '../support/metrics.ts'

const free = 'small:free'
const paid = 'large'

let registry: Registry
let counters: Counters

beforeEach(() => {
  registry = new Registry()
  counters = createCounters(registry, [free, paid])
})
const read = async () => readExposition(await registry.metrics())

const complete = {
  model: paid,
  outcome: 'complete',
  firstTokenMs: 400,
  durationMs: 4_000,
  usages: [{ model: paid, promptTokens: 10, completionTokens: 20, cost: '0.00125' }],
} as const

describe('an attempt', () => {
  it('is counted by its model and how it ended', async () => {
    counters.attemptEnded({ model: paid, status: 'quota', isFree: false, durationMs: 5 })
    counters.attemptEnded({ model: paid, status: 'complete', isFree: false, durationMs: 900 })
    const { value } = await read()
    expect(value('openrouter_requests_total', { model: paid, status: 'quota' })).toBe(1)
    expect(value('openrouter_requests_total', { model: paid, status: 'complete' })).toBe(1)
    expect(value('free_model_requests_total')).toBe(0)
  })

  it('of a free model is an error unless it did well, or was closed by us; not sent, it is no request', async () => {
    for (const status of attemptStatuses)
      counters.attemptEnded({ model: free, status, isFree: true, durationMs: 3_000 })
    const { value } = await read()
    expect(value('free_model_requests_total')).toBe(attemptStatuses.length - 1)
    expect(value('free_model_errors_total')).toBe(attemptStatuses.length - 3)
    expect(value('openrouter_requests_total', { model: free, status: 'skipped' })).toBe(1)
    // Only a whole answer says how long one takes.
    expect(value('free_model_response_time_seconds_count')).toBe(1)
    expect(value('free_model_response_time_seconds_sum')).toBe(3)
  })

  it('is there before the first of its kind, so that the first is seen to rise', async () => {
    const { value } = await read()
    for (const model of [free, paid, 'other'])
      for (const status of attemptStatuses)
        expect(value('openrouter_requests_total', { model, status })).toBe(0)
  })
})

describe("an attempt's end", () => {
  const answered = { skipped: false, stopped: false, error: undefined, answer: { finishReason: 'stop' } }
  const refusal = (status: number, message = '') => failureToError({ status, message })

  it.each<[AttemptStatus, Partial<Parameters<typeof attemptStatusOf>[0]>]>([
    ['complete', {}],
    ['interrupted', { answer: {} }],
    ['stopped', { stopped: true, answer: {} }],
    ['stopped', { stopped: true, error: transient('upstream_error') }],
    ['skipped', { skipped: true, error: refusal(429) }],
    ['quota', { error: refusal(402) }],
    ['quota', { error: refusal(429, 'limit exceeded: free-models-per-day') }],
    ['rate_limited', { error: refusal(429) }],
    ['refused', { error: refusal(401) }],
    ['too_long', { error: refusal(400, 'maximum context length') }],
    ['unavailable', { error: refusal(503) }],
    ['unavailable', { error: refusal(404) }],
    ['timeout', { error: refusal(504) }],
    ['error', { error: refusal(500) }],
    ['error', { error: refusal(400) }],
    ['error', { error: { code: 'internal_error' } }],
  ])('is %s: %j', (status, end) => {
    expect(attemptStatusOf({ ...answered, ...end })).toBe(status)
  })
})

describe('a generation', () => {
  it('is counted with its tokens, its cost and its times', async () => {
    counters.generationSettled(complete)
    const { value } = await read()
    expect(value('rivulet_generations_total', { model: paid, outcome: 'complete' })).toBe(1)
    expect(value('token_usage_total', { model: paid, type: 'prompt' })).toBe(10)
    expect(value('token_usage_total', { model: paid, type: 'completion' })).toBe(20)
    expect(value('rivulet_cost_credits_total', { model: paid })).toBeCloseTo(0.00125, 12)
    expect(value('rivulet_first_token_seconds_sum', { outcome: 'complete' })).toBeCloseTo(0.4, 12)
    expect(value('rivulet_generation_duration_seconds_sum', { outcome: 'complete' })).toBe(4)
  })

  it('without text has no first token, and without usage no tokens', async () => {
    counters.generationSettled({ ...complete, outcome: 'failed', firstTokenMs: null, usages: [] })
    const { value } = await read()
    expect(value('rivulet_generations_total', { model: paid, outcome: 'failed' })).toBe(1)
    expect(value('rivulet_first_token_seconds_count', { outcome: 'failed' })).toBe(0)
    expect(value('rivulet_generation_duration_seconds_count', { outcome: 'failed' })).toBe(1)
    expect(value('token_usage_total', { model: paid, type: 'prompt' })).toBe(0)
  })

  it('of several attempts is paid by the models that took the tokens; a name nobody knows is the one asked', async () => {
    counters.generationSettled({
      ...complete,
      usages: [
        { model: free, promptTokens: 1, completionTokens: 0, cost: '0' },
        { model: `${paid}-2026-01-01`, promptTokens: 2, completionTokens: 3, cost: null },
      ],
    })
    const { value } = await read()
    expect(value('token_usage_total', { model: free, type: 'prompt' })).toBe(1)
    expect(value('token_usage_total', { model: paid, type: 'prompt' })).toBe(2)
    expect(value('rivulet_cost_credits_total', { model: paid })).toBe(0)
  })

  it('that nobody could read the end of is interrupted', async () => {
    counters.generationSettled({ ...complete, outcome: 'streaming' })
    expect((await read()).value('rivulet_generations_total', { model: paid, outcome: 'interrupted' })).toBe(1)
  })
})

describe('what makes no sense', () => {
  it.each<[what: string, amount: number]>([
    ['nothing that is a number', NaN],
    ['less than nothing', -1],
    ['more than all', Infinity],
  ])('is left out, and hurts nobody: %s', async (_what, amount) => {
    counters.attemptEnded({ model: free, status: 'complete', isFree: true, durationMs: amount })
    counters.requestEnded({ method: 'GET', route: '/x', statusCode: 200, durationMs: amount })
    counters.generationSettled({
      ...complete,
      firstTokenMs: amount,
      durationMs: amount,
      usages: [{ model: paid, promptTokens: amount, completionTokens: amount, cost: String(amount) }],
    })
    counters.generationSettled({ ...complete, usages: [{ ...complete.usages[0], cost: 'a lot' }] })
    const { series, value } = await read()
    expect([...series].filter(([, told]) => !Number.isFinite(told) || told < 0)).toEqual([])
    expect(value('rivulet_generations_total', { model: paid, outcome: 'complete' })).toBe(2)
    expect(value('token_usage_total', { model: paid, type: 'prompt' })).toBe(10)
  })
})

describe('labels', () => {
  it('are of closed sets: 10,000 models and methods nobody knows are one more of each', async () => {
    const before = (await read()).series.size
    for (let n = 0; n < 10_000; n++) {
      const model = `model-${n}\n"}${'x'.repeat(n % 50)}`
      counters.attemptEnded({ model, status: 'error', isFree: false, durationMs: 1 })
      counters.generationSettled({ ...complete, model, usages: [{ ...complete.usages[0], model }] })
      counters.requestEnded({ method: `METHOD${n}`, route: undefined, statusCode: 404, durationMs: 1 })
    }
    const { series, value } = await read()
    expect(value('openrouter_requests_total', { model: 'other', status: 'error' })).toBe(10_000)
    expect(value('token_usage_total', { model: 'other', type: 'prompt' })).toBe(100_000)
    const requests = [...series.keys()].filter((key) => key.startsWith('http_request_duration_seconds_count'))
    expect(requests).toEqual([
      'http_request_duration_seconds_count{method="other",route="unmatched",status_code="404"}',
    ])
    // That histogram's buckets, sum and count; nothing else.
    expect(series.size - before).toBe(16)
  })

  it('know a hundred models and no more, however many are configured', async () => {
    const many = new Registry()
    createCounters(
      many,
      Array.from({ length: 5_000 }, (_, n) => `m${n}`),
    )
    const { series } = readExposition(await many.metrics())
    expect([...series.keys()].filter((key) => key.startsWith('rivulet_cost_credits_total'))).toHaveLength(101)
  })
})
