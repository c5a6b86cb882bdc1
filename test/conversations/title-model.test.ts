/** With AUTO_TITLE_MODEL a conversation is named by a model, after its first exchange and behind everybody's back. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  answer,
  errorAfter,
  gated,
  httpError,
  PAID_MODEL_ID,
  type Behaviour,
} from '../../src/embedded/demo-model.ts'
import type { Conversation } from '../../src/conversations/schemas.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { startService, type Service } from '../support/service.ts'
import { exact, sum } from '../support/usage.ts'
import { takeTurn } from '../support/turn.ts'

const namer = 'maker/namer'
const question = 'What could I become? I like trees.'
const local = 'What could I become?'

let service: Service
let ann: Client

async function start(env: Record<string, string> = { AUTO_TITLE_MODEL: namer }): Promise<void> {
  service = await startService({ env })
  ann = await service.as('ann', { tier: 'premium' })
  await pricesAreKnown()
}

/** Until then nobody knows that a model of this upstream costs anything. */
async function pricesAreKnown(): Promise<void> {
  await vi.waitFor(
    async () => {
      const { body } = await ann.get<{ models: { pricing: unknown }[] }>('/api/chat/models')
      expect(body.models[0]?.pricing).toBeTruthy()
    },
    { timeout: 12_000, interval: 20 },
  )
}

/** What the model says whose call is for a title; anybody else is answered as a rule. */
const naming = (behaviour: Behaviour) =>
  service.upstream.always(({ model }) => (model === namer ? behaviour : answer(['Many', ' things.'])))
const asked = () => service.upstream.requests.map(({ body }) => body.model)
/** But for the news of each answer's end, and the standing job. */
const jobs = () =>
  service.sql`select kind, status, attempts, last_error, user_id from chat.jobs where kind not in ('tell_unwatched', 'tidy')`
const allDone = () => eventually(jobs).toEqual([])
const conversationOf = async (client: Client, id: string) =>
  (await client.get<{ conversation: Conversation }>(`/conversations/${id}`)).body.conversation
const titleOf = async (id: string) => (await conversationOf(ann, id)).title
const usageRows = (id: string) => service.sql`
  select message_id, generation_id, user_id, model, prompt_tokens, completion_tokens, cost, source, is_free_model
  from chat.usage_tracking where conversation_id = ${id} order by created_at, id`

describe('where a model is configured', () => {
  beforeAll(() => start())
  afterAll(() => service.close())
  beforeEach(() => service.upstream.forget())
  afterEach(async () => {
    await service.sql`delete from chat.jobs`
  })

  it('the answer comes with the local title, which the model’s replaces', async () => {
    const gate = gated({ tokens: ['"Paths', ' into forestry."'] })
    naming(gate)
    const id = await ann.conversation()
    await takeTurn(ann, id, 'sse', { content: question })
    expect(await titleOf(id)).toBe(local)
    const before = await conversationOf(ann, id)
    gate.release(2)
    gate.end()
    await allDone()
    const after = await conversationOf(ann, id)
    expect(after.title).toBe('Paths into forestry')
    expect(after.last_message_at).toBe(before.last_message_at)
    expect(asked()).toEqual(['rivulet/demo:free', namer])
  })

  it('it is asked briefly, coolly, as the same stranger, with the exchange and nothing more', async () => {
    naming(answer('Paths'))
    const id = await ann.conversation({ context_data: { secret: 'of the archive' } })
    await takeTurn(ann, id, 'json', { content: question })
    await allDone()
    const [turn, title] = service.upstream.requests.map(({ body }) => body as Record<string, unknown>)
    expect(title).toMatchObject({
      model: namer,
      max_tokens: 32,
      temperature: 0.2,
      session_id: id,
      stream: true,
    })
    expect(title?.['user']).toBe(turn?.['user'])
    const text = JSON.stringify(title?.['messages'])
    expect(text).toContain('I like trees.')
    expect(text).toContain('Many things.')
    expect(text).not.toContain('archive')
  })

  it('only the first exchange is named', async () => {
    naming(answer('Paths'))
    const id = await ann.conversation()
    await takeTurn(ann, id, 'json', { content: question })
    await allDone()
    const { assistant } = await takeTurn(ann, id, 'json', { content: 'And with children?' })
    await ann.post(`/conversations/${id}/messages/${assistant.id}/regenerate`)
    await allDone()
    expect(asked().filter((model) => model === namer)).toHaveLength(1)
    expect(await titleOf(id)).toBe('Paths')
  })

  it('a conversation that its user named at the start is not', async () => {
    naming(answer('Paths'))
    const id = await ann.conversation({ title: 'Mine' })
    await takeTurn(ann, id, 'json', { content: question })
    expect(await jobs()).toEqual([])
    expect(asked()).toEqual(['rivulet/demo:free'])
  })

  it('the job is the user’s own, and holds nothing that anybody wrote', async () => {
    const gate = gated({ tokens: ['Paths'] })
    naming(gate)
    const id = await ann.conversation()
    await takeTurn(ann, id, 'json', { content: question })
    const [job] = await service.sql`select user_id, key, payload from chat.jobs where kind = 'make_title'`
    expect(job).toMatchObject({ user_id: 'ann', key: id })
    expect(Object.keys(job?.['payload'] as object).toSorted()).toEqual(['generationId', 'messageId', 'tier'])
    gate.release()
    gate.end()
    await allDone()
  })

  describe.each([
    ['before the answer has ended', 'before'],
    ['while the model is asked', 'while'],
    ['after it has answered', 'after'],
  ] as const)('a user who acts %s', (_name, when) => {
    /** @returns the conversation, when all is over. */
    async function act(change: (id: string) => Promise<unknown>): Promise<string> {
      const id = await ann.conversation()
      const first = gated({ tokens: ['Many things.'] })
      const title = gated({ tokens: ['Paths'] })
      service.upstream.always(({ model }) => (model === namer ? title : first))
      const stream = await ann.stream(`/conversations/${id}/messages`, { content: question })
      first.release()
      await stream.until(({ data }) => data.type === 'assistant_chunk')
      if (when === 'before') await change(id)
      first.end()
      await stream.ended
      if (when === 'while') {
        await service.upstream.nextRequest(({ body }) => body.model === namer)
        await change(id)
      }
      title.release()
      title.end()
      await allDone()
      if (when === 'after') await change(id)
      return id
    }

    it('has the last word on the name', async () => {
      const id = await act((renamed) => ann.request('PATCH', `/conversations/${renamed}`, { title: 'Mine' }))
      expect(await titleOf(id)).toBe('Mine')
      expect(asked().filter((model) => model === namer)).toHaveLength(when === 'before' ? 0 : 1)
      expect(await usageRows(id)).toHaveLength(when === 'before' ? 1 : 2)
    })

    it('deletes it: nothing is written to it any more, and what was charged stays charged', async () => {
      const id = await act((deleted) => ann.request('DELETE', `/conversations/${deleted}`))
      const [row] = await service.sql`select status, title from chat.conversations where id = ${id}`
      expect(row).toEqual({ status: 'deleted', title: when === 'after' ? 'Paths' : local })
      expect(asked().filter((model) => model === namer)).toHaveLength(when === 'before' ? 0 : 1)
      expect(await usageRows(id)).toHaveLength(when === 'before' ? 1 : 2)
    })
  })

  it.each([
    ['stopped', undefined],
    ['failed', errorAfter(2)],
    ['refused', httpError(400)],
    ['blank', answer(' \n')],
  ])('a first answer that is %s is not named', async (_how, behaviour) => {
    const id = await ann.conversation()
    if (behaviour === undefined) {
      const gate = gated()
      service.upstream.always(gate)
      const stream = await ann.stream(`/conversations/${id}/messages`, { content: question })
      gate.release(2)
      const begun = await stream.until(({ data }) => data.type === 'assistant_start')
      await stream.until(({ data }) => data.type === 'assistant_chunk')
      await ann.post(`/conversations/${id}/messages/${(begun.data['message'] as Message).id}/stop`)
      await stream.ended
    } else {
      service.upstream.always(behaviour)
      await takeTurn(ann, id, 'json', { content: question })
    }
    expect((await jobs()).filter(({ kind }) => kind === 'make_title')).toEqual([])
    expect(asked()).not.toContain(namer)
    expect(await titleOf(id)).toBe(local)
  })

  it('what it cost is a row of its own, and message, conversation and summary agree', async () => {
    const bob = await service.as('bob', { tier: 'premium' })
    service.upstream.always(({ model }) =>
      model === namer
        ? answer('Paths', {
            usage: { cost: 0.0000001, prompt_tokens: 70, completion_tokens: 3, total_tokens: 73 },
          })
        : answer('Many things.', {
            usage: { cost: 0.2, prompt_tokens: 10, completion_tokens: 4, total_tokens: 14 },
          }),
    )
    const id = await bob.conversation()
    const { assistant } = await takeTurn(bob, id, 'json', { content: question, model: PAID_MODEL_ID })
    await allDone()
    expect(await usageRows(id)).toMatchObject([
      { message_id: assistant.id, user_id: 'bob', model: PAID_MODEL_ID, cost: '0.2', source: 'reported' },
      { message_id: assistant.id, user_id: 'bob', model: namer, cost: '0.0000001', source: 'reported' },
    ])
    const message = await bob.get<Message>(`/conversations/${id}/messages/${assistant.id}`)
    const usage = await bob.get<{
      total_cost: string
      total_tokens: number
      cost_breakdown: { cost: string }[]
    }>(`/conversations/${id}/usage`)
    const summary = await bob.get<{ total_cost: string; total_tokens: number; by_model: { cost: string }[] }>(
      '/api/chat/usage/summary?period=all',
    )
    expect(message.body.usage).toMatchObject({ cost: '0.2000001', total_tokens: 87, source: 'reported' })
    expect(usage.body).toMatchObject({ total_cost: '0.2000001', total_tokens: 87 })
    expect(usage.body.cost_breakdown).toMatchObject([{ cost: '0.2000001' }])
    expect(summary.body).toMatchObject({ total_cost: '0.2000001', total_tokens: 87 })
    expect(sum(summary.body.by_model.map(({ cost }) => exact(cost)))).toBe(exact('0.2000001'))
    // A call that told its cost is not asked for again.
    expect(service.upstream.requests.map(({ lookups }) => lookups)).toEqual([0, 0])
  })

  it('for tier free a paid one is not asked', async () => {
    naming(answer('Paths'))
    const free = await service.as('cid')
    const id = await free.conversation()
    await takeTurn(free, id, 'json', { content: question })
    expect(await jobs()).toEqual([])
    expect(asked()).toEqual(['rivulet/demo:free'])
    expect((await conversationOf(free, id)).title).toBe(local)
  })
})

describe('as it is set up', () => {
  afterEach(() => service.close())

  it('by default a turn is exactly one upstream call, and adds no job', async () => {
    await start({})
    const id = await ann.conversation()
    await takeTurn(ann, id, 'json', { content: question })
    expect(await jobs()).toEqual([])
    expect(asked()).toEqual(['rivulet/demo:free'])
    expect(await titleOf(id)).toBe(local)
  })

  it('with USE_FREE_MODELS_ONLY a paid one is not asked for tier premium either', async () => {
    await start({ AUTO_TITLE_MODEL: namer, USE_FREE_MODELS_ONLY: 'true' })
    await takeTurn(ann, await ann.conversation(), 'json', { content: question })
    expect(await jobs()).toEqual([])
    expect(asked()).toEqual(['rivulet/demo:free'])
  })

  it('a free one names conversations of tier free, and costs an exact zero', async () => {
    await start({ AUTO_TITLE_MODEL: 'maker/namer:free', USE_FREE_MODELS_ONLY: 'true' })
    service.upstream.always(({ model }) => answer(model === 'maker/namer:free' ? 'Paths' : 'Many things.'))
    const free = await service.as('cid')
    const id = await free.conversation()
    await takeTurn(free, id, 'json', { content: question })
    await allDone()
    expect((await conversationOf(free, id)).title).toBe('Paths')
    expect(await usageRows(id)).toMatchObject([
      { cost: '0' },
      { model: 'maker/namer:free', cost: '0', is_free_model: true, source: 'reported' },
    ])
  })
})
