import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import OpenAI from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import {
  answer,
  cutAfter,
  DEMO_MODEL_ID,
  gated,
  hang,
  httpError,
  PAID_MODEL_ID,
  startDemoModel,
  type DemoModel,
} from '../../src/embedded/demo-model.ts'

let demo: DemoModel
let client: OpenAI

beforeAll(async () => {
  demo = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
  client = new OpenAI({ baseURL: demo.baseUrl, apiKey: 'unused', maxRetries: 0 })
})
beforeEach(() => demo.forget())
afterAll(() => demo.close())

const user = (content: string) => ({ role: 'user' as const, content })

async function ask(content: string, model: string): Promise<string | null | undefined> {
  const { choices } = await client.chat.completions.create({ model, messages: [user(content)] })
  return choices[0]?.message.content
}

async function post(body: unknown, path = '/chat/completions'): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return fetch(demo.baseUrl + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: text,
  })
}

async function get(path: string): Promise<{ status: number; json: unknown }> {
  const response = await fetch(demo.baseUrl + path)
  return { status: response.status, json: await response.json() }
}

describe('a streamed answer', () => {
  test('reads through the SDK as text, one finish reason, and usage without choices', async () => {
    const answered = client.chat.completions.create({
      model: DEMO_MODEL_ID,
      messages: [user('hi')],
      stream: true,
    })
    const { data, response } = await answered.withResponse()
    const chunks = []
    for await (const chunk of data) chunks.push(chunk)

    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
    expect(text).toBe(demo.requests[0]?.sentText)
    expect(chunks.flatMap(({ choices }) => choices[0]?.finish_reason ?? [])).toEqual(['stop'])
    const id = response.headers.get('x-generation-id')
    expect(id).toMatch(/^gen-/)
    expect(chunks.every((chunk) => chunk.id === id && chunk.model === DEMO_MODEL_ID)).toBe(true)
    const last = chunks.at(-1)
    expect(last?.choices).toEqual([])
    const tokens = chunks.filter(({ choices }) => choices[0]?.delta.content).length
    expect(last?.usage).toMatchObject({
      prompt_tokens: 5,
      completion_tokens: tokens,
      total_tokens: 5 + tokens,
      cost: 0,
    })
  })

  test('is, byte for byte, a comment, a role, tokens, a finish, usage and [DONE]', async () => {
    demo.script(answer(['Hé', ' 🙂'], { generationId: 'gen-1', model: 'some/model', reasoning: ['hm'] }))
    const response = await post({ model: DEMO_MODEL_ID, messages: [user('x')], stream: true })
    const text = await response.text()
    const [created] = /(?<="created":)\d+/.exec(text) ?? ['']
    const start = `data: {"id":"gen-1","provider":"Rivulet","model":"some/model","object":"chat.completion.chunk","created":${created},`
    const delta = (fields: string, reason = 'null') =>
      `${start}"choices":[{"index":0,"delta":{"role":"assistant",${fields}},"finish_reason":${reason},"native_finish_reason":${reason},"logprobs":null}]}\n\n`
    const usage =
      '{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"cost":0.00000255,"cost_details":{"upstream_inference_cost":null},"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}'
    const thought =
      '"content":"","reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm","format":"unknown","index":0}]'

    expect(response.headers.get('content-type')).toBe('text/event-stream')
    expect(text).toBe(
      ': OPENROUTER PROCESSING\n\n' +
        delta('"content":""') +
        delta(thought) +
        delta('"content":"Hé"') +
        delta('"content":" 🙂"') +
        delta('"content":""', '"stop"') +
        `${start}"choices":[],"usage":${usage}}\n\n` +
        'data: [DONE]\n\n',
    )
  })

  test('sends its headers before its first token', async () => {
    const gate = gated()
    demo.script(gate)
    const response = await post({ model: 'm', messages: [user('x')], stream: true })
    expect(response.headers.get('x-generation-id')).toMatch(/^gen-/)
    expect(demo.requests[0]?.sentText).toBe('')
    gate.end()
    await response.text()
  })
})

describe('an answer that is not streamed', () => {
  test('is one completion with its usage and generation id', async () => {
    demo.script(answer(['One', ' two'], { finishReason: 'length', usage: { cost: 0.5 } }))
    const messages = [user('x')]
    const { data, response } = await client.chat.completions.create({ model: 'm', messages }).withResponse()
    expect(data.choices[0]).toMatchObject({ message: { content: 'One two' }, finish_reason: 'length' })
    expect(data.usage).toMatchObject({ completion_tokens: 2, cost: 0.5 })
    expect(response.headers.get('x-generation-id')).toBe(data.id)
  })
})

describe('other routes', () => {
  test('GET /models lists free and paid models', async () => {
    const { data } = await client.models.list()
    const listed = z
      .array(z.object({ id: z.string(), context_length: z.int(), pricing: z.object({ prompt: z.string() }) }))
      .parse(data)
    expect(listed.map(({ id, pricing }) => [id, Number(pricing.prompt) === 0])).toEqual([
      [DEMO_MODEL_ID, true],
      ['rivulet/demo-small:free', true],
      [PAID_MODEL_ID, false],
    ])
  })

  test('GET /generation knows what was served, once it has ended and its lag is over', async () => {
    const gate = gated()
    demo.script({ ...gate, generationId: 'gen-7', generationLag: 1 })
    const response = await post({ model: PAID_MODEL_ID, messages: [user('x')], stream: true })
    const record = await demo.nextRequest()
    expect((await get('/generation?id=gen-7')).status).toBe(404)
    gate.release(2)
    gate.end()
    await response.text()
    await record.ended
    expect((await get('/generation?id=gen-7')).status).toBe(404)
    expect((await get('/generation?id=gen-7')).json).toMatchObject({
      data: {
        id: 'gen-7',
        cancelled: false,
        native_tokens_prompt: 5,
        native_tokens_completion: 2,
        total_cost: 0.00000195,
      },
    })
  })

  test.each([
    '/generation',
    '/generation?id=',
    '/generation?id=gen-unknown',
    '/nothing',
    '/chat/completions',
  ])('GET %s is a JSON 404', async (path) => {
    expect(await get(path)).toMatchObject({ status: 404, json: { error: { code: 404 } } })
  })

  test.each([
    '',
    'null',
    '{',
    '[]',
    '{}',
    '{"messages":[]}',
    '{"messages":"x"}',
    '{"messages":[{"role":1}]}',
  ])('a chat completion with the body %j is a JSON 400', async (body) => {
    const response = await post(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 400 } })
    expect(demo.requests).toEqual([])
  })
})

describe('scripting', () => {
  test('is first in first out, then what always says, then the prepared answer', async () => {
    demo.always(({ model }) => (model === 'a' ? answer('always') : undefined))
    demo.script(answer('first'), answer('second'))
    const models = ['a', 'a', 'a', 'b']
    const answers = []
    for (const model of models) answers.push(await ask('Hello', model))
    expect(answers.slice(0, 3)).toEqual(['first', 'second', 'always'])
    expect(answers[3]).toContain('Hello')
    demo.always(undefined)
    expect(await ask('Hello', 'a')).toContain('Hello')
  })

  test('requests are taken once each, by whoever waits for one like them', async () => {
    const waiting = demo.nextRequest(({ body }) => body.model === 'b')
    await ask('1', 'a')
    await ask('2', 'b')
    expect((await waiting).body.messages).toEqual([user('2')])
    expect((await demo.nextRequest()).headers.authorization).toBe('Bearer unused')
  })

  test('a client that leaves is noticed, and its generation is cancelled', async () => {
    const gate = gated()
    demo.script(gate)
    const controller = new AbortController()
    const messages = [user('x')]
    const options = { signal: controller.signal }
    const stream = await client.chat.completions.create({ model: 'm', messages, stream: true }, options)
    const record = await demo.nextRequest()
    gate.release(3)
    let read = 0
    for await (const { choices } of stream) {
      if (choices[0]?.delta.content && ++read === 3) controller.abort()
    }
    const abortedAt = Date.now()
    await record.ended
    expect(record).toMatchObject({ finished: false, sentText: 't1 t2 t3 ' })
    expect((record.closedAt ?? Infinity) - abortedAt).toBeLessThan(100)
    const { json } = await get(`/generation?id=${record.generationId ?? ''}`)
    expect(json).toMatchObject({ data: { cancelled: true, native_tokens_completion: 3 } })
  })

  test('a finished or cut answer does not count as left by its client', async () => {
    demo.script(answer('x'), cutAfter(1), httpError(500))
    for (let index = 0; index < 3; index++) {
      const response = await post({ model: 'm', messages: [user('x')], stream: true })
      await response.text().catch(() => undefined)
      const record = await demo.nextRequest()
      await record.ended
      expect(record.closedAt).toBeUndefined()
      expect(record.finished).toBe(index !== 1)
    }
  })
})

test('close() ends hanging, paced and half-sent requests, and leaves no timer', async () => {
  const closing = await startDemoModel({ firstTokenDelayMs: 3_600_000 })
  closing.script(hang({ after: 'headers' }), hang({ after: 2, commentEveryMs: 3_600_000 }))
  const url = `${closing.baseUrl}/chat/completions`
  const body = JSON.stringify({ messages: [user('x')], stream: true })
  const responses = await Promise.all([0, 1, 2].map(() => fetch(url, { method: 'POST', body })))
  const half = httpRequest(url, { method: 'POST', headers: { 'content-length': 10 } })
  half.write('{')
  const broken = once(half, 'error')
  const timersBefore = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

  const nobody = closing.nextRequest(() => false)
  await Promise.all([closing.close(), expect(nobody).rejects.toThrow('closed before')])

  await Promise.all(responses.map((response) => expect(response.text()).rejects.toThrow()))
  expect(await broken).toHaveLength(1)
  expect(closing.requests.every(({ open, closedAt }) => !open && closedAt === undefined)).toBe(true)
  const timersAfter = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  expect(timersAfter).toBeLessThanOrEqual(timersBefore - 2)
  await closing.close()
})

test('a port that is taken is refused', async () => {
  await expect(startDemoModel({ port: Number(new URL(demo.baseUrl).port) })).rejects.toThrow('EADDRINUSE')
})
