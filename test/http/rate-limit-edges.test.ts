/** Limits of one, attacked by the usual accidents: two tabs, a retry, a refusal, a failure. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { gated, httpError, PAID_MODEL_ID } from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client

async function start(env: Record<string, string>): Promise<void> {
  service = await startService({ env })
  ann = await service.as('ann')
}
afterEach(() => service.close())

const limitOf = ({ headers }: { headers: Headers }) =>
  ['limit', 'remaining'].map((name) => headers.get(`ratelimit-${name}`))

describe('one message an hour', () => {
  beforeEach(() => start({ RATE_LIMIT_MESSAGES_PER_HOUR: '1' }))

  it('two tabs at once: one is answered, the other told when to come back, and one call is made', async () => {
    const ids = [await ann.conversation(), await ann.conversation()]
    const tabs = await Promise.all(
      ids.map((id) => ann.stream(`/conversations/${id}/messages`, { content: 'x' })),
    )
    await Promise.all(tabs.map(({ ended }) => ended))
    expect(tabs.map(({ status }) => status).toSorted()).toEqual([200, 429])
    for (const tab of tabs) {
      expect(limitOf(tab)).toEqual(['1', '0'])
      expect(Number(tab.headers.get('ratelimit-reset'))).toBeGreaterThan(3_590)
      expect(tab.headers.get('retry-after')).toBe(
        tab.status === 429 ? tab.headers.get('ratelimit-reset') : null,
      )
    }
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('what is refused for another reason takes nothing from it, however often', async () => {
    const id = await ann.conversation()
    const path = `/conversations/${id}/messages`
    for (let time = 0; time < 5; time++) {
      expect((await ann.post(path, { content: 'x', model: PAID_MODEL_ID })).status).toBe(422)
      expect(
        (await ann.post(`/conversations/${crypto.randomUUID()}/messages`, { content: 'x' })).status,
      ).toBe(404)
      expect((await ann.post(path, { content: 'x', parent_message_id: crypto.randomUUID() })).status).toBe(
        422,
      )
    }
    expect((await ann.post(path, { content: 'x' })).status).toBe(200)
  })

  it('an answer that fails says what is left, and its repeats are attached to it without another call', async () => {
    service.upstream.always(httpError(402))
    const path = `/conversations/${await ann.conversation()}/messages`
    const send = () => ann.request('POST', path, { content: 'x' }, { 'idempotency-key': 'k' })
    const failed = await send()
    expect([failed.status, ...limitOf(failed)]).toEqual([503, '1', '0'])
    for (let time = 0; time < 3; time++) {
      const again = await send()
      expect(again.status).toBe(503)
      expect(again.headers.get('idempotent-replay')).toBe('true')
      expect(limitOf(again)).toEqual(['1', '0'])
    }
    expect(service.upstream.requests).toHaveLength(1)
    const other = await ann.request('POST', path, { content: 'other' }, { 'idempotency-key': 'k' })
    expect([other.status, other.body['code']]).toEqual([422, 'idempotency_key_reused'])
  })

  it('a repeat attaches to the running answer while the limit is used up; a new send does not', async () => {
    const gate = gated({ tokens: ['one', ' two'] })
    service.upstream.script(gate)
    const path = `/conversations/${await ann.conversation()}/messages`
    const key = { 'idempotency-key': 'k' }
    const one = await ann.stream(path, { content: 'x' }, key)
    gate.release(1)
    await one.until(({ data }) => data.type === 'assistant_chunk')
    const two = await ann.stream(path, { content: 'x' }, key)
    expect([two.status, ...limitOf(two)]).toEqual([200, '1', '0'])
    expect((await ann.post(path, { content: 'x', if_generating: 'interrupt' })).status).toBe(429)
    gate.release(1)
    gate.end()
    for (const stream of [one, two])
      expect((await stream.ended).at(-1)?.data).toMatchObject({
        type: 'complete',
        message: { content: 'one two', status: 'complete' },
      })
    expect(service.upstream.requests).toHaveLength(1)
  })
})

describe('one free answer a minute', () => {
  beforeEach(() => start({ RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '1', RATE_LIMIT_MESSAGES_PER_HOUR: '9' }))

  it('is no way around by a remembered model, a regenerate or a fork, and what it refuses is no message', async () => {
    const id = await ann.conversation()
    const first = await ann.post<{ assistant_message: { id: string } }>(`/conversations/${id}/messages`, {
      content: 'x',
    })
    const answered = first.body.assistant_message.id
    const fork = await ann.post<{ id: string }>(`/conversations/${id}/fork`, { message_id: answered })
    const refused = [
      await ann.post(`/conversations/${id}/messages/${answered}/regenerate`, {}),
      await ann.post(`/conversations/${fork.body.id}/messages`, { content: 'x' }),
      await ann.post(`/conversations/${await ann.conversation()}/messages`, { content: 'x' }),
    ]
    for (const one of refused) expect([one.status, ...limitOf(one)]).toEqual([429, '1', '0'])
    expect(service.upstream.requests).toHaveLength(1)
    const eve = await service.as('ann', { tier: 'premium' })
    const paid = await eve.post(`/conversations/${id}/messages`, { content: 'x', model: PAID_MODEL_ID })
    expect([paid.status, ...limitOf(paid)]).toEqual([200, '9', '7'])
  })
})
