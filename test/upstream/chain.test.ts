/** Which models are asked for an answer, in which order, and which never. The upstream is scripted, the rest is real. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import * as demo from '../../src/embedded/demo-model.ts'
import type { Resolved } from '../../src/app.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'
import { representations, takeTurn } from '../support/turn.ts'

const first = 'maker/first:free'
const second = 'maker/second:free'
const paid = 'maker/paid'

let service: Service
let ann: Client

async function start(env: Record<string, string> = {}, resolved: Partial<Resolved> = {}): Promise<void> {
  service = await startService({
    env: {
      FALLBACK_MODEL: second,
      EMERGENCY_FALLBACK_MODEL: paid,
      UPSTREAM_RETRY_MS: '1',
      RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '0',
      ...env,
    },
    upstreamModel: first,
    resolved,
  })
  ann = await service.as('ann')
}
beforeEach(() => start())
afterEach(() => service.close())

const asked = () => service.upstream.requests.map(({ body }) => body.model)
const { answer, httpError, errorAfter, hang, reset } = demo
const anyText = expect.any(String) as string
const anyNumber = expect.any(Number) as number

describe.each(representations)('as %s, where the first model fails', (as) => {
  it.each([
    ['429', httpError(429)],
    ['500', httpError(500)],
    ['502', httpError(502)],
    ['404: nobody serves it', httpError(404)],
    ['a reset', reset()],
    ['an error before the text', errorAfter(0)],
    ['200 with nothing', demo.empty()],
    ['200 with a page', demo.htmlPage()],
  ])('%s: the next one answers, in one stream, and two calls were made', async (_name, failure) => {
    service.upstream.script(failure, answer(['It is', ' well.']))
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(asked()).toEqual([first, second])
    expect(turn.error).toBeUndefined()
    expect(turn.shown).toBe('It is well.')
    expect(turn.assistant).toMatchObject({
      status: 'complete',
      sender_id: second,
      metadata: {
        model: second,
        is_free_model: true,
        fallbacks: [{ model: first, error: anyText }],
      },
      usage: { source: 'reported', is_free_model: true },
    })
    if (as === 'sse') {
      const types = turn.frames.map(({ data }) => data.type)
      expect(types.slice(0, 3)).toEqual(['user_message', 'assistant_start', 'status'])
      expect(types.filter((type) => type === 'status')).toHaveLength(1)
      expect(turn.frames[2]?.data).toMatchObject({
        state: 'fallback',
        model: second,
        detail: anyText,
      })
    }
  })

  it('after its first text it is not asked again, nor is anybody else', async () => {
    service.upstream.always(errorAfter(3))
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(asked()).toEqual([first])
    expect(turn.assistant).toMatchObject({ status: 'failed', content: demo.someTokens(3).join('') })
  })

  it('and all others too: three attempts, one clear error, and when to come back', async () => {
    service.upstream.always(httpError(503))
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(asked()).toEqual([first, second, first])
    expect(turn.error).toMatchObject({ code: 'upstream_unavailable', retry_after: anyNumber })
    if (as === 'sse') expect(turn.error?.retryable).toBe(true)
    expect(turn.assistant.metadata['fallbacks']).toEqual([
      { model: first, error: 'upstream_unavailable' },
      { model: second, error: 'upstream_unavailable' },
    ])
  })
})

describe('time', () => {
  it('a silent model is left for the next one after the time that is stated, and what it read is accounted for', async () => {
    await service.close()
    await start({ UPSTREAM_FALLBACK_AFTER_MS: '300' })
    service.upstream.script(hang({ after: 'headers' }), answer('here'))
    const startedAt = performance.now()
    const turn = await takeTurn(ann, await ann.conversation(), 'sse')
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    expect(asked()).toEqual([first, second])
    expect(turn.shown).toBe('here')
    const [silent] = service.upstream.requests
    await silent?.ended
    expect(silent?.closedAt).toEqual(anyNumber)
    const rows = await service.sql<{ model: string; source: string }[]>`
      select model, source from chat.usage_tracking where message_id = ${turn.assistant.id} order by source`
    expect(rows).toEqual([
      { model: first, source: 'estimated' },
      { model: second, source: 'reported' },
    ])
  })

  it.each([
    ['refuses', () => httpError(503)],
    ['is cut', () => reset()],
  ])(
    'where everybody %s, all is told in under 12 s with the times of a real installation',
    async (_name, how) => {
      await service.close()
      await start({ UPSTREAM_RETRY_MS: '600' })
      service.upstream.always(how())
      const startedAt = performance.now()
      const turn = await takeTurn(ann, await ann.conversation(), 'sse')
      expect(turn.error).toMatchObject({ retryable: true, retry_after: anyNumber })
      expect(performance.now() - startedAt).toBeLessThan(12_000)
    },
  )

  it('a stop while the next attempt is waited for ends the answer: nobody is asked again', async () => {
    await service.close()
    await start({ UPSTREAM_RETRY_MS: '60000', FALLBACK_MODEL: '' })
    service.upstream.always(httpError(500))
    const id = await ann.conversation()
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    const start_ = await stream.until(({ data }) => data.type === 'assistant_start')
    await service.upstream.nextRequest()
    const message = start_.data['message'] as Message
    const stopped = await ann.post<Message>(`/conversations/${id}/messages/${message.id}/stop`)
    expect(stopped.body.status).toBe('stopped')
    expect(asked()).toEqual([first])
  })
})

describe('the free quota of the account', () => {
  it('used up: 50 sends ask no free model again before its reset, and are told when that is', async () => {
    service.upstream.always(httpError(429, { freeQuota: 'per-day' }))
    const toMidnight = () => 86_400 - (Math.floor(Date.now() / 1000) % 86_400)
    for (let send = 0; send < 50; send++) {
      const turn = await takeTurn(ann, await ann.conversation(), send % 2 === 0 ? 'json' : 'sse')
      expect(turn.error?.code).toBe('upstream_quota')
      expect(Math.abs((turn.error?.retry_after ?? 0) - toMidnight())).toBeLessThan(60)
    }
    expect(asked().length).toBeLessThanOrEqual(3)
  })

  it('used up: 50 sends at once find it out by three', async () => {
    let calls = 0
    const server = createServer((request, response) => {
      if (request.method === 'POST') calls++
      request.resume()
      const message = 'Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more.'
      response.setHeader('content-type', 'application/json')
      response.statusCode = request.method === 'POST' ? 429 : 404
      // As long as a real one takes.
      setTimeout(() => response.end(JSON.stringify({ error: { code: 429, message } })), 200)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
    await service.close()
    await start({}, { upstream: { baseUrl, apiKey: 'test', defaultModel: first } })
    const turns = Array.from({ length: 50 }, async (_, index) => {
      const user = await service.as(`user-${index}`)
      return takeTurn(user, await user.conversation(), 'json')
    })
    for (const { error } of await Promise.all(turns)) expect(error?.code).toBe('upstream_quota')
    expect(calls).toBeLessThanOrEqual(3)
    server.closeAllConnections()
    server.close()
  })

  it('used up: who may have the paid one is answered by it, at once', async () => {
    const eve = await service.as('eve', { tier: 'premium' })
    service.upstream.script(httpError(429, { freeQuota: 'per-min' }), answer('paid for'), answer('again'))
    const turn = await takeTurn(eve, await eve.conversation(), 'sse')
    expect(asked()).toEqual([first, paid])
    expect(turn.assistant).toMatchObject({ content: 'paid for', metadata: { is_free_model: false } })
    const next = await takeTurn(eve, await eve.conversation(), 'sse')
    expect(asked()).toEqual([first, paid, paid])
    expect(next.assistant.metadata['fallbacks']).toEqual([
      { model: first, error: 'upstream_quota', skipped: true },
      { model: second, error: 'upstream_quota', skipped: true },
    ])
  })
})

describe('the account’s requests to free models', () => {
  it('are counted before they are made: what is over is not asked, and told when to come back', async () => {
    await service.close()
    await start({ FREE_REQUESTS_PER_MINUTE: '3' })
    const eve = await service.as('eve', { tier: 'premium' })
    const turns = []
    for (let send = 0; send < 5; send++) turns.push(await takeTurn(ann, await ann.conversation(), 'json'))
    expect(asked()).toEqual([first, first, first])
    expect(turns.map(({ error }) => error?.code)).toEqual([
      ...[undefined, undefined, undefined],
      ...['upstream_quota', 'upstream_quota'],
    ])
    expect(turns[4]?.error?.retry_after).toBeGreaterThan(40)
    expect(turns[4]?.error?.retry_after).toBeLessThanOrEqual(60)
    expect((await takeTurn(eve, await eve.conversation(), 'sse')).assistant.status).toBe('complete')
    expect(asked().at(-1)).toBe(paid)
  })
})

describe('what must not be paid', () => {
  const failures = [httpError(429), httpError(500), httpError(503), reset(), demo.empty(), httpError(404)]
  it('never by tier free, whatever fails', async () => {
    for (const failure of failures) {
      service.upstream.always(failure)
      await takeTurn(ann, await ann.conversation(), 'json')
    }
    expect(asked()).not.toContain(paid)
  })

  it('never with USE_FREE_MODELS_ONLY, by nobody', async () => {
    await service.close()
    await start({ USE_FREE_MODELS_ONLY: 'true' })
    const eve = await service.as('eve', { tier: 'premium' })
    for (const failure of failures) {
      service.upstream.always(failure)
      await takeTurn(eve, await eve.conversation({ context_type: 'career_guidance' }), 'json')
    }
    expect(asked()).not.toContain(paid)
    const refused = await eve.post(`/conversations/${await eve.conversation()}/messages`, {
      content: 'x',
      model: paid,
    })
    expect(refused.status).toBe(422)
  })

  it('nor asked for by tier free: 422, and nothing is stored', async () => {
    const id = await ann.conversation()
    const refused = await ann.post<{ code: string }>(`/conversations/${id}/messages`, {
      content: 'x',
      model: paid,
    })
    expect([refused.status, refused.body.code]).toEqual([422, 'model_not_allowed'])
    const { body } = await ann.get<{ messages: unknown[] }>(`/conversations/${id}/messages`)
    expect(body.messages).toEqual([])
    expect(asked()).toEqual([])
  })

  it('402: one call, nobody else is asked', async () => {
    service.upstream.always(httpError(402))
    const turn = await takeTurn(ann, await ann.conversation(), 'sse')
    expect(turn.error?.code).toBe('upstream_quota')
    expect(asked()).toEqual([first])
  })
})

describe('premium', () => {
  it('begins conversations about careers and assessments at the better model, others at the default', async () => {
    const eve = await service.as('eve', { tier: 'premium' })
    for (const context_type of ['career_guidance', 'assessment', 'general'])
      await takeTurn(eve, await eve.conversation({ context_type }), 'json')
    expect(asked()).toEqual([paid, paid, first])
  })

  it('asks for a model, and has the others behind it', async () => {
    const eve = await service.as('eve', { tier: 'premium' })
    service.upstream.script(httpError(503), answer('fine'))
    const turn = await takeTurn(eve, await eve.conversation(), 'json', { model: second })
    expect(asked()).toEqual([second, first])
    expect(turn.assistant.metadata).toMatchObject({ requested_model: second, model: first })
  })
})

describe('what is known of the answering model', () => {
  it('is journalled while it speaks: whoever settles after a crash accounts for the one that answered', async () => {
    const gate = demo.gated()
    service.upstream.script(httpError(500), gate)
    const id = await ann.conversation()
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    const model = async () =>
      (await service.sql<{ model: string }[]>`select model from chat.generations`)[0]?.model
    await expect.poll(model, { timeout: 5_000 }).toBe(second)
    gate.end()
    await stream.ended
  })

  it('becomes an estimate for its next answers', async () => {
    service.upstream.script(answer('slow', { delayMs: 200 }), answer('again'))
    const once = await takeTurn(ann, await ann.conversation(), 'sse')
    const again = await takeTurn(ann, await ann.conversation(), 'sse')
    const estimate = ({ frames }: typeof once) => Number(frames[1]?.data['estimated_response_time_ms'])
    expect(once.frames[1]?.data['estimated_response_time_ms']).toBeNull()
    expect(estimate(again)).toBeGreaterThanOrEqual(190)
    expect(again.assistant.metadata['estimated_response_time_ms']).toEqual(anyNumber)
  })
})

describe('a conversation that is too long for the model', () => {
  it('is sent once more with half of its history, and answered', async () => {
    const id = await ann.conversation()
    for (let turn = 0; turn < 4; turn++) {
      service.upstream.script(answer(`answer ${turn} ${'word '.repeat(900)}`))
      await takeTurn(ann, id, 'json', { content: `question ${turn} ${'word '.repeat(300)}` })
    }
    service.upstream.forget()
    service.upstream.script(httpError(400), answer('short enough'))
    const turn = await takeTurn(ann, id, 'json', { content: 'and now?' })
    expect(turn.assistant.content).toBe('short enough')
    expect(asked()).toEqual([first, first])
    const [whole, half] = service.upstream.requests.map(({ body }) => JSON.stringify(body.messages).length)
    expect(half).toBeLessThan((whole ?? 0) * 0.7)
    expect(service.upstream.requests.at(-1)?.body.messages.at(-1)?.content).toBe('and now?')
  })
})

describe('a model that fails again and again', () => {
  it('is left alone: others answer first, until its time has come', async () => {
    service.upstream.always(answer('from the second'))
    service.upstream.script(httpError(429), answer('from the second'))
    await takeTurn(ann, await ann.conversation(), 'json')
    const turn = await takeTurn(ann, await ann.conversation(), 'sse')
    expect(asked()).toEqual([first, second, second])
    expect(turn.frames.find(({ data }) => data.type === 'status')?.data).toMatchObject({
      state: 'fallback',
      model: second,
    })
  })

  it('is asked all the same where nobody else is there', async () => {
    await service.close()
    await start({ FALLBACK_MODEL: '' })
    service.upstream.script(httpError(429), answer('back'))
    await takeTurn(ann, await ann.conversation(), 'json')
    const turn = await takeTurn(ann, await ann.conversation(), 'json')
    expect(turn.assistant.content).toBe('back')
  })
})
