/** What the upstream said is what is shown and stored, byte for byte, through the whole service. */
import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, ending, huge, hugeLine, raw, say, type Behaviour } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'
import { representations, takeTurn, type Representation, type Turn } from '../support/turn.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

/** One turn against a behaviour: what was shown, what is stored, and that the upstream was asked once. */
async function turnAgainst(
  behaviour: Behaviour,
  as: Representation,
  id?: string,
): Promise<Turn & { stored: Message }> {
  service.upstream.forget()
  service.upstream.script(behaviour)
  const conversationId = id ?? (await ann.conversation())
  // A root of its own each time: the context stays short, however many turns a conversation has.
  const turn = await takeTurn(ann, conversationId, as, { parent_message_id: null })
  expect(service.upstream.requests).toHaveLength(1)
  const { body } = await ann.get<Message>(`/conversations/${conversationId}/messages/${turn.assistant.id}`)
  expect(body).toEqual(turn.assistant)
  return { ...turn, stored: body }
}

describe.each(representations)('as %s, the text is byte-equal to the upstream’s', (as) => {
  const chunk = (content: string) =>
    `data: {"choices":[{"delta":{"content":${JSON.stringify(content)}}}]}\n\n`
  const stream =
    `:c\n\n${chunk('é🙂')}data: {"choices":\ndata: [{"delta":{"content":"𝒻\\n"}}]}\n\n${chunk('\ud83d')}` +
    `${chunk('\ude42!')}data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`
  const text = 'é🙂𝒻\n🙂!'

  it.each([
    ['LF', '\n'],
    ['CRLF', '\r\n'],
  ])('with %s line ends, cut at every byte', { timeout: 120_000 }, async (_name, end) => {
    const bytes = Buffer.from(stream.replaceAll('\n', end))
    const id = await ann.conversation()
    for (let at = 0; at <= bytes.length; at++) {
      const pieces = [bytes.subarray(0, at), bytes.subarray(at)]
      const { shown, stored } = await turnAgainst(raw(pieces), as, id)
      expect({ shown, content: stored.content, status: stored.status }, `cut at ${at}`).toEqual({
        shown: text,
        content: text,
        status: 'complete',
      })
    }
  })

  it('cut into single bytes: one event over many packets', async () => {
    const pieces = [...Buffer.from(stream)].map((byte) => Uint8Array.of(byte))
    const { shown, stored } = await turnAgainst(raw(pieces), as)
    expect(shown).toBe(text)
    expect(stored.content).toBe(text)
  })

  it('with all its events in one packet', async () => {
    const { shown, stored } = await turnAgainst(raw([stream]), as)
    expect(shown).toBe(text)
    expect(stored.content).toBe(text)
  })

  it('for 100 random streams of tokens', { timeout: 60_000 }, async () => {
    const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
    const random = seeded(seed)
    const id = await ann.conversation()
    for (let round = 1; round <= 100; round++) {
      const written = randomText(random)
      const tokens = cutAnywhere(written, random)
      const { shown, stored } = await turnAgainst(answer(tokens), as, id)
      const label = `SEED=${seed}, round ${round}`
      expect(shown, label).toBe(written)
      expect(stored.content, label).toBe(written)
    }
  })

  it('for an answer of 3 MB', async () => {
    const { shown, stored } = await turnAgainst(huge(3_000_000), as)
    const length = Math.ceil(3_000_000 / 16_384) * 16_384
    expect(stored.status).toBe('complete')
    expect(stored.content === 'x'.repeat(length)).toBe(true)
    expect(shown === stored.content).toBe(true)
  })
})

describe.each(representations)('as %s, an answer over a cap fails, and what came before it is kept', (as) => {
  const mebibyte = 1024 * 1024

  it('of 4 MiB for the whole', async () => {
    const asked = service.upstream.nextRequest()
    const { shown, stored, error } = await turnAgainst(huge(64 * mebibyte), as)
    expect(error?.code).toBe('upstream_error')
    expect(stored.status).toBe('failed')
    expect(stored.content.length).toBeGreaterThanOrEqual(4 * mebibyte)
    expect(stored.content.length).toBeLessThan(5 * mebibyte)
    expect(shown === stored.content).toBe(true)
    const request = await asked
    await request.ended
    expect(request.closedAt).toEqual(expect.any(Number))
  })

  it('of 1 MiB for a line', async () => {
    const asked = service.upstream.nextRequest()
    const line = hugeLine(64 * mebibyte)
    const { shown, stored, error } = await turnAgainst(
      { steps: [say(['kept']), ...line.steps, ...ending] },
      as,
    )
    expect(error?.code).toBe('upstream_error')
    expect(stored).toMatchObject({ status: 'failed', content: 'kept' })
    expect(shown).toBe('kept')
    const request = await asked
    await request.ended
    expect(request.closedAt).toEqual(expect.any(Number))
  })
})

/** mulberry32: numbers from 0 to 1, the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Well-formed text from all over Unicode, with what could break a frame, a line or a JSON string. */
function randomText(random: () => number): string {
  const ranges = [
    [0x01, 0x20],
    [0x20, 0x7f],
    [0x7f, 0x800],
    [0x2020, 0x2040],
    [0x4e00, 0x9fff],
    [0xfef0, 0xffff],
    [0x1_f300, 0x1_faff],
    [0x10_ff00, 0x10_ffff],
  ] as const
  const points = Array.from({ length: 1 + Math.floor(random() * 60) }, () => {
    const [from, to] = ranges[Math.floor(random() * ranges.length)] ?? [0x61, 0x7a]
    return from + Math.floor(random() * (to - from))
  })
  return String.fromCodePoint(...points)
}

/** At any UTF-16 unit, also inside a surrogate pair, as byte-level tokenizers do. */
function cutAnywhere(text: string, random: () => number): string[] {
  const tokens: string[] = []
  for (let from = 0; from < text.length;) {
    const to = from + 1 + Math.floor(random() * 6)
    tokens.push(text.slice(from, to))
    from = to
  }
  return tokens
}
