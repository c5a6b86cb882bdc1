/** Named limits on one instance: exactly as many as they say, told to the second, and no repeat is ever refused. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { Conversation } from '../../src/conversations/schemas.ts'
import { answer, PAID_MODEL_ID, DEMO_MODEL_ID } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Answer, Client } from '../support/client.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { startService, type Service } from '../support/service.ts'

interface Sent {
  user_message: Message
  assistant_message: Message
}

const hourMs = 3_600_000
const key = () => ({ 'idempotency-key': crypto.randomUUID() })
const user = () => `user-${crypto.randomUUID()}`

const limitHeaders = ({ headers }: { headers: Headers }) => ({
  limit: headers.get('ratelimit-limit'),
  remaining: headers.get('ratelimit-remaining'),
  resetS: Number(headers.get('ratelimit-reset')),
})

describe('messages and conversations', () => {
  let service: Service
  let ann: Client

  beforeAll(async () => {
    service = await startService({
      env: {
        RATE_LIMIT_MESSAGES_PER_HOUR: '5',
        RATE_LIMIT_CONVERSATIONS_PER_DAY: '20',
        RATE_LIMIT_RUNNING_GENERATIONS: '100',
      },
    })
  })
  afterAll(() => service.close())
  beforeEach(async () => {
    ann = await service.as(user())
  })

  const send = (client: Client, id: string, headers: Record<string, string> = {}) =>
    client.request<Sent>('POST', `/conversations/${id}/messages`, { content: 'x' }, headers)

  it('lets exactly 5 of 20 sends at once through, as JSON and as streams, and calls the model 5 times', async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => ann.conversation()))
    service.upstream.forget()
    const answers = await Promise.all(
      ids.map(async (id, n) => {
        if (n % 2 === 0) return send(ann, id)
        const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'x' })
        await stream.ended
        return stream
      }),
    )
    const accepted = answers.filter(({ status }) => status === 200)
    expect(accepted).toHaveLength(5)
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(15)
    expect(service.upstream.requests).toHaveLength(5)
    expect(accepted.map((one) => limitHeaders(one).remaining).sort()).toEqual(['0', '1', '2', '3', '4'])
  })

  it('tells the same window to the second, in accepted answers and in refusals', async () => {
    const path = `/conversations/${await ann.conversation()}/messages`
    const request = { method: 'POST', path, token: ann.token, body: '{"content":"x"}' }
    const [begunMs, first] = [performance.now(), await ask(service.origin, request)]
    const startedMs = performance.now()
    expect(limitHeaders(first)).toMatchObject({ limit: '5', remaining: '4' })
    // The window began between the two moments; what is left of it is told in whole seconds, rounded up.
    for (const remaining of ['3', '2', '1', '0', undefined]) {
      const askedMs = performance.now()
      const sent = await ask(service.origin, request)
      const { limit, remaining: left, resetS } = limitHeaders(sent)
      expect([limit, left]).toEqual(['5', remaining ?? '0'])
      expect(resetS).toBeLessThanOrEqual(Math.ceil((hourMs - (askedMs - startedMs)) / 1000))
      expect(resetS).toBeGreaterThanOrEqual(Math.ceil((hourMs - (performance.now() - begunMs)) / 1000))
      if (remaining !== undefined) continue
      const problem = expectProblem(sent, { status: 429, code: 'rate_limited', path })
      expect(problem.retry_after).toBe(resetS)
    }
  })

  it('counts a regenerate as a send, and neither where nothing new came of it', async () => {
    const id = await ann.conversation()
    const first = await send(ann, id)
    const url = `/conversations/${id}/messages/${first.body.assistant_message.id}/regenerate`
    expect(limitHeaders(await ann.post(url, {})).remaining).toBe('3')
    const nowhere = crypto.randomUUID()
    const failed = [
      await send(ann, nowhere),
      await ann.post(`/conversations/${id}/messages`, { content: '' }),
      await ann.post(`/conversations/${id}/messages`, { content: 'x', model: 'no/such' }),
      await ann.post(`/conversations/${id}/messages`, { content: 'x', parent_message_id: nowhere }),
      await ann.post(`/conversations/${id}/messages/${nowhere}/regenerate`, {}),
    ]
    expect(failed.map(({ status }) => status)).toEqual([404, 400, 422, 422, 404])
    expect(limitHeaders(await send(ann, id)).remaining).toBe('2')
  })

  it('never refuses a repeat of what was accepted, and does not count it', async () => {
    const id = await ann.conversation()
    const [byHeader, client_message_id, again] = [key(), crypto.randomUUID(), key()]
    const sent = await send(ann, id, byHeader)
    const named = await ann.post<Sent>(`/conversations/${id}/messages`, { content: 'y', client_message_id })
    const url = `/conversations/${id}/messages/${sent.body.assistant_message.id}/regenerate`
    const regenerated = await ann.request<{ new_message: Message }>('POST', url, {}, again)
    // Not used up yet: repeated for nothing.
    expect((await send(ann, id, byHeader)).headers.get('idempotent-replay')).toBe('true')
    for (const remaining of ['1', '0']) expect(limitHeaders(await send(ann, id)).remaining).toBe(remaining)
    expect((await send(ann, id)).status).toBe(429)

    const repeats = [
      await send(ann, id, byHeader),
      await ann.post<Sent>(`/conversations/${id}/messages`, { content: 'y', client_message_id }),
      await ann.request<{ new_message: Message }>('POST', url, {}, again),
    ]
    for (const repeat of repeats) {
      expect([repeat.status, repeat.headers.get('idempotent-replay')]).toEqual([200, 'true'])
      expect(limitHeaders(repeat)).toMatchObject({ limit: '5', remaining: '0' })
    }
    const idOf = ({ body }: (typeof repeats)[number]) =>
      'new_message' in body ? body.new_message.id : body.assistant_message.id
    expect(repeats.map(idOf)).toEqual([sent, named, regenerated].map(idOf))
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'x' }, byHeader)
    expect((await stream.ended).at(-1)?.data.type).toBe('complete')
    const other = await ann.request('POST', `/conversations/${id}/messages`, { content: 'z' }, byHeader)
    expect(other.body['code']).toBe('idempotency_key_reused')
    expect((await send(ann, id, key())).status).toBe(429)
  })

  it('is not used up by 50 requests at once with one key', async () => {
    const id = await ann.conversation()
    for (let n = 0; n < 3; n++) await send(ann, id)
    const headers = key()
    await send(ann, id, headers)
    const repeats = await Promise.all(Array.from({ length: 50 }, () => send(ann, id, headers)))
    expect(new Set(repeats.map(({ status }) => status))).toEqual(new Set([200]))
    expect(limitHeaders(await send(ann, id)).remaining).toBe('0')
  })

  it('keeps a refused key free: it is accepted where there is room', async () => {
    const id = await ann.conversation()
    for (let n = 0; n < 5; n++) await send(ann, id)
    const refused = key()
    expect((await send(ann, id, refused)).status).toBe(429)
    const [{ count }] = await service.sql<[{ count: number }]>`
      select count(*)::int from chat.idempotency_keys where key = ${refused['idempotency-key']}`
    expect(count).toBe(0)
  })

  it('is each user’s own', async () => {
    const id = await ann.conversation()
    for (let n = 0; n < 6; n++) await send(ann, id)
    const bob = await service.as(user())
    expect(limitHeaders(await send(bob, await bob.conversation())).remaining).toBe('4')
  })

  it('lets exactly 20 of 30 conversations and forks at once through, and repeats of them always', async () => {
    const id = await ann.conversation()
    const { body } = await send(ann, id)
    const message_id = body.assistant_message.id
    const keys = Array.from({ length: 30 }, key)
    const make = (headers: Record<string, string>, n: number) =>
      n % 2 === 0
        ? ann.request<Conversation>('POST', '/conversations', {}, headers)
        : ann.request<Conversation>('POST', `/conversations/${id}/fork`, { message_id }, headers)
    const made = await Promise.all(keys.map(make))
    expect(made.filter(({ status }) => status === 201)).toHaveLength(19)
    expect(made.filter(({ status }) => status === 429)).toHaveLength(11)
    const again = await Promise.all(keys.map(make))
    expect(again.map(({ status }) => status)).toEqual(made.map(({ status }) => status))
    expect(again.map((one) => one.body.id)).toEqual(made.map((one) => one.body.id))
    const refused = made.find(({ status }) => status === 429)
    expect(limitHeaders(refused ?? fail()).resetS).toBeGreaterThan(86_400 - 60)
  })
})

describe('generations of free models', () => {
  let service: Service
  beforeAll(async () => {
    service = await startService({
      env: { RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '2', RATE_LIMIT_MESSAGES_PER_HOUR: '4' },
    })
  })
  afterAll(() => service.close())

  const sendTo = async (client: Client, model?: string) => {
    service.upstream.script(answer('ok'))
    return client.post(`/conversations/${await client.conversation()}/messages`, { content: 'x', model })
  }

  it('are counted beside the messages: the nearer limit is told, and a refused one is no message', async () => {
    const ann = await service.as(user())
    expect(limitHeaders(await sendTo(ann))).toMatchObject({ limit: '2', remaining: '1' })
    expect(limitHeaders(await sendTo(ann))).toMatchObject({ limit: '2', remaining: '0' })
    const refused = await Promise.all(Array.from({ length: 10 }, () => sendTo(ann)))
    for (const one of refused) {
      expect([one.status, one.headers.get('retry-after')]).toEqual([429, one.headers.get('ratelimit-reset')])
      expect(limitHeaders(one)).toMatchObject({ limit: '2', remaining: '0' })
      expect(limitHeaders(one).resetS).toBeLessThanOrEqual(60)
    }
    // The same person, on a paid plan since: two messages are left of the four.
    const { sub } = JSON.parse(atob(ann.token?.split('.')[1] ?? '')) as { sub: string }
    const premium = await service.as(sub, { tier: 'premium' })
    const paid = [
      await sendTo(premium, PAID_MODEL_ID),
      await sendTo(premium, PAID_MODEL_ID),
      await sendTo(premium, PAID_MODEL_ID),
    ]
    expect(paid.map(({ status }) => status)).toEqual([200, 200, 429])
  })

  it('count for a premium user where a free model is asked for, and only there', async () => {
    const premium = await service.as(user(), { tier: 'premium' })
    expect(limitHeaders(await sendTo(premium, PAID_MODEL_ID))).toMatchObject({ limit: '4', remaining: '3' })
    expect(limitHeaders(await sendTo(premium, DEMO_MODEL_ID))).toMatchObject({ limit: '2', remaining: '1' })
  })
})

describe('who proves no identity', () => {
  const env = { RATE_LIMIT_BAD_TOKENS_PER_MINUTE: '10' }
  const bad = (service: Service, forwarded?: string, path = '/conversations') =>
    ask(service.origin, {
      path,
      token: 'no.such.token',
      ...(forwarded !== undefined && { headers: { 'x-forwarded-for': forwarded } }),
    })
  const codes = (answers: Answer<unknown>[]) => answers.map(({ status }) => status).toSorted()

  it('is told 401 exactly 10 of 2,000 times, then 429, while valid callers of the same address go on', async () => {
    const service = await startService({ env })
    onTestFinished(() => service.close())
    const ann = await service.as('ann')
    const paths = ['/conversations', `/conversations/${crypto.randomUUID()}/tree`, '/health?full=true']
    const answers: Answer<unknown>[] = []
    let slowestMs = 0
    for (let round = 0; round < 20; round++) {
      const flood = Array.from({ length: 100 }, (_, n) => bad(service, undefined, paths[n % paths.length]))
      const askedMs = performance.now()
      expect((await ann.get('/conversations')).status).toBe(200)
      slowestMs = Math.max(slowestMs, performance.now() - askedMs)
      answers.push(...(await Promise.all(flood)))
    }
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(10)
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(1_990)
    expect(slowestMs).toBeLessThan(1_000)
    const refused = await bad(service)
    expectProblem(refused, { status: 429, code: 'rate_limited', path: '/conversations' })
    expect(limitHeaders(refused)).toMatchObject({ limit: '10', remaining: '0' })
  })

  it('is counted for a missing token, a wrong ticket and a wrong service key alike', async () => {
    const service = await startService({ env: { RATE_LIMIT_BAD_TOKENS_PER_MINUTE: '3' } })
    onTestFinished(() => service.close())
    const id = crypto.randomUUID()
    const asked = [
      await service.anonymous.get('/conversations'),
      await service.anonymous.get(`/conversations/${id}/messages/${id}/stream?ticket=wrong`),
      await service.anonymous.request('GET', '/health?full=true', undefined, { authorization: 'Bearer x' }),
      await service.anonymous.get('/conversations'),
    ]
    expect(asked.map(({ status }) => status)).toEqual([401, 401, 401, 429])
  })

  it('gets no new address by X-Forwarded-For, unless a trusted proxy says so', async () => {
    const open = await startService({ env })
    onTestFinished(() => open.close())
    const spoofed = await Promise.all(Array.from({ length: 15 }, (_, n) => bad(open, `198.51.100.${n}`)))
    expect(codes(spoofed)).toEqual([...Array<number>(10).fill(401), ...Array<number>(5).fill(429)])

    const behind = await startService({ env: { ...env, TRUSTED_PROXIES: '127.0.0.1' } })
    onTestFinished(() => behind.close())
    // What stands left of the address that the proxy saw was written by the client.
    const first = await Promise.all(
      Array.from({ length: 15 }, (_, n) => bad(behind, `198.51.100.${n}, 203.0.113.1`)),
    )
    expect(codes(first)).toEqual([...Array<number>(10).fill(401), ...Array<number>(5).fill(429)])
    expect((await bad(behind, '203.0.113.2')).status).toBe(401)
    // Whoever has one address of an IPv6 network has all of it.
    const network = await Promise.all(Array.from({ length: 15 }, (_, n) => bad(behind, `2001:db8:1:2::${n}`)))
    expect(codes(network)).toEqual([...Array<number>(10).fill(401), ...Array<number>(5).fill(429)])
    expect((await bad(behind, '2001:db8:1:3::1')).status).toBe(401)
  })
})

it('counts nothing where a limit is 0', async () => {
  const service = await startService()
  onTestFinished(() => service.close())
  const ann = await service.as('ann')
  const id = await ann.conversation()
  const sent = await ann.post(`/conversations/${id}/messages`, { content: 'x' })
  expect([sent.status, sent.headers.get('ratelimit-limit')]).toEqual([200, null])
})

function fail(): never {
  throw new Error('there is none')
}
