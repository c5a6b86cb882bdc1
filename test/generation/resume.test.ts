import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client, type Frame } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let other: Service
let ann: Client
let annElsewhere: Client

beforeAll(async () => {
  service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '20' } })
  ann = await service.as('ann')
  other = await startService({ resolved: { databaseUrl: service.databaseUrl, exclusive: false } })
  annElsewhere = await other.as('ann')
})
afterAll(async () => {
  await other.close()
  await service.close()
})
beforeEach(() => service.upstream.forget())

interface Running {
  id: string
  url: string
  generation: string
  message: Message
}

function about(id: string, frames: readonly Frame[]): Running {
  const start = frames.find(({ data }) => data.type === 'assistant_start')
  const message = start?.data['message'] as Message
  return {
    id,
    message,
    generation: String(start?.data['generation_id']),
    url: `/conversations/${id}/messages/${message.id}/stream`,
  }
}

const terminals = (frames: readonly Frame[]) =>
  frames.filter(({ data }) => ['complete', 'error'].includes(data.type))

/** A seeded generator: a failing cut can be cut again. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296
    return state / 4_294_967_296
  }
}

describe.each([
  ['here', () => ann],
  ['on another instance', () => annElsewhere],
])('resuming %s', (_where, viewer) => {
  it('gives exactly the events behind the cursor, at any cut, while it runs and after', async () => {
    const id = await ann.conversation()
    const tokens = Array.from({ length: 60 }, (_, n) => `t${n} é🙂 `)
    const gate = gated({ tokens })
    service.upstream.script(gate)
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.until(({ data }) => data.type === 'assistant_start')
    const { url } = about(id, live.frames)
    gate.release(20)
    await live.until(() => textOf(live.frames).includes('t19 '))
    const cuts = live.frames.map((frame) => frame.id)
    const resumed = await Promise.all(cuts.map((cut) => viewer().stream(`${url}?after=${cut}`, undefined)))
    gate.release(40)
    gate.end()
    const whole = await live.ended
    for (const [index, stream] of resumed.entries()) {
      const frames = await stream.ended
      const cut = live.frames[index]
      const before = textOf(whole.filter(({ seq }) => seq <= (cut?.seq ?? 0)))
      expect(frames.every(({ seq }) => seq > (cut?.seq ?? 0))).toBe(true)
      expect(before + textOf(frames)).toBe(tokens.join(''))
      expect(terminals(frames)).toHaveLength(1)
    }
    // A busy process sends few frames: the last cut of those that there are.
    const after = await viewer().stream(`${url}?after=${cuts.at(-1) ?? ''}`, undefined)
    const frames = await after.ended
    const cutSeq = Number(cuts.at(-1)?.split(':')[1])
    expect(textOf(whole.filter(({ seq }) => seq <= cutSeq)) + textOf(frames)).toBe(tokens.join(''))
    expect(frames.at(-1)?.data).toEqual(whole.at(-1)?.data)
  })

  it('without a cursor: assistant_start, one snapshot, then live', async () => {
    const id = await ann.conversation()
    const gate = gated({ tokens: ['one', ' two', ' three'] })
    service.upstream.script(gate)
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    gate.release(2)
    await live.until(() => textOf(live.frames) === 'one two')
    const { url, message } = about(id, live.frames)
    // Stored by the next flush at the latest.
    await expect
      .poll(
        async () =>
          (
            await service.sql`select 1 from chat.generation_chunks c join chat.generations g on g.id = c.generation_id where g.message_id = ${message.id} and c.last_seq >= ${live.frames.at(-1)?.seq ?? 0}`
          ).length,
      )
      .toBe(1)
    const viewing = await viewer().stream(url, undefined)
    await viewing.until(({ data }) => data.type === 'snapshot')
    gate.release(1)
    gate.end()
    const frames = await viewing.ended
    expect(frames.map(({ data }) => data.type)).toEqual([
      'assistant_start',
      'snapshot',
      'assistant_chunk',
      'complete',
    ])
    expect((frames[1]?.data['message'] as Message).content).toBe('one two')
    expect(textOf(frames)).toBe(' three')
    await live.ended
  })

  it('gives a snapshot for a cursor of another generation, and for one beyond what is stored', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer(['whole', ' text']))
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { url, generation } = about(id, live.frames)
    for (const cursor of [`${crypto.randomUUID()}:3`]) {
      const frames = await (await viewer().stream(`${url}?after=${cursor}`, undefined)).ended
      expect(frames.map(({ data }) => data.type)).toEqual(['snapshot', 'complete'])
      expect((frames[0]?.data['message'] as Message).content).toBe('whole text')
    }
    const beyond = await (await viewer().stream(`${url}?after=${generation}:99999`, undefined)).ended
    expect(beyond.at(-1)?.data).toEqual(live.frames.at(-1)?.data)
  })

  it('serves a settled generation from its message when its chunks are gone', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer(['whole', ' text']))
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { url, generation } = about(id, live.frames)
    await service.sql`delete from chat.generation_chunks where generation_id = ${generation}`
    const frames = await (await viewer().stream(`${url}?after=${generation}:3`, undefined)).ended
    expect(frames.find(({ data }) => data.type === 'snapshot')?.data['message']).toMatchObject({
      content: 'whole text',
    })
    expect(frames.at(-1)?.data).toEqual(live.frames.at(-1)?.data)
  })

  it('prefers Last-Event-ID to the address that the browser began with', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer(['a', 'b', 'c']))
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { url, generation } = about(id, live.frames)
    const last = live.frames.at(-2)?.id ?? ''
    const stream = await viewer().stream(`${url}?after=${generation}:1`, undefined, { 'last-event-id': last })
    expect((await stream.ended).map(({ data }) => data.type)).toEqual(['complete'])
  })

  it.each([
    'x',
    'a:b',
    ':',
    `${crypto.randomUUID()}:`,
    `${crypto.randomUUID()}:-1`,
    `${crypto.randomUUID()}:1e3`,
  ])('refuses %s as a cursor', async (cursor) => {
    const id = await ann.conversation()
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const refused = await viewer().get(`${about(id, live.frames).url}?after=${encodeURIComponent(cursor)}`)
    expect([refused.status, refused.body['code']]).toEqual([400, 'invalid_request'])
  })

  it('knows nothing of a message that was not generated, or is somebody else’s', async () => {
    const id = await ann.conversation()
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { url } = about(id, live.frames)
    const question = live.frames[0]?.data['message'] as Message
    const asked = await viewer().get(`/conversations/${id}/messages/${question.id}/stream`)
    expect([asked.status, asked.body['code']]).toEqual([404, 'generation_not_found'])
    const stranger = await service.as('mallory')
    expect((await stranger.get(url)).body['code']).toBe('conversation_not_found')
    expect((await stranger.post(url.replace('/stream', '/stop'))).body['code']).toBe('conversation_not_found')
  })
})

describe('resuming at random', () => {
  const seed = Number(process.env['SEED'] ?? 20_261_120)
  it(`loses and repeats nothing over 100 cuts, also several of one stream (seed ${seed})`, async () => {
    const next = random(seed)
    const id = await ann.conversation()
    for (let stream = 0; stream < 10; stream++) {
      const tokens = Array.from({ length: 30 }, (_, n) => `${stream}.${n} `)
      const gate = gated({ tokens })
      service.upstream.script(gate)
      let viewing = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
      await viewing.until(({ data }) => data.type === 'assistant_start')
      const { url } = about(id, viewing.frames)
      const seen: Frame[] = []
      for (let cut = 0; cut < 10; cut++) {
        gate.release(3)
        const wanted = Math.floor(next() * 3 * (cut + 1))
        await viewing.until(() => textOf([...seen, ...viewing.frames]).split(' ').length > wanted)
        viewing.drop()
        await viewing.ended
        seen.push(...viewing.frames)
        const cursor = seen.at(-1)?.id ?? ''
        const where = next() < 0.5 ? ann : annElsewhere
        viewing = await where.stream(`${url}?after=${cursor}`, undefined)
        if (cut === 9) gate.end()
      }
      seen.push(...(await viewing.ended))
      expect(seen.some(({ data }) => data.type === 'snapshot')).toBe(false)
      expect(textOf(seen), `stream ${stream}`).toBe(tokens.join(''))
    }
  }, 60_000)
})

describe('stopping', () => {
  it.each([
    ['here', () => ann, 500],
    ['from another instance', () => annElsewhere, 2_000],
  ])(
    '%s closes the upstream, keeps the text, and is told to every viewer',
    async (_where, stopper, withinMs) => {
      const id = await ann.conversation()
      const gate = gated()
      service.upstream.script(gate)
      const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
      const upstreamRequest = await service.upstream.nextRequest()
      gate.release(3)
      await live.until(() => textOf(live.frames).includes('t3'))
      const { url } = about(id, live.frames)
      const askedAt = Date.now()
      const stopped = await stopper().post<Message>(url.replace('/stream', '/stop'))
      await upstreamRequest.ended
      expect((upstreamRequest.closedAt ?? Infinity) - askedAt).toBeLessThan(withinMs)
      expect(stopped.status).toBe(200)
      expect(stopped.body).toMatchObject({
        status: 'stopped',
        content: textOf(live.frames),
        usage: { source: 'estimated' },
      })
      expect((await live.ended).at(-1)?.data).toMatchObject({
        type: 'complete',
        message: { status: 'stopped' },
      })
      const again = await stopper().post<Message>(url.replace('/stream', '/stop'))
      expect(again.body).toEqual(stopped.body)
    },
  )

  it('works before the first text, and changes nothing after the end', async () => {
    const id = await ann.conversation()
    service.upstream.script(gated(), answer('done'))
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.until(({ data }) => data.type === 'assistant_start')
    const { url } = about(id, live.frames)
    const stopped = await ann.post<Message>(url.replace('/stream', '/stop'))
    expect(stopped.body).toMatchObject({ status: 'stopped', content: '' })
    const next = await ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
      content: 'again',
    })
    const { assistant_message } = next.body
    const late = await ann.post<Message>(`/conversations/${id}/messages/${assistant_message.id}/stop`)
    expect(late.body).toEqual(assistant_message)
  })
})

describe('a ticket', () => {
  it('opens the one stream that it was made for, without a header, again and again, on any instance', async () => {
    const id = await ann.conversation()
    service.upstream.script(answer(['for', ' you']), answer('another'))
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { message } = about(id, live.frames)
    const issued = await ann.post<{ ticket: string; url: string; expires_in: number }>('/api/chat/ticket', {
      for: `message:${message.id}`,
    })
    expect(issued.body).toMatchObject({
      url: `/api/chat/conversations/${id}/messages/${message.id}/stream?ticket=${issued.body.ticket}`,
      expires_in: 600,
    })
    for (const instance of [service, other, service]) {
      const frames = await (await instance.anonymous.stream(issued.body.url, undefined)).ended
      expect(frames.at(-1)?.data).toMatchObject({ type: 'complete', message: { content: 'for you' } })
    }
    const next = await ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
      content: 'more',
    })
    const elsewhere = issued.body.url.replace(message.id, next.body.assistant_message.id)
    expect((await service.anonymous.get(elsewhere)).status).toBe(401)
    expect(
      (await service.anonymous.get(`/api/chat/conversations/${id}?ticket=${issued.body.ticket}`)).status,
    ).toBe(401)
    await service.sql`update chat.tickets set expires_at = now() - interval '1 s'`
    expect((await service.anonymous.get(issued.body.url)).status).toBe(401)
  })

  it('is made for nobody else’s message, and stored as a digest', async () => {
    const id = await ann.conversation()
    const live = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    await live.ended
    const { message } = about(id, live.frames)
    const mallory = await service.as('mallory')
    for (const which of [message.id, crypto.randomUUID()])
      expect((await mallory.post('/api/chat/ticket', { for: `message:${which}` })).body['code']).toBe(
        'message_not_found',
      )
    expect((await ann.post('/api/chat/ticket', { for: 'anything' })).status).toBe(400)
    const { body } = await ann.post<{ ticket: string }>('/api/chat/ticket', { for: `message:${message.id}` })
    expect(await service.sql`select 1 from chat.tickets where digest = ${body.ticket}`).toHaveLength(0)
  })
})
