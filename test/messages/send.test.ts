import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, DEMO_MODEL_ID, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '3' } })
  ann = await service.as('ann')
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

interface Sent {
  user_message: Message
  assistant_message: Message
  usage: Record<string, unknown>
}

describe('sending without a stream', () => {
  it('answers when the generation has settled, with both messages and the usage', async () => {
    const id = await ann.conversation()
    service.upstream.script(
      answer(['Hello', ' Ann'], {
        usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9, cost: 0 },
      }),
    )
    const sent = await ann.post<Sent>(`/conversations/${id}/messages`, { content: '  Hi there  ' })
    expect(sent.status).toBe(200)
    const { user_message, assistant_message, usage } = sent.body
    expect(user_message).toMatchObject({
      conversation_id: id,
      parent_message_id: null,
      sender_type: 'user',
      sender_id: 'ann',
      content: 'Hi there',
      content_type: 'text',
      status: 'complete',
      usage: null,
      reaction: null,
      sibling_ids: [user_message.id],
    })
    expect(assistant_message).toMatchObject({
      parent_message_id: user_message.id,
      sender_type: 'assistant',
      content: 'Hello Ann',
      status: 'complete',
      usage: {
        prompt_tokens: 7,
        completion_tokens: 2,
        total_tokens: 9,
        cost: '0',
        is_free_model: true,
        source: 'reported',
      },
      metadata: {
        model: DEMO_MODEL_ID,
        requested_model: null,
        finish_reason: 'stop',
        is_free_model: true,
        fallbacks: [],
        generation_params: { temperature: 0.7, max_tokens: 1000 },
      },
    })
    expect(usage).toEqual(assistant_message.usage)
    expect(assistant_message.metadata['processing_time_ms']).toEqual(expect.any(Number))
    expect(assistant_message.metadata['first_token_ms']).toEqual(expect.any(Number))
    expect(user_message.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('keeps the sub-cent cost that the upstream reported as an exact decimal', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer('x', { usage: { cost: 0.00000012 } }))
    const sent = await ann.post<Sent>(`/conversations/${id}/messages`, { content: 'cost?' })
    expect(sent.body.usage['cost']).toBe('0.00000012')
  })
})

describe('sending with a stream', () => {
  it('sends user_message, assistant_start, the text and one complete frame, numbered from 1', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer(['Good', ' day', ' 🙂']))
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'Hi' })
    const frames = await stream.ended
    expect(stream.status).toBe(200)
    expect(frames[0]?.data.type).toBe('user_message')
    expect(frames[1]?.data.type).toBe('assistant_start')
    expect(textOf(frames)).toBe('Good day 🙂')
    const last = frames.at(-1)
    expect(last?.data).toMatchObject({
      type: 'complete',
      message: { content: 'Good day 🙂', status: 'complete' },
    })
    expect(frames.filter(({ data }) => data.type === 'complete' || data.type === 'error')).toHaveLength(1)
    const [generation] = (frames[0]?.id ?? '').split(':')
    expect(frames[1]?.data['generation_id']).toBe(generation)
    expect(frames.every(({ id: frameId }) => frameId.startsWith(`${generation}:`))).toBe(true)
    const seqs = frames.map(({ seq }) => seq)
    expect(seqs[0]).toBe(1)
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b))
    expect(new Set(seqs).size).toBe(seqs.length)
  })

  it('has the headers that proxies and browsers need', async () => {
    const id = await ann.conversation()
    const stream = await ann.stream(
      `/conversations/${id}/messages`,
      { content: 'Hi' },
      { origin: 'http://localhost:5173' },
    )
    const frames = await stream.ended
    const message = (frames[1]?.data['message'] as Message).id
    expect(Object.fromEntries(stream.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'content-location': `/api/chat/conversations/${id}/messages/${message}/stream`,
      'access-control-allow-origin': 'http://localhost:5173',
    })
    expect(stream.headers.get('access-control-expose-headers')).toContain('Content-Location')
    expect(stream.headers.get('content-encoding')).toBeNull()
    expect(stream.headers.get('x-request-id')).toBeTruthy()
    expect(stream.raw().startsWith(':')).toBe(true)
    expect(stream.raw()).not.toContain('event:')
  })

  it('streams by `stream: true` as by the Accept header', async () => {
    const id = await ann.conversation()
    const stream = await ann.stream(
      `/conversations/${id}/messages`,
      { content: 'Hi', stream: true },
      { accept: '*/*' },
    )
    expect((await stream.ended).at(-1)?.data.type).toBe('complete')
  })

  it('shows the message as stored before it is shown: what the final frame says can be read at once', async () => {
    const id = await ann.conversation()
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'Hi' })
    const { data } = await stream.until((frame) => frame.data.type === 'complete')
    const message = data['message'] as Message
    const read = await ann.get<Message>(`/conversations/${id}/messages/${message.id}`)
    expect(read.body).toEqual(message)
  })
})

describe('a generation is not a request', () => {
  it('runs on and is stored whole when its viewer leaves', async () => {
    const id = await ann.conversation()
    const gate = gated({ tokens: ['one', ' two', ' three'] })
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'count' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    const start = stream.frames.find(({ data }) => data.type === 'assistant_start')?.data[
      'message'
    ] as Message
    stream.drop()
    gate.release(2)
    gate.end()
    await expect
      .poll(async () => (await ann.get<Message>(`/conversations/${id}/messages/${start.id}`)).body)
      .toMatchObject({ content: 'one two three', status: 'complete' })
  })

  it('refuses a second send while one runs, saying where to watch it', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'first' })
    const start = await stream.until(({ data }) => data.type === 'assistant_start')
    const message = start.data['message'] as Message
    const second = await ann.post(`/conversations/${id}/messages`, { content: 'second' })
    expect(second.status).toBe(409)
    expect(second.body).toMatchObject({
      code: 'generation_in_progress',
      active_generation: {
        generation_id: start.data['generation_id'],
        message_id: message.id,
        stream_url: `/api/chat/conversations/${id}/messages/${message.id}/stream`,
      },
    })
    const { body } = await ann.get<{ conversation: { message_count: number; active_generation: unknown } }>(
      `/conversations/${id}`,
    )
    expect(body.conversation.message_count).toBe(2)
    expect(body.conversation.active_generation).toEqual(second.body['active_generation'])
    gate.end()
    await stream.ended
  })

  it('interrupts the running one on request: its upstream is closed, its text kept as stopped', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate, answer('second answer'))
    const first = await ann.stream(`/conversations/${id}/messages`, { content: 'first' })
    const upstreamRequest = await service.upstream.nextRequest()
    gate.release(2)
    await first.until(({ data }) => data.type === 'assistant_chunk')
    const second = await ann.post<Sent>(`/conversations/${id}/messages`, {
      content: 'second',
      if_generating: 'interrupt',
    })
    expect(second.status).toBe(200)
    expect(second.body.assistant_message.content).toBe('second answer')
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    const last = (await first.ended).at(-1)
    expect(last?.data).toMatchObject({
      type: 'complete',
      message: { status: 'stopped', usage: { source: 'estimated' } },
    })
    expect((last?.data['message'] as Message).content).toBe(textOf(first.frames))
    expect(second.body.user_message.parent_message_id).toBe((last?.data['message'] as Message).id)
  })

  it('lets exactly one of 20 sends at once through', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.always(gate)
    const streams = await Promise.all(
      Array.from({ length: 20 }, () => ann.stream(`/conversations/${id}/messages`, { content: 'me!' })),
    )
    const statuses = streams.map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(1)
    expect(statuses.filter((status) => status === 409)).toHaveLength(19)
    gate.release(1)
    gate.end()
    await Promise.all(streams.map(({ ended }) => ended))
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('holds a user to three running generations, whatever the race', async () => {
    const bob = await service.as('bob')
    const ids = await Promise.all(Array.from({ length: 8 }, () => bob.conversation()))
    const gate = gated()
    service.upstream.always(gate)
    const streams = await Promise.all(
      ids.map((id) => bob.stream(`/conversations/${id}/messages`, { content: 'go' })),
    )
    const statuses = streams.map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(3)
    expect(statuses.filter((status) => status === 429)).toHaveLength(5)
    expect(streams.find(({ status }) => status === 429)?.headers.get('retry-after')).toBe('5')
    gate.end()
    await Promise.all(streams.map(({ ended }) => ended))
  })

  it('waits its turn on request: five sends at once are answered one after the other', async () => {
    const id = await ann.conversation()
    const gates = Array.from({ length: 6 }, () => gated({ tokens: ['x'] }))
    service.upstream.script(...gates)
    const running = await ann.stream(`/conversations/${id}/messages`, { content: 'first' })
    await running.until(({ data }) => data.type === 'assistant_start')
    const sends = [1, 2, 3, 4, 5].map((n) =>
      ann.post<Sent>(`/conversations/${id}/messages`, { content: `waiting ${n}`, if_generating: 'wait' }),
    )
    for (const gate of gates) {
      await service.upstream.nextRequest()
      gate.release(1)
      gate.end()
    }
    const answers = await Promise.all(sends)
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200])
    await running.ended
    const asked = service.upstream.requests.map(({ body }) => body.messages.at(-1)?.content)
    expect(asked[0]).toBe('first')
    expect(asked.slice(1).sort()).toEqual([1, 2, 3, 4, 5].map((n) => `waiting ${n}`))
    // Each was sent the answers of all before it: they did not run side by side.
    expect(service.upstream.requests.map(({ body }) => body.messages.length)).toEqual([2, 4, 6, 8, 10, 12])
  })
})

describe('interrupting', () => {
  it.each([
    ['a parent that is not there', { parent_message_id: crypto.randomUUID() }, 'invalid_parent'],
    ['a model that is not allowed', { model: 'no/such-model' }, 'model_not_allowed'],
  ])('stops nothing for a request that is refused anyway: %s', async (_, wrong, code) => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate)
    const running = await ann.stream(`/conversations/${id}/messages`, { content: 'first' })
    await running.until(({ data }) => data.type === 'assistant_start')
    const refused = await ann.post(`/conversations/${id}/messages`, {
      content: 'x',
      if_generating: 'interrupt',
      ...wrong,
    })
    expect(refused.body['code']).toBe(code)
    gate.release(1)
    gate.end()
    expect((await running.ended).at(-1)?.data).toMatchObject({ message: { status: 'complete' } })
  })

  it('lets each of three at once through, the last one being answered whole', async () => {
    const id = await ann.conversation()
    service.upstream.always(answer('at last'))
    const sends = await Promise.all(
      [1, 2, 3].map((n) =>
        ann.post(`/conversations/${id}/messages`, { content: `${n}`, if_generating: 'interrupt' }),
      ),
    )
    expect(sends.map(({ status }) => status)).toEqual([200, 200, 200])
  })
})

it('is not kept from stopping by a client that left before its turn was stored', async () => {
  const own = await startService()
  const client = await own.as('ann')
  const id = await client.conversation()
  const controller = new AbortController()
  const asked = fetch(`${own.origin}/api/chat/conversations/${id}/messages`, {
    method: 'POST',
    headers: { authorization: `Bearer ${client.token ?? ''}`, 'content-type': 'application/json' },
    body: JSON.stringify({ content: 'gone', stream: true }),
    signal: controller.signal,
  }).catch(() => undefined)
  await own.sql`select 1`
  controller.abort()
  await asked
  const startedAt = performance.now()
  await own.close()
  expect(performance.now() - startedAt).toBeLessThan(5_000)
})
