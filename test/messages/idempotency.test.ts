import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated, httpError } from '../../src/embedded/demo-model.ts'
import type { Conversation } from '../../src/conversations/schemas.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let other: Service
let ann: Client
let annElsewhere: Client

beforeAll(async () => {
  service = await startService()
  // Both instances ask one upstream, so that its calls can be counted.
  other = await startService({
    resolved: {
      databaseUrl: service.databaseUrl,
      exclusive: false,
      upstream: { baseUrl: service.upstream.baseUrl, apiKey: 'test', defaultModel: 'rivulet/demo:free' },
    },
  })
  ann = await service.as('ann')
  annElsewhere = await other.as('ann')
})
afterAll(async () => {
  await other.close()
  await service.close()
})
beforeEach(() => service.upstream.forget())

interface Sent {
  user_message: Message
  assistant_message: Message
}

const key = () => ({ 'idempotency-key': crypto.randomUUID() })

describe('one key', () => {
  it('is one upstream call and one answer for 50 requests at once on two instances', async () => {
    const id = await ann.conversation()
    const gate = gated({ tokens: ['only', ' once'] })
    service.upstream.always(gate)
    const headers = key()
    const asked = Array.from({ length: 50 }, (_, n) =>
      n % 3 === 0
        ? (n % 2 === 0 ? ann : annElsewhere)
            .stream(`/conversations/${id}/messages`, { content: 'once', stream: true }, headers)
            .then(async (stream) => ({
              status: stream.status,
              frames: await stream.ended,
              headers: stream.headers,
            }))
        : (n % 2 === 0 ? ann : annElsewhere)
            .request<Sent>('POST', `/conversations/${id}/messages`, { content: 'once' }, headers)
            .then((sent) => ({ status: sent.status, sent: sent.body, headers: sent.headers })),
    )
    await service.upstream.nextRequest()
    gate.release(2)
    gate.end()
    const answers = await Promise.all(asked)
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(service.upstream.requests).toHaveLength(1)
    expect(answers.filter(({ headers: got }) => got.get('idempotent-replay') !== 'true')).toHaveLength(1)
    for (const one of answers) {
      if ('sent' in one) expect(one.sent.assistant_message.content).toBe('only once')
      else expect(textOf(one.frames)).toBe('only once')
    }
    const { body } = await ann.get<{ messages: Message[] }>(`/conversations/${id}`)
    expect(body.messages).toHaveLength(2)
  })

  it('gives the same result again after it ended, by header and by client_message_id', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer('said once'))
    const client_message_id = crypto.randomUUID()
    const body = { content: 'hello', client_message_id }
    const first = await ann.post<Sent>(`/conversations/${id}/messages`, body)
    const second = await annElsewhere.post<Sent>(`/conversations/${id}/messages`, body)
    expect(second.body).toEqual(first.body)
    expect(second.headers.get('idempotent-replay')).toBe('true')
    const third = await ann.request(
      'POST',
      `/conversations/${id}/messages`,
      { content: 'hello' },
      {
        'idempotency-key': client_message_id,
      },
    )
    expect(third.body).toEqual(first.body)
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('with another body is refused', async () => {
    const id = await ann.conversation()
    const headers = key()
    await ann.request('POST', `/conversations/${id}/messages`, { content: 'one' }, headers)
    const refused = await ann.request('POST', `/conversations/${id}/messages`, { content: 'two' }, headers)
    expect([refused.status, refused.body['code']]).toEqual([422, 'idempotency_key_reused'])
  })

  it('is each user’s own', async () => {
    const headers = key()
    const bob = await service.as('bob')
    const mine = await ann.request<Sent>(
      'POST',
      `/conversations/${await ann.conversation()}/messages`,
      { content: 'x' },
      headers,
    )
    const his = await bob.request<Sent>(
      'POST',
      `/conversations/${await bob.conversation()}/messages`,
      { content: 'x' },
      headers,
    )
    expect(his.headers.get('idempotent-replay')).toBeNull()
    expect(his.body.user_message.id).not.toBe(mine.body.user_message.id)
  })

  it('is not used up by a request that was refused', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate, answer('now'))
    const running = await ann.stream(`/conversations/${id}/messages`, { content: 'first' })
    await running.until(({ data }) => data.type === 'assistant_start')
    const headers = key()
    const refused = await ann.request('POST', `/conversations/${id}/messages`, { content: 'second' }, headers)
    expect(refused.status).toBe(409)
    gate.end()
    await running.ended
    const sent = await ann.request<Sent>(
      'POST',
      `/conversations/${id}/messages`,
      { content: 'second' },
      headers,
    )
    expect(sent.status).toBe(200)
    expect(sent.headers.get('idempotent-replay')).toBeNull()
  })

  it('does not interrupt the answer that it asks for', async () => {
    const id = await ann.conversation()
    const gate = gated({ tokens: ['a', 'b'] })
    service.upstream.script(gate)
    const headers = key()
    const body = { content: 'go', if_generating: 'interrupt' }
    const first = await ann.stream(`/conversations/${id}/messages`, body, headers)
    gate.release(1)
    await first.until(({ data }) => data.type === 'assistant_chunk')
    const again = await ann.stream(`/conversations/${id}/messages`, body, headers)
    await again.until(({ data }) => data.type === 'assistant_chunk')
    gate.release(1)
    gate.end()
    expect(textOf(await first.ended)).toBe('ab')
    expect(textOf(await again.ended)).toBe('ab')
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('tells a failure again, without asking again', async () => {
    const id = await ann.conversation()
    service.upstream.always(httpError(402))
    const headers = key()
    const first = await ann.request('POST', `/conversations/${id}/messages`, { content: 'x' }, headers)
    const second = await ann.request('POST', `/conversations/${id}/messages`, { content: 'x' }, headers)
    expect([second.status, second.body['code']]).toEqual([first.status, first.body['code']])
    expect(second.body['assistant_message']).toEqual(first.body['assistant_message'])
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('holds for a regenerate, a fork and a new conversation', async () => {
    const made = key()
    const [one, two] = await Promise.all([
      ann.request<Conversation>('POST', '/conversations', { title: 'once' }, made),
      annElsewhere.request<Conversation>('POST', '/conversations', { title: 'once' }, made),
    ])
    expect([one.status, two.status, two.body.id]).toEqual([201, 201, one.body.id])
    const sent = await ann.post<Sent>(`/conversations/${one.body.id}/messages`, { content: 'q' })
    const answerId = sent.body.assistant_message.id
    const again = key()
    const url = `/conversations/${one.body.id}/messages/${answerId}/regenerate`
    const [first, second] = await Promise.all([
      ann.request<{ new_message: Message }>('POST', url, {}, again),
      annElsewhere.request<{ new_message: Message }>('POST', url, {}, again),
    ])
    expect(second.body).toEqual(first.body)
    const forked = key()
    const forks = await Promise.all(
      [ann, annElsewhere].map((client) =>
        client.request<Conversation>(
          'POST',
          `/conversations/${one.body.id}/fork`,
          { message_id: answerId },
          forked,
        ),
      ),
    )
    expect(forks[0]?.body.id).toBe(forks[1]?.body.id)
  })

  it.each(['', 'ü', 'x'.repeat(256), 'a\tb'])('is refused where it is no key: %j', async (bad) => {
    const id = await ann.conversation()
    const refused = await ann.post(`/conversations/${id}/messages`, { content: 'x', client_message_id: bad })
    expect([refused.status, refused.body['code']]).toEqual([400, 'invalid_request'])
  })
})
