import OpenAI from 'openai'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import {
  answer,
  cutAfter,
  empty,
  errorAfter,
  gated,
  hang,
  huge,
  hugeLine,
  malformedAfter,
  raw,
  reset,
  say,
  someTokens,
  startDemoModel,
  tokensAfterDone,
  withoutDone,
  withoutFinish,
  type Behaviour,
  type DemoModel,
} from '../../src/embedded/demo-model.ts'

let demo: DemoModel

beforeAll(async () => {
  demo = await startDemoModel()
})
beforeEach(() => demo.forget())
afterAll(() => demo.close())

const body = (stream: boolean) =>
  JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'x' }], stream })

function run(behaviour: Behaviour, init: RequestInit & { stream?: boolean } = {}): Promise<Response> {
  demo.script(behaviour)
  const { stream = true, ...rest } = init
  return fetch(`${demo.baseUrl}/chat/completions`, { method: 'POST', body: body(stream), ...rest })
}

/** What each frame says: a comment, a token, a finish reason, usage, an error, or else its text. */
async function outline(behaviour: Behaviour): Promise<unknown[]> {
  return said(await (await run(behaviour)).text())
}

function said(text: string): unknown[] {
  return text
    .split('\n\n')
    .filter((frame) => frame !== '')
    .map((frame) => {
      try {
        const { choices, usage, error } = chunk.parse(JSON.parse(frame.slice('data: '.length)))
        const choice = choices[0]
        if (error) return ['error', error.code, choice?.finish_reason]
        return usage ? 'usage' : (choice?.finish_reason ?? [choice?.delta.content])
      } catch {
        return frame
      }
    })
}

const chunk = z.object({
  choices: z.array(
    z.object({ delta: z.object({ content: z.string() }), finish_reason: z.string().nullable() }),
  ),
  usage: z.unknown().optional(),
  error: z.object({ code: z.union([z.number(), z.string()]) }).optional(),
})

const processing = ': OPENROUTER PROCESSING'
const tokens = (count: number) => ['', ...someTokens(count)].map((token) => [token])
const done = 'data: [DONE]'

/** Gives the body read by read; '' at its end. */
function reading(response: Response) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  return { next: async () => (await reader?.read())?.value ?? '' }
}

/** The rest of the body as far as it came, and whether it broke. */
async function readToEnd({ next }: ReturnType<typeof reading>): Promise<{ text: string; broke: boolean }> {
  let text = ''
  try {
    for (let read = await next(); read !== ''; read = await next()) text += read
    return { text, broke: false }
  } catch {
    return { text, broke: true }
  }
}

describe('streams that go wrong', () => {
  test.each<[string, Behaviour, unknown[]]>([
    ['withoutDone', withoutDone(2), [processing, ...tokens(2), 'stop', 'usage']],
    ['withoutFinish', withoutFinish(2), [processing, ...tokens(2)]],
    ['tokensAfterDone', tokensAfterDone(['z'], 1), [processing, ...tokens(1), 'stop', 'usage', done, ['z']]],
    [
      'malformedAfter',
      malformedAfter(1, '{"a"'),
      [processing, ...tokens(1), 'data: {"a"', [' and on'], 'stop', 'usage', done],
    ],
    ['errorAfter', errorAfter(2), [processing, ...tokens(2), ['error', 502, 'error']]],
    [
      'errorAfter with a code',
      errorAfter(0, { error: { code: 'x' } }),
      [processing, ['error', 'x', 'error']],
    ],
    [
      'errorAfter without choices',
      errorAfter(1, { choices: 'none' }),
      [processing, ...tokens(1), ['error', 502, undefined]],
    ],
    ['empty', empty(), []],
    ['without usage', answer('a', { usage: false }), [processing, [''], ['a'], 'stop', done]],
    ['steps', { steps: [say(['a', 'b'], 1)] }, [[''], ['a'], ['b']]],
  ])('%s', async (_, behaviour, expected) => {
    expect(await outline(behaviour)).toEqual(expected)
  })

  test('cutAfter delivers its tokens and then breaks the connection', async () => {
    const { text, broke } = await readToEnd(reading(await run(cutAfter(50))))
    expect(broke).toBe(true)
    expect(said(text)).toEqual([processing, ...tokens(50)])
  })

  test('reset breaks the connection before any answer', async () => {
    const error: unknown = await run(reset()).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ cause: { code: 'ECONNRESET' } })
  })

  test('a mid-stream error is thrown by the SDK', async () => {
    demo.script(errorAfter(1))
    const client = new OpenAI({ baseURL: demo.baseUrl, apiKey: 'x', maxRetries: 0 })
    const messages = [{ role: 'user' as const, content: 'x' }]
    const stream = await client.chat.completions.create({ model: 'm', messages, stream: true })
    const read = async () => {
      for await (const { choices } of stream) expect(choices).toHaveLength(1)
    }
    await expect(read()).rejects.toThrow('Provider disconnected unexpectedly')
  })
})

describe('hang', () => {
  test('after the request: no headers, until the client leaves', async () => {
    const controller = new AbortController()
    const response = run(hang(), { signal: controller.signal })
    const record = await demo.nextRequest()
    controller.abort()
    await expect(response).rejects.toThrow('aborted')
    await record.ended
    expect(record.closedAt).toBeTypeOf('number')
    expect(record.sentBytes).toBe(0)
    expect(record.generationId).toBeUndefined()
  })

  test.each([
    ['headers', { after: 'headers' as const }, []],
    ['2 tokens', { after: 2 }, tokens(2)],
    ['2 tokens, with comments', { after: 2, commentEveryMs: 1 }, [...tokens(2), processing, processing]],
  ])('after %s', async (_, options, expected) => {
    const controller = new AbortController()
    const response = await run(hang(options), { signal: controller.signal })
    const record = await demo.nextRequest()
    const frames = [processing, ...expected].length
    const { next } = reading(response)
    let text = ''
    while (text.split('\n\n').length <= frames) text += await next()
    expect(said(text).slice(0, frames)).toEqual([processing, ...expected])
    controller.abort()
    await record.ended
    expect(record.closedAt).toBeTypeOf('number')
  })
})

describe('sizes and pieces', () => {
  test('huge sends all of it, finished', async () => {
    const frames = await outline(huge(1_000_000))
    const content = frames.map((frame) => (Array.isArray(frame) ? frame.join('') : '')).join('')
    expect(content).toHaveLength(62 * 16_384)
    expect(frames.slice(-3)).toEqual(['stop', 'usage', done])
  })

  test('hugeLine has no line end', async () => {
    const text = await (await run(hugeLine(3_000_000))).text()
    const line = text.slice(text.lastIndexOf('data: '))
    expect(line.length).toBeGreaterThan(3_000_000)
    expect(line).not.toContain('\n')
  })

  test('a client that does not read stops a flood, and leaves it', async () => {
    const agent = new Agent()
    demo.script(huge(1_000_000_000))
    const url = `${demo.baseUrl}/chat/completions`
    const answered = await request(url, { method: 'POST', body: body(true), dispatcher: agent })
    const record = await demo.nextRequest()
    let before = -1
    while (record.sentBytes > before) {
      before = record.sentBytes
      for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate)
    }
    expect(record.sentBytes).toBeLessThan(50_000_000)
    answered.body.on('error', () => undefined).destroy()
    await record.ended
    expect(record.closedAt).toBeTypeOf('number')
    await agent.close()
  })

  test('raw delivers exactly its bytes, each piece as a read of its own', async () => {
    const bytes = Buffer.from('data: {"héllo": "🙂"}\r\n\r\n: x\n\n')
    const response = await run(raw(Array.from(bytes, (byte) => Uint8Array.of(byte))))
    const reader = (response.body as ReadableStream<Uint8Array> | null)?.getReader()
    const reads: Uint8Array[] = []
    for (let read = await reader?.read(); read?.value; read = await reader?.read()) reads.push(read.value)
    expect(Buffer.concat(reads).equals(bytes)).toBe(true)
    expect(reads.length).toBe(bytes.length)
  })
})

test('gated sends what is released, to everybody it is given to, and then what follows it', async () => {
  const gate = gated({ tokens: ['a', 'b', 'c'], then: [] })
  const bodies = [reading(await run(gate)), reading(await run(gate))]
  gate.release(2)
  const texts = await Promise.all(
    bodies.map(async ({ next }) => {
      let text = ''
      while (!text.includes('"b"')) text += await next()
      return text
    }),
  )
  gate.release(5)
  gate.end()
  const rests = await Promise.all(bodies.map(readToEnd))
  const all = texts.map((text, index) => said(text + (rests[index]?.text ?? '')))
  const expected = [processing, [''], ['a'], ['b'], ['c']]
  expect(all).toEqual([expected, expected])
})

test('not streamed: an error and a bad line replace the body, a cut and a reset break it', async () => {
  expect(await (await run(errorAfter(1), { stream: false })).json()).toMatchObject({ error: { code: 502 } })
  expect(await (await run(malformedAfter(1, '{'), { stream: false })).text()).toBe('{')
  expect(await (await run(raw(['[', ']']), { stream: false })).json()).toEqual([])
  expect(await readToEnd(reading(await run(cutAfter(1), { stream: false })))).toEqual({
    text: '',
    broke: true,
  })
  await expect(run(reset(), { stream: false })).rejects.toThrow()
})
