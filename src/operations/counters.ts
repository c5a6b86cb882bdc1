/**
 * What is counted as it happens: requests, attempts at the upstream, generations, tokens and cost.
 *
 * Every label is of a closed set, so that nobody outside can make new series: models are those configured, routes are
 * patterns. Series that an alert looks at begin at zero: a counter that begins at one has never risen.
 */
import { Counter, Histogram, type Registry } from 'prom-client'
import { attemptStatuses, outcomes, type AttemptStatus, type Recorder } from './recorder.ts'

export interface Counters extends Recorder {
  requestEnded: (request: {
    method: string
    /** The route's pattern; undefined: there is none. */
    route: string | undefined
    statusCode: number
    durationMs: number
  }) => void
}

/** Models with series of their own. More of them are `other`. */
const modelsMax = 100
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
/** They say nothing about the model: it did well, it was closed by us, or it was not asked. */
const faultless: ReadonlySet<AttemptStatus> = new Set(['complete', 'stopped', 'skipped'])

/** Upper bounds, s. The last ones are for answers that are waited for without a stream. */
const requestBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const firstTokenBuckets = [0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60]
const generationBuckets = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600]

export function createCounters(registry: Registry, knownModels: Iterable<string>): Counters {
  const registers = [registry]
  const known = new Set([...knownModels].slice(0, modelsMax))
  const labelOf = (model: string) => (known.has(model) ? model : 'other')

  const requests = new Histogram({
    name: 'http_request_duration_seconds',
    help:
      'From the request until its answer had been sent; for an event stream until its headers: how long it then stays ' +
      'open is rivulet_generation_duration_seconds. A client that left before its answer is not in it.',
    labelNames: ['method', 'route', 'status_code'],
    buckets: requestBuckets,
    registers,
  })
  const attempts = new Counter({
    name: 'openrouter_requests_total',
    help: 'Requests to the upstream by how they ended. status="skipped": not sent, its breaker was open.',
    labelNames: ['model', 'status'],
    registers,
  })
  const freeRequests = new Counter({
    name: 'free_model_requests_total',
    help: 'Requests to free models, skipped ones left out.',
    registers,
  })
  const freeErrors = new Counter({
    name: 'free_model_errors_total',
    help: 'Those of them that failed or broke off; what we closed ourselves is no error.',
    registers,
  })
  const freeTimes = new Histogram({
    name: 'free_model_response_time_seconds',
    help: 'Whole answers of free models. Failed and stopped ones are not in it.',
    buckets: generationBuckets,
    registers,
  })
  const tokens = new Counter({
    name: 'token_usage_total',
    help: 'Tokens as they were stored when an answer settled, reported or estimated.',
    labelNames: ['model', 'type'],
    registers,
  })
  const cost = new Counter({
    name: 'rivulet_cost_credits_total',
    help: 'Credits (1 = 1 USD) as known when an answer settled: for graphs. The books are in usage_tracking.',
    labelNames: ['model'],
    registers,
  })
  const generations = new Counter({
    name: 'rivulet_generations_total',
    help: 'Answers of this process by how they ended.',
    labelNames: ['model', 'outcome'],
    registers,
  })
  const firstToken = new Histogram({
    name: 'rivulet_first_token_seconds',
    help: "From a generation's start to its first text.",
    labelNames: ['outcome'],
    buckets: firstTokenBuckets,
    registers,
  })
  const durations = new Histogram({
    name: 'rivulet_generation_duration_seconds',
    help: "From a generation's start to its end, before it was stored.",
    labelNames: ['outcome'],
    buckets: generationBuckets,
    registers,
  })
  const jobsGivenUp = new Counter({
    name: 'rivulet_jobs_given_up_total',
    help: 'Jobs that this process moved to the dead list and that somebody should look at.',
    registers,
  })

  for (const model of [...known, 'other']) {
    for (const status of attemptStatuses) attempts.inc({ model, status }, 0)
    for (const outcome of outcomes) generations.inc({ model, outcome }, 0)
    for (const type of ['prompt', 'completion']) tokens.inc({ model, type }, 0)
    cost.inc({ model }, 0)
  }
  for (const outcome of outcomes) {
    firstToken.zero({ outcome })
    durations.zero({ outcome })
  }

  return {
    requestEnded({ method, route = 'unmatched', statusCode, durationMs }) {
      const labels = { method: methods.has(method) ? method : 'other', route, status_code: statusCode }
      if (isAmount(durationMs)) requests.observe(labels, durationMs / 1000)
    },
    attemptEnded({ model, status, isFree, durationMs }) {
      attempts.inc({ model: labelOf(model), status })
      if (!isFree || status === 'skipped') return
      freeRequests.inc()
      if (!faultless.has(status)) freeErrors.inc()
      if (status === 'complete' && isAmount(durationMs)) freeTimes.observe(durationMs / 1000)
    },
    generationSettled({ model: asked, outcome: told, firstTokenMs, durationMs, usages }) {
      const model = labelOf(asked)
      const outcome = told === 'streaming' ? 'interrupted' : told
      generations.inc({ model, outcome })
      if (isAmount(firstTokenMs)) firstToken.observe({ outcome }, firstTokenMs / 1000)
      if (isAmount(durationMs)) durations.observe({ outcome }, durationMs / 1000)
      for (const usage of usages) {
        const user = known.has(usage.model) ? usage.model : model
        const { promptTokens, completionTokens } = usage
        if (isAmount(promptTokens)) tokens.inc({ model: user, type: 'prompt' }, promptTokens)
        if (isAmount(completionTokens)) tokens.inc({ model: user, type: 'completion' }, completionTokens)
        const credits = Number(usage.cost ?? 0)
        if (isAmount(credits)) cost.inc({ model: user }, credits)
      }
    },
    jobGivenUp: () => jobsGivenUp.inc(),
  }
}

/** What comes from an upstream may be anything, and prom-client throws at what it cannot add. */
const isAmount = (value: number | null | undefined): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0
