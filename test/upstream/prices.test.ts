/** Who may ask for which model, and what a catalogue tells of it, tried over HTTP. The upstream is scripted. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import * as demo from '../../src/embedded/demo-model.ts'
import { createCatalogue } from '../../src/upstream/models.ts'
import type { Client } from '../support/client.ts'
import { first, paid, second, startPriced } from '../support/priced.ts'
import { startService, type Service } from '../support/service.ts'
import { takeTurn } from '../support/turn.ts'

const { httpError } = demo

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

describe('a detour to a model that costs', () => {
  it('is none for who was premium: neither by what a conversation remembers, nor by regenerate, nor by fork', async () => {
    await restart({ PREMIUM_MODEL: paid })
    const rich = await service.as('eve', { tier: 'premium' })
    const poor = await service.as('eve')
    const id = await rich.conversation({ model: paid, context_type: 'career_guidance' })
    const { assistant } = await takeTurn(rich, id, 'json')
    expect(asked()).toEqual([paid])
    service.upstream.forget()
    const fork = await poor.post<{ id: string }>(`/conversations/${id}/fork`, { message_id: assistant.id })
    await poor.post(`/conversations/${id}/messages/${assistant.id}/regenerate`, {})
    service.upstream.always(httpError(503))
    for (const conversation of [id, fork.body.id, await poor.conversation({ context_type: 'assessment' })])
      await takeTurn(poor, conversation, 'json')
    expect(asked()).not.toContain(paid)
    expect((await poor.post('/conversations', { model: paid })).status).toBe(422)
    const by = `/conversations/${id}/messages/${assistant.id}/regenerate`
    expect((await poor.post(by, { model: paid })).status).toBe(422)
  })

  it.each([
    ['tier free', {}, {}],
    ['USE_FREE_MODELS_ONLY', { USE_FREE_MODELS_ONLY: 'true' }, { tier: 'premium' }],
  ])(
    'is none for %s where everything that is configured costs: 422, nothing stored or asked',
    async (_n, env, claims) => {
      await restart({ FALLBACK_MODEL: paid, ...env }, demo.PAID_MODEL_ID)
      const user = await service.as('poor', claims)
      const id = await user.conversation()
      const path = `/conversations/${id}/messages`
      const key = { 'idempotency-key': 'k' }
      for (let time = 0; time < 2; time++)
        expect(await user.request('POST', path, { content: 'x' }, key)).toMatchObject({
          status: 422,
          body: { code: 'model_not_allowed' },
        })
      expect((await user.get<{ messages: unknown[] }>(path)).body.messages).toEqual([])
      expect(asked()).toEqual([])
    },
  )
})

it('a model that stands in the chain more than once is asked once in a round', async () => {
  await restart({
    FALLBACK_MODEL: first,
    EMERGENCY_FALLBACK_MODEL: paid,
    PREMIUM_MODEL: paid,
  })
  const eve = await service.as('eve', { tier: 'premium' })
  service.upstream.always(httpError(429))
  await takeTurn(eve, await eve.conversation({ context_type: 'assessment' }), 'json', { model: first })
  expect(asked()).toEqual([first, paid])
})

/** An upstream of which only the catalogue is told. */
async function serveModels(listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`
}

describe('a catalogue', () => {
  it.each([
    ['never answers', () => undefined],
    [
      'begins and never ends',
      (_request, response) => void response.writeHead(200, { 'content-type': 'application/json' }).write('{'),
    ],
  ] as [string, RequestListener][])(
    'that %s holds up neither the start nor the end',
    async (_name, listener) => {
      let waiting = 0
      const baseUrl = await serveModels((request, response) => {
        waiting++
        listener(request, response)
      })
      const startedAt = performance.now()
      const held = await startService({
        resolved: { upstream: { baseUrl, apiKey: 'test', defaultModel: first } },
      })
      await expect.poll(() => waiting).toBe(1)
      const user = await held.as('ann')
      expect((await user.get<{ chain: string[] }>('/api/chat/models')).body.chain).toEqual([first])
      await held.close()
      expect(performance.now() - startedAt).toBeLessThan(5_000)
    },
  )

  it('whose price is an empty text makes no model free', async () => {
    const priced = (prompt: string) => ({ prompt, completion: prompt })
    const data = [
      { id: 'empty', pricing: priced('') },
      { id: 'blank', pricing: priced(' ') },
      { id: 'auto', pricing: priced('-1') },
      { id: 'zero', pricing: priced('0.000') },
      { id: 'paid', pricing: priced('0.1') },
    ]
    const baseUrl = await serveModels((_request, response) => response.end(JSON.stringify({ data })))
    const catalogue = createCatalogue({ baseUrl, apiKey: 'test', log: pino({ level: 'silent' }) })
    onTestFinished(() => catalogue.close())
    await catalogue.refresh()
    expect(data.map(({ id }) => id).filter(catalogue.isFree)).toEqual(['zero'])
    expect(data.map(({ id }) => id).filter(catalogue.isPaid)).toEqual(['empty', 'blank', 'auto', 'paid'])
  })

  it('that has told prices once and comes back without any makes no model cheaper', async () => {
    const said = [
      '{"data":[{"id":"x","pricing":{"prompt":"1","completion":"1"}}]}',
      '{"data":[]}',
      '{"data":[{"id":"x"}]}',
    ]
    const baseUrl = await serveModels((_request, response) => response.end(said.shift()))
    const catalogue = createCatalogue({ baseUrl, apiKey: 'test', log: pino({ level: 'silent' }) })
    onTestFinished(() => catalogue.close())
    while (said.length > 0) {
      expect(await catalogue.refresh()).toBe(true)
      expect([catalogue.isFree('x'), catalogue.isPaid('x')]).toEqual([false, true])
    }
  })
})

/** An upstream that tells no prices, as one's own does, and says ok to everybody. */
const priceless: RequestListener = (request, response) => {
  request.resume()
  if (request.method !== 'POST') response.writeHead(404).end()
  else
    response
      .writeHead(200, { 'content-type': 'text/event-stream' })
      .end('data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
}

it('a free model that only the conversation remembers counts as one, though the default has no price', async () => {
  const baseUrl = await serveModels(priceless)
  const own = await startService({
    env: { ALLOWED_MODELS: second, RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '1' },
    resolved: { upstream: { baseUrl, apiKey: 'test', defaultModel: 'own/model' } },
  })
  onTestFinished(() => own.close())
  const user = await own.as('ann')
  const statuses = async (id: string) => {
    const path = `/conversations/${id}/messages`
    return [await user.post(path, { content: 'x' }), await user.post(path, { content: 'x' })].map(
      ({ status }) => status,
    )
  }
  expect(await statuses(await user.conversation())).toEqual([200, 200])
  expect(await statuses(await user.conversation({ model: second }))).toEqual([200, 429])
})

it('a title’s request to a free model is one of the account’s', async () => {
  await restart({ AUTO_TITLE_MODEL: 'maker/namer:free', FREE_REQUESTS_PER_MINUTE: '2' })
  await takeTurn(ann, await ann.conversation(), 'json')
  await service.upstream.nextRequest(({ body }) => body.model === 'maker/namer:free')
  const turn = await takeTurn(ann, await ann.conversation(), 'json')
  expect(turn.error?.code).toBe('upstream_quota')
  expect(asked()).toEqual([first, 'maker/namer:free'])
})
