/** Every way in which an upstream can fail, as both representations tell it and as it is stored. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as demo from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'
import { representations, takeTurn, type Representation, type Turn } from '../support/turn.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService({ env: { UPSTREAM_RETRY_MS: '1' } })
  ann = await service.as('ann')
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

interface Failure {
  name: string
  behaviour: demo.Behaviour
  code: string
  /** of the JSON answer */
  status: number
  retryable?: boolean
  /** seconds; undefined: any, but some with a 503 */
  retryAfter?: number
  stored?: 'failed' | 'interrupted'
  /** how many of the sample's tokens were said before it */
  tokens?: number
  usage?: 'estimated' | 'reported'
  /** how often the upstream is asked; default: once */
  calls?: number
}

const other400 = { error: { code: 400, message: 'temperature: out of range for Provider X' } }
const refused = { code: 'upstream_refused', status: 502, retryable: false }
const failed = { code: 'upstream_error', status: 502, retryable: true }
const unavailable = { code: 'upstream_unavailable', status: 503, retryable: true }
/** Said nothing, and may do better in a moment: asked three times. */
const thrice = { calls: 3 }
const timedOut = { code: 'upstream_timeout', status: 504, retryable: true }
const quota = { code: 'upstream_quota', status: 503, retryable: true }
const kept = { tokens: 3, usage: 'estimated' } as const
const { httpError, errorAfter, malformedAfter, cutAfter, withoutFinish } = demo
const filtered = { steps: [demo.finish('content_filter'), demo.usage, demo.done] }
const onlyThoughts = { steps: [demo.reason(['hm']), demo.finish('length'), demo.usage, demo.done] }
const brokenOff = { ...failed, stored: 'interrupted', ...kept } as const

const failures: Failure[] = [
  {
    name: '400, context too long',
    behaviour: httpError(400),
    code: 'context_too_long',
    status: 422,
    retryable: false,
    // Once more with half of the history.
    calls: 2,
  },
  {
    name: '400, anything else',
    behaviour: httpError(400, { body: other400 }),
    code: 'upstream_error',
    status: 502,
  },
  { name: '401', behaviour: httpError(401), ...refused },
  { name: '402', behaviour: httpError(402), ...quota },
  { name: '403', behaviour: httpError(403), ...refused },
  { name: '404', behaviour: httpError(404), code: 'upstream_error', status: 502 },
  { name: '408', behaviour: httpError(408), ...timedOut, ...thrice },
  { name: '409', behaviour: httpError(409), ...failed, ...thrice },
  { name: '429 of a provider', behaviour: httpError(429), ...quota, retryAfter: 5 },
  {
    name: '429 with Retry-After',
    behaviour: httpError(429, { headers: { 'retry-after': '17' } }),
    ...quota,
    retryAfter: 17,
  },
  { name: '500', behaviour: httpError(500), ...failed, ...thrice },
  {
    name: '500 with a page',
    behaviour: httpError(500, { body: '<html>nginx at 10.0.0.7</html>' }),
    ...failed,
    ...thrice,
  },
  { name: '502', behaviour: httpError(502), ...unavailable, ...thrice },
  { name: '503', behaviour: httpError(503), ...unavailable, ...thrice },
  { name: '524', behaviour: httpError(524), ...timedOut, ...thrice },
  { name: '529', behaviour: httpError(529), ...unavailable, ...thrice },
  { name: 'a reset', behaviour: demo.reset(), ...unavailable, ...thrice },
  { name: 'a redirect', behaviour: demo.redirect(), ...failed, retryable: false },
  { name: '200 with a JSON error', behaviour: demo.jsonError(), ...unavailable, ...thrice },
  { name: '200 with a JSON error of 401', behaviour: demo.jsonError({ code: 401 }), ...refused },
  { name: '200 with a page', behaviour: demo.htmlPage(), ...failed, ...thrice },
  { name: '200 with nothing', behaviour: demo.empty(), ...failed, ...thrice },
  { name: 'no JSON before the text', behaviour: malformedAfter(0), ...failed, ...thrice },
  { name: 'no JSON in the text', behaviour: malformedAfter(3), ...failed, ...kept },
  { name: 'an error before the text', behaviour: errorAfter(0), ...unavailable, ...thrice },
  { name: 'an error in the text', behaviour: errorAfter(3), ...unavailable, ...kept },
  {
    name: 'an error with choices: []',
    behaviour: errorAfter(3, { choices: 'none' }),
    ...unavailable,
    ...kept,
  },
  {
    name: 'an error of 401 in the text',
    behaviour: errorAfter(3, { error: { code: '401' } }),
    ...refused,
    ...kept,
  },
  {
    name: 'an error in words',
    behaviour: errorAfter(3, { error: { code: 'server_error' } }),
    ...failed,
    ...kept,
  },
  { name: 'a cut before the text', behaviour: cutAfter(0), ...unavailable, ...thrice },
  { name: 'a cut in the text', behaviour: cutAfter(3), ...brokenOff },
  { name: 'an end before the text', behaviour: withoutFinish(0), ...failed, ...thrice },
  { name: 'an end in the text', behaviour: withoutFinish(3), ...brokenOff },
  { name: 'content_filter without text', behaviour: filtered, ...refused, usage: 'reported' },
  { name: 'reasoning without text', behaviour: onlyThoughts, ...failed, usage: 'reported' },
]

/** Words of the upstream, of its hosts, of our machine. */
const secrets =
  /maximum context|auth credentials|insufficient|openrouter|flagged|moderation|violence|timed out$|provider (returned|disconnected|x)|overloaded|rate limit exceeded|nginx|sign in|<html|<!doctype|127\.0\.0\.1|localhost|10\.0\.0\.7|econn|undici|node_modules|\.ts:\d|stack/i

describe.each(representations)('as %s', (as) => {
  it.each(failures)('$name: $code', async (failure) => {
    const id = await ann.conversation()
    service.upstream.always(failure.behaviour)
    const turn = await takeTurn(ann, id, as)
    expectTold(turn, as, failure)
    expect(service.upstream.requests).toHaveLength(failure.calls ?? 1)

    const text = demo.someTokens(failure.tokens ?? 0).join('')
    expect(turn.shown).toBe(text)
    expect(turn.assistant).toMatchObject({ content: text, status: failure.stored ?? 'failed' })
    expect(turn.assistant.metadata['error']).toMatchObject({ code: failure.code })
    expect(turn.assistant.usage?.source).toBe(failure.usage)
    for (const message of [turn.user, turn.assistant])
      expect((await ann.get<Message>(`/conversations/${id}/messages/${message.id}`)).body).toEqual(message)

    await expectUsable(id, as, text)
  })
})

function expectTold(turn: Turn, as: Representation, failure: Failure): void {
  const { code, status, retryable, retryAfter } = failure
  expect(turn.error?.code).toBe(code)
  if (as === 'json') {
    expect(turn.status).toBe(status)
    expect(turn.headers.get('content-type')).toContain('application/problem+json')
    expect(turn.headers.get('retry-after')).toBe(turn.error?.retry_after?.toString() ?? null)
  } else {
    expect(turn.status).toBe(200)
    const types = turn.frames.map(({ data }) => data.type)
    expect(types.filter((type) => type === 'complete' || type === 'error')).toEqual(['error'])
    expect(types.at(-1)).toBe('error')
    expect(turn.error?.retryable).toEqual(retryable ?? expect.any(Boolean))
  }
  if (status === 503) expect(turn.error?.retry_after).toBeGreaterThanOrEqual(1)
  // A limit's end comes nearer while the tests run.
  if (retryAfter !== undefined) {
    expect(turn.error?.retry_after).toBeLessThanOrEqual(retryAfter)
    expect(turn.error?.retry_after).toBeGreaterThan(retryAfter - 60)
  }
  expect(turn.raw).not.toMatch(secrets)
}

/** The next send answers, in one upstream call, which is not sent an empty answer. */
async function expectUsable(id: string, as: Representation, text: string): Promise<void> {
  service.upstream.forget()
  service.upstream.script(demo.answer('All is well.'))
  const next = await takeTurn(ann, id, as, { content: 'And now?' })
  expect(next.assistant).toMatchObject({ content: 'All is well.', status: 'complete' })
  expect(service.upstream.requests).toHaveLength(1)
  const [request] = service.upstream.requests
  expect(request?.body.messages.slice(1).map(({ content }) => content)).toEqual([
    ...(text === '' ? ['Hello?', '(No answer.)', 'And now?'] : ['Hello?', text, 'And now?']),
  ])
}

describe.each(representations)('as %s, what looks odd and is an answer', (as) => {
  const sample = demo.someTokens(3).join('')
  it.each([
    { name: 'no [DONE]', behaviour: demo.withoutDone(), reason: 'stop' },
    { name: 'tokens after [DONE]', behaviour: demo.tokensAfterDone(), reason: 'stop' },
    {
      name: 'content_filter after text',
      behaviour: demo.answer(sample, { finishReason: 'content_filter' }),
      reason: 'content_filter',
    },
    {
      name: 'the limit of tokens',
      behaviour: demo.answer(sample, { finishReason: 'length' }),
      reason: 'length',
    },
  ])('$name is complete, with the usage that was reported', async ({ behaviour, reason }) => {
    service.upstream.script(behaviour)
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(turn.error).toBeUndefined()
    expect(turn.shown).toBe(sample)
    expect(turn.assistant).toMatchObject({
      content: sample,
      status: 'complete',
      metadata: { finish_reason: reason },
      usage: { source: 'reported' },
    })
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('names that cannot be stored are made storable, and the answer is stored', async () => {
    const names = JSON.stringify({ id: 'g\0\ud83d', model: 'm\0\ud83d', choices: [] })
    service.upstream.script({
      steps: [{ kind: 'data', text: names }, demo.say(['kept']), demo.finish('st\0op'), demo.done],
    })
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(turn.assistant).toMatchObject({ content: 'kept', status: 'complete' })
  })
})
