/** Bytes → what the model said: the same, wherever the network cut them. Pure. */
import { describe, expect, it } from 'vitest'
import { createDecoder, lineCharsMax, plainDecimal, type Decoded } from '../../src/upstream/decode.ts'

interface Told {
  text: string
  reasoning: string
  decoded: Decoded
}

function decode(...pieces: (string | Uint8Array)[]): Told {
  const told = { text: '', reasoning: '' }
  const decoder = createDecoder({
    text: (content) => (told.text += content),
    reasoning: (content) => (told.reasoning += content),
  })
  for (const piece of pieces) decoder.push(Buffer.from(piece as string))
  decoder.end()
  return { ...told, decoded: decoder.decoded }
}

const event = (chunk: unknown) => `data: ${JSON.stringify(chunk)}\n\n`
const delta = (fields: Record<string, unknown>, finishReason: string | null = null) =>
  event({ id: 'gen-1', model: 'm/one', choices: [{ index: 0, delta: fields, finish_reason: finishReason }] })
const say = (content: string) => delta({ role: 'assistant', content })
const stop = delta({ content: '' }, 'stop')
const done = 'data: [DONE]\n\n'

describe('events that differ from the one before in their text alone', () => {
  const frame = (literal: string) =>
    `data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":${literal}},"finish_reason":null}],"model":"m"}\n\n`
  it.each([
    ['quotes, backslashes, line ends', ['a', 'say \\"hi\\"', 'c:\\\\', '\\n'], 'asay "hi"c:\\\n'],
    ['escapes', ['a', '\\u00e9', '\\ud83d\\ude42', '\\/'], 'aé🙂/'],
    ['half a pair in each', ['a', '\\ud83d', '\\ude42'], 'a🙂'],
    [
      'what looks like the rest of an event',
      ['a', '\\"},\\"finish_reason\\":\\"stop\\"}],'],
      'a"},"finish_reason":"stop"}],',
    ],
    ['the same text as the one before', ['a', 'a', 'a'], 'aaa'],
    ['nothing', ['a', '', 'b'], 'ab'],
  ])('hold %s', (_what, literals, text) => {
    expect(decode(...literals.map((literal) => frame(`"${literal}"`)), done).text).toBe(text)
  })

  it('are read as a whole where something else stands in the place of the text', () => {
    const told = decode(
      frame('"a"'),
      frame('"b","reasoning":"hm"'),
      frame('"c","role":"assistant"'),
      frame('null'),
      frame('["d"]'),
      frame('"e","content":"f"'),
      done,
    )
    expect(told).toMatchObject({
      text: 'abcf',
      reasoning: 'hm',
      decoded: { done: true },
    })
  })

  it('are malformed where they are malformed', () => {
    expect(decode(frame('"a"'), frame('"b'), frame('"c"')).decoded.malformed).toBeDefined()
  })

  it('are told apart from those whose text stands elsewhere', () => {
    const odd = (text: string) =>
      `data: {"note":{"content":"same"},"choices":[{"delta":{"content":${JSON.stringify(text)}}}]}\n\n`
    expect(decode(odd('same'), odd('other'), odd('same'), done).text).toBe('sameothersame')
  })

  it('may follow an event that reasons, and be followed by a usage', () => {
    const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3, cost: 0.5 }
    const told = decode(
      delta({ content: '', reasoning: 'hm' }),
      say('a'),
      say('b'),
      event({
        id: 'gen-1',
        model: 'm/one',
        choices: [{ index: 0, delta: { role: 'assistant', content: 'c' }, finish_reason: 'stop' }],
        usage,
      }),
      done,
    )
    expect(told).toMatchObject({
      text: 'abc',
      reasoning: 'hm',
      decoded: { finishReason: 'stop', usage: { cost: '0.5' } },
    })
  })
})

describe('bytes cut anywhere', () => {
  const usage = { prompt_tokens: 3, completion_tokens: 5, total_tokens: 8, cost: 0.00000012 }
  const plain =
    ': OPENROUTER PROCESSING\n\n' +
    delta({ role: 'assistant', content: '', reasoning: 'hm… ' }) +
    say('Grüß dich 🙂') +
    ': comment between\n' +
    'event: message\nid: 7\nretry: 10\n' +
    'data: {"choices":\ndata:  [{"delta":\ndata:{"content":" — 𝒻𝑜𝓊𝓇 bytes"}}]}\n\n' +
    say(' half \ud83d') +
    say('\ude42 of a pair') +
    stop +
    event({ choices: [], usage }) +
    done
  const withLineEnds = (end: string) => plain.replaceAll('\n', end)
  const streams: [name: string, stream: string][] = [
    ['LF', plain],
    ['CRLF', withLineEnds('\r\n')],
    ['CR', withLineEnds('\r')],
    ['a byte order mark first', `\ufeff${plain}`],
    ['no space after the colon', plain.replaceAll('data: {', 'data:{')],
    ['no blank line after the last event', plain.trimEnd()],
  ]
  const whole: Told = {
    text: 'Grüß dich 🙂 — 𝒻𝑜𝓊𝓇 bytes half 🙂 of a pair',
    reasoning: 'hm… ',
    decoded: {
      upstreamId: 'gen-1',
      model: 'm/one',
      finishReason: 'stop',
      usage: { promptTokens: 3, completionTokens: 5, totalTokens: 8, cost: '0.00000012' },
      done: true,
      error: undefined,
      malformed: undefined,
      events: 7,
    },
  }

  it.each(streams)('%s: at every position', (_name, stream) => {
    const bytes = Buffer.from(stream)
    for (let at = 0; at <= bytes.length; at++)
      expect(decode(bytes.subarray(0, at), bytes.subarray(at)), `cut at byte ${at}`).toEqual(whole)
  })

  it.each(streams)('%s: into single bytes', (_name, stream) => {
    expect(decode(...[...Buffer.from(stream)].map((byte) => Uint8Array.of(byte)))).toEqual(whole)
  })

  it.each([
    ['LF', '\n'],
    ['CRLF', '\r\n'],
    ['CR', '\r'],
  ])('%s: at every pair of positions', (_name, end) => {
    const short =
      ':c\n\ndata: {"choices":[{"delta":{"content":"é🙂"}}]}\n\ndata: {"choices":[{"delta":{"content":"!"}}]}\n\n'
    const bytes = Buffer.from((short + done).replaceAll('\n', end))
    for (let one = 0; one <= bytes.length; one++)
      for (let two = one; two <= bytes.length; two++) {
        const { text, decoded } = decode(
          bytes.subarray(0, one),
          bytes.subarray(one, two),
          bytes.subarray(two),
        )
        if (text !== 'é🙂!' || !decoded.done || decoded.events !== 2)
          expect.fail(`cut at ${one} and ${two}: ${JSON.stringify({ text, decoded })}`)
      }
  })
})

describe('what a chunk says', () => {
  const noText: [name: string, chunk: unknown][] = [
    ['choices: []', { choices: [] }],
    ['choices: null', { choices: null }],
    ['no choices', { id: 'gen-1' }],
    ['choices: [null]', { choices: [null] }],
    ['a choice without delta', { choices: [{ index: 0 }] }],
    ['delta: null', { choices: [{ delta: null }] }],
    ['content: null', { choices: [{ delta: { content: null } }] }],
    ['content that is a number', { choices: [{ delta: { content: 7 } }] }],
    ['content that is a list', { choices: [{ delta: { content: ['x'] } }] }],
  ]
  it.each(noText)('%s says nothing, and the stream goes on', (_name, chunk) => {
    const { text, decoded } = decode(event(chunk) + say('on'))
    expect({ text, malformed: decoded.malformed }).toEqual({ text: 'on', malformed: undefined })
  })

  const said: [name: string, stream: string, text: string][] = [
    ['several events in one packet', say('a') + say('b') + say('c'), 'abc'],
    ['a refusal with content: null', delta({ content: null, refusal: 'No.' }), 'No.'],
    ['a refusal beside empty content', delta({ content: '', refusal: 'No.' }), 'No.'],
    ['tokens after [DONE]', say('a') + done + say('never'), 'a'],
    ['tokens after an error', say('a') + event({ error: { message: 'no' } }) + say('never'), 'a'],
    ['NUL', say('a\0b\0') + say('\0'), 'ab'],
    ['a pair split over two deltas', say('\ud83d') + say('\ude42'), '🙂'],
    ['a pair split around an empty delta', say('\ud83d') + say('') + say('\ude42'), '🙂'],
    ['a pair split around a comment', `${say('\ud83d')}: x\n\n${say('\ude42')}`, '🙂'],
    ['a high half alone in the middle', say('a\ud83db'), 'a\ufffdb'],
    ['a high half, then other text', say('a\ud83d') + say('b'), 'a\ufffdb'],
    ['a high half at the end', say('a\ud83d'), 'a\ufffd'],
    ['a low half alone', say('\ude42a'), '\ufffda'],
    ['halves the wrong way round', say('\ude42') + say('\ud83d'), '\ufffd\ufffd'],
    ['line separators that JSON allows', say('a\u2028b\u2029c\u0085d'), 'a\u2028b\u2029c\u0085d'],
    ['a byte order mark inside the text', say('\ufeffa'), '\ufeffa'],
  ]
  it.each(said)('%s', (_name, stream, text) => {
    expect(decode(stream).text).toBe(text)
  })

  it('replaces bytes that are no UTF-8', () => {
    const [before = '', after = ''] = say('a|b').split('|')
    expect(decode(before, Uint8Array.of(0xff, 0xc3), after).text).toBe('a\ufffd\ufffdb')
  })

  it.each([
    [{ reasoning: 'why' }],
    [{ reasoning_content: 'why' }],
    [{ reasoning: 'why', reasoning_content: 'why' }],
    [{ reasoning: null, reasoning_content: 'why' }],
    [{ reasoning: '', reasoning_content: 'why' }],
    [{ content: '', reasoning: 'why' }],
  ])('%j is reasoning, once', (fields) => {
    expect(decode(delta(fields))).toMatchObject({ text: '', reasoning: 'why' })
  })

  it('keeps the halves of text and of reasoning apart', () => {
    const stream =
      delta({ content: '\ud83d', reasoning: 'x\ud83d' }) + delta({ content: '\ude42', reasoning: '\ude42' })
    expect(decode(stream)).toMatchObject({ text: '🙂', reasoning: 'x🙂' })
  })

  it('reads usage from the chunk without choices, whatever is missing in it', () => {
    const of = (usage: unknown) => decode(event({ choices: [], usage })).decoded.usage
    expect(of({ prompt_tokens: 2, completion_tokens: 3 })).toEqual({
      promptTokens: 2,
      completionTokens: 3,
      totalTokens: 5,
      cost: undefined,
    })
    expect(of({ prompt_tokens: -1, completion_tokens: '9', total_tokens: 1e12, cost: -1 })).toEqual({
      promptTokens: 0,
      completionTokens: 0,
      totalTokens: 2_147_483_647,
      cost: undefined,
    })
    expect(of({ cost: 0 })?.cost).toBe('0')
    expect(of(null)).toBeUndefined()
  })

  it.each(['id', 'model'])('makes a hostile %s storable: no NUL, no half pair, bounded', (name) => {
    const { decoded } = decode(event({ choices: [], [name]: `x\0y\ud83d${'z'.repeat(100_000)}` }))
    const value = (name === 'id' ? decoded.upstreamId : decoded.model) ?? ''
    expect(value.startsWith('xy\ufffdz')).toBe(true)
    expect(value.length).toBeLessThan(1_000)
  })

  it('takes an empty id, model or finish reason for none', () => {
    const { decoded } = decode(event({ id: '', model: '', choices: [] }) + delta({ content: 'a' }, ''))
    expect(decoded).toMatchObject({ upstreamId: 'gen-1', model: 'm/one', finishReason: undefined })
  })

  it('makes a hostile finish reason storable', () => {
    expect(decode(delta({}, 'st\0op\ud83d')).decoded.finishReason).toBe('stop\ufffd')
  })
})

describe('errors inside a stream', () => {
  const error = (fields: Record<string, unknown>, choices: unknown = []) =>
    say('a') + event({ id: 'gen-1', error: fields, choices })
  it.each([
    ['a number', error({ code: 502, message: 'm' }), { code: 502, message: 'm' }],
    ['a numeric string', error({ code: '429', message: 'm' }), { code: 429, message: 'm' }],
    ['a word', error({ code: 'server_error', message: 'm' }), { code: undefined, message: 'm' }],
    ['no HTTP status', error({ code: 1234, message: 'm' }), { code: undefined, message: 'm' }],
    ['nothing', error({}), { code: undefined, message: 'unknown' }],
    [
      'a choice that ends with error',
      error({ code: 500, message: 'm' }, [{ delta: {}, finish_reason: 'error' }]),
      { code: 500, message: 'm' },
    ],
    [
      'only finish_reason: error',
      say('a') + delta({}, 'error'),
      { code: undefined, message: 'finish_reason: error' },
    ],
  ])('code is %s', (_name, stream, expected) => {
    const { text, decoded } = decode(stream + say('never') + done)
    expect({ text, error: decoded.error, done: decoded.done }).toEqual({
      text: 'a',
      error: expected,
      done: false,
    })
  })

  it('knows an error that is only a string', () => {
    expect(decode(say('a') + event({ error: 'overloaded' }) + say('never'))).toMatchObject({
      text: 'a',
      decoded: { error: { code: undefined } },
    })
  })
})

describe('streams that are not well-formed', () => {
  it.each([
    ['no JSON', 'data: {"id": "gen-broken", "choices": [\n\n'],
    ['an array', 'data: []\n\n'],
    ['a number', 'data: 1\n\n'],
    ['null', 'data: null\n\n'],
    ['an empty value', 'data:\n\n'],
  ])('an event that is %s: nothing behind it counts', (_name, broken) => {
    const { text, decoded } = decode(say('a') + broken + say('never') + done)
    expect(text).toBe('a')
    expect(decoded.malformed).toEqual(expect.any(String))
    expect(decoded.done).toBe(false)
  })

  it('a half event at the end is no malformed one: the stream broke off', () => {
    const half = say('never').slice(0, -30)
    expect(decode(say('a') + half)).toMatchObject({
      text: 'a',
      decoded: { malformed: undefined, finishReason: undefined, events: 1 },
    })
  })

  it('half a character at the end leaves what came before it', () => {
    const bytes = Buffer.from(say('a') + 'data: {"choices":[{"delta":{"content":"🙂')
    expect(decode(bytes.subarray(0, -2))).toMatchObject({ text: 'a', decoded: { malformed: undefined } })
  })

  /** As packets bring it. */
  const packets = (text: string) => text.match(/[^]{1,16000}/g) ?? []

  it('a line over the cap ends it, and feeding on is harmless', () => {
    const { text, decoded } = decode(
      say('a'),
      ...packets(say('x'.repeat(lineCharsMax + 100_000))),
      say('never'),
    )
    expect(text).toBe('a')
    expect(decoded.malformed).toContain('a line of over')
  })

  it('an event over the cap in many short lines ends it', () => {
    const lines = `data: ${' '.repeat(1_000)}\n`.repeat(1_100)
    const { text, decoded } = decode(say('a'), ...packets(`${lines}\n`), say('never'))
    expect(text).toBe('a')
    expect(decoded.malformed).toContain('a line of over')
  })

  it('a line just under the cap is read', () => {
    const long = 'x'.repeat(lineCharsMax - 200)
    expect(decode(...packets(say(long))).text).toBe(long)
  })

  it('a comment of any length costs nothing', () => {
    const told = decode(...packets(`: ${'x'.repeat(2 * lineCharsMax)}\n\n`), say('a'))
    expect(told).toMatchObject({ text: 'a', decoded: { malformed: undefined } })
  })
})

describe('plainDecimal', () => {
  it.each([
    [0, '0'],
    [1, '1'],
    [0.1, '0.1'],
    [1e-7, '0.0000001'],
    [1.25e-7, '0.000000125'],
    [1e21, '1000000000000000000000'],
    [1.5e22, '15000000000000000000000'],
    [123.456, '123.456'],
    [5e-324, `0.${'0'.repeat(323)}5`],
  ])('%d is %s', (value, text) => {
    expect(plainDecimal(value)).toBe(text)
  })

  it('reads back as the same number, without an exponent, over all magnitudes', () => {
    for (let exponent = -320; exponent <= 308; exponent++) {
      const value = Number(`1.2345678901234567e${exponent}`)
      expect(plainDecimal(value)).toMatch(/^\d+(\.\d+)?$/)
      expect(Number(plainDecimal(value))).toBe(value)
    }
  })
})
