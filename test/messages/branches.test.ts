import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Conversation } from '../../src/conversations/schemas.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

interface Sent {
  user_message: Message
  assistant_message: Message
}
interface Page {
  messages: Message[]
  pagination: { limit: number; has_more: boolean; before_id: string | null; after_id: string | null }
}

async function send(id: string, content: string, more: Record<string, unknown> = {}): Promise<Sent> {
  service.upstream.script(answer(`re: ${content}`))
  const sent = await ann.post<Sent>(`/conversations/${id}/messages`, { content, ...more })
  expect(sent.status).toBe(200)
  return sent.body
}

/** What the upstream was sent last, as "role: text" without the system prompt. */
function lastContext(): string[] {
  const request = service.upstream.requests.at(-1)
  const messages = request?.body.messages ?? []
  expect(messages[0]?.role).toBe('system')
  return messages
    .slice(1)
    .map(({ role, content }) => `${role}: ${typeof content === 'string' ? content : JSON.stringify(content)}`)
}

const contents = (messages: Message[]) => messages.map(({ content }) => content)

describe('regenerating', () => {
  it('adds a sibling under the same parent and leaves the first answer as it was', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'question')
    service.upstream.script(answer('another answer'))
    const again = await ann.post<{ new_message: Message; original_message_id: string; usage: unknown }>(
      `/conversations/${id}/messages/${first.assistant_message.id}/regenerate`,
    )
    expect(again.status).toBe(200)
    const { new_message, original_message_id, usage } = again.body
    expect(original_message_id).toBe(first.assistant_message.id)
    expect(usage).toEqual(new_message.usage)
    expect(new_message).toMatchObject({
      parent_message_id: first.user_message.id,
      content: 'another answer',
      sibling_ids: [first.assistant_message.id, new_message.id],
      metadata: { regenerated_from: first.assistant_message.id, generation_params: { temperature: 0.8 } },
    })
    const original = await ann.get<Message>(`/conversations/${id}/messages/${first.assistant_message.id}`)
    expect(original.body).toMatchObject({ content: 're: question', sibling_ids: new_message.sibling_ids })
    const path = await ann.get<{ conversation: Conversation; messages: Message[] }>(`/conversations/${id}`)
    expect(contents(path.body.messages)).toEqual(['question', 'another answer'])
    expect(path.body.conversation).toMatchObject({ current_message_id: new_message.id, message_count: 3 })
    expect(lastContext()).toEqual(['user: question'])
    expect(service.upstream.requests.at(-1)?.body.temperature).toBe(0.8)
  })

  it('streams on request, starting with assistant_start', async () => {
    const id = await ann.conversation()
    const { assistant_message } = await send(id, 'question')
    const stream = await ann.stream(`/conversations/${id}/messages/${assistant_message.id}/regenerate`, {})
    const frames = await stream.ended
    expect(frames[0]).toMatchObject({ seq: 1, data: { type: 'assistant_start' } })
    expect(frames.at(-1)?.data.type).toBe('complete')
  })

  it.each([
    ['a question', 'user_message' as const],
    ['a message that does not exist', undefined],
  ])('refuses %s', async (_, which) => {
    const id = await ann.conversation()
    const sent = await send(id, 'question')
    const target = which === undefined ? crypto.randomUUID() : sent[which].id
    const refused = await ann.post(`/conversations/${id}/messages/${target}/regenerate`)
    expect([refused.status, refused.body['code']]).toEqual(
      which === undefined ? [404, 'message_not_found'] : [422, 'not_an_answer'],
    )
  })

  it('is refused while an answer is being generated', async () => {
    const id = await ann.conversation()
    const { assistant_message } = await send(id, 'question')
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'more' })
    const refused = await ann.post(`/conversations/${id}/messages/${assistant_message.id}/regenerate`)
    expect(refused.body['code']).toBe('generation_in_progress')
    gate.end()
    await stream.ended
  })
})

describe('branching', () => {
  it('edits a question by sending with its parent: only the new path goes upstream', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'one')
    const second = await send(id, 'two')
    const edited = await send(id, 'two, edited', { parent_message_id: second.user_message.parent_message_id })
    expect(edited.user_message).toMatchObject({
      parent_message_id: first.assistant_message.id,
      sibling_ids: [second.user_message.id, edited.user_message.id],
    })
    expect(lastContext()).toEqual(['user: one', 'assistant: re: one', 'user: two, edited'])
  })

  it('begins a new root with parent_message_id null', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'one')
    const root = await send(id, 'afresh', { parent_message_id: null })
    expect(root.user_message.parent_message_id).toBeNull()
    expect(root.user_message.sibling_ids).toEqual([first.user_message.id, root.user_message.id])
    expect(lastContext()).toEqual(['user: afresh'])
  })

  it('refuses a parent of another conversation, and stores nothing', async () => {
    const [id, other] = await Promise.all([ann.conversation(), ann.conversation()])
    const elsewhere = await send(other, 'elsewhere')
    const refused = await ann.post(`/conversations/${id}/messages`, {
      content: 'x',
      parent_message_id: elsewhere.user_message.id,
    })
    expect([refused.status, refused.body['code']]).toEqual([422, 'invalid_parent'])
    const { body } = await ann.get<{ messages: Message[] }>(`/conversations/${id}`)
    expect(body.messages).toEqual([])
  })

  it('switches branch by current_message_id, and goes on from there', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'one')
    await send(id, 'two')
    const switched = await ann.request<Conversation>('PATCH', `/conversations/${id}`, {
      current_message_id: first.assistant_message.id,
    })
    expect(switched.body.current_message_id).toBe(first.assistant_message.id)
    await send(id, 'other two')
    expect(lastContext()).toEqual(['user: one', 'assistant: re: one', 'user: other two'])
  })

  it('shows every branch in the tree, parents before children', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'one')
    const left = await send(id, 'left')
    const right = await send(id, 'right', { parent_message_id: first.assistant_message.id })
    const tree = await ann.get<{
      head_id: string
      messages: { parent_id: string | null; message: Message }[]
    }>(`/conversations/${id}/tree`)
    expect(tree.body.head_id).toBe(right.assistant_message.id)
    expect(tree.body.messages.map(({ parent_id, message }) => [parent_id, message.content])).toEqual([
      [null, 'one'],
      [first.user_message.id, 're: one'],
      [first.assistant_message.id, 'left'],
      [left.user_message.id, 're: left'],
      [first.assistant_message.id, 'right'],
      [right.user_message.id, 're: right'],
    ])
  })
})

describe('a path in pages', () => {
  it('comes whole, in order, without gap or repeat, by before_id and by after_id', async () => {
    const id = await ann.conversation()
    for (let turn = 0; turn < 6; turn++) await send(id, `q${turn}`)
    const { body: whole } = await ann.get<Page>(`/conversations/${id}/messages?limit=200`)
    expect(whole.messages).toHaveLength(12)

    const backwards: Message[] = []
    let query = 'limit=5'
    for (;;) {
      const { body } = await ann.get<Page>(`/conversations/${id}/messages?${query}`)
      backwards.unshift(...body.messages)
      if (!body.pagination.has_more) break
      query = `limit=5&before_id=${String(body.pagination.before_id)}`
    }
    expect(backwards).toEqual(whole.messages)

    const forwards: Message[] = whole.messages.slice(0, 1)
    for (;;) {
      const { body } = await ann.get<Page>(
        `/conversations/${id}/messages?limit=5&after_id=${String(forwards.at(-1)?.id)}`,
      )
      forwards.push(...body.messages)
      if (!body.pagination.has_more) break
    }
    expect(forwards).toEqual(whole.messages)
  })

  it('stays right while messages arrive and branches are switched', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'q0')
    const second = await send(id, 'q1')
    const { body: newest } = await ann.get<Page>(`/conversations/${id}/messages?limit=2`)
    expect(contents(newest.messages)).toEqual(['q1', 're: q1'])
    await send(id, 'another branch', { parent_message_id: first.assistant_message.id })
    const before = await ann.get<Page>(`/conversations/${id}/messages?before_id=${second.user_message.id}`)
    expect(contents(before.body.messages)).toEqual(['q0', 're: q0'])
    // What followed on the branch that the reader was on, though another one is in view now.
    const after = await ann.get<Page>(`/conversations/${id}/messages?after_id=${second.user_message.id}`)
    expect(contents(after.body.messages)).toEqual(['re: q1'])
    const none = await ann.get<Page>(`/conversations/${id}/messages?after_id=${second.assistant_message.id}`)
    expect(none.body).toMatchObject({ messages: [], pagination: { has_more: false } })
  })

  it('follows leaf_id instead of the current leaf', async () => {
    const id = await ann.conversation()
    const first = await send(id, 'q0')
    const left = await send(id, 'left')
    await send(id, 'right', { parent_message_id: first.assistant_message.id })
    const leaf = left.assistant_message.id
    const { body } = await ann.get<Page>(`/conversations/${id}/messages?leaf_id=${leaf}`)
    expect(contents(body.messages)).toEqual(['q0', 're: q0', 'left', 're: left'])
    const whole = await ann.get<{ messages: Message[] }>(`/conversations/${id}?leaf_id=${leaf}`)
    expect(whole.body.messages).toEqual(body.messages)
  })
})

describe('forking', () => {
  it('copies the path up to a message into a conversation of its own, without usage', async () => {
    const id = await ann.conversation({ context_type: 'career_guidance', context_data: { a: 1 } })
    const first = await send(id, 'one')
    await send(id, 'two')
    const forked = await ann.post<Conversation>(`/conversations/${id}/fork`, {
      message_id: first.assistant_message.id,
      title: 'My fork',
    })
    expect(forked.status).toBe(201)
    expect(forked.body).toMatchObject({
      title: 'My fork',
      context_type: 'career_guidance',
      context_data: { a: 1 },
      message_count: 2,
      metadata: { forked_from: { conversation_id: id, message_id: first.assistant_message.id } },
    })
    const { body } = await ann.get<{ messages: Message[] }>(`/conversations/${forked.body.id}`)
    expect(contents(body.messages)).toEqual(['one', 're: one'])
    expect(body.messages.map(({ usage }) => usage)).toEqual([null, null])
    expect(body.messages[1]?.parent_message_id).toBe(body.messages[0]?.id)
    expect(body.messages[0]?.id).not.toBe(first.user_message.id)
    await send(forked.body.id, 'on the fork')
    expect(lastContext()).toEqual(['user: one', 'assistant: re: one', 'user: on the fork'])
    const original = await ann.get<{ messages: Message[] }>(`/conversations/${id}`)
    expect(contents(original.body.messages)).toEqual(['one', 're: one', 'two', 're: two'])
  })

  it('is refused at a message that is still being written', async () => {
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'q' })
    const start = await stream.until(({ data }) => data.type === 'assistant_start')
    const refused = await ann.post(`/conversations/${id}/fork`, {
      message_id: (start.data['message'] as Message).id,
    })
    expect([refused.status, refused.body['code']]).toEqual([409, 'generation_in_progress'])
    gate.end()
    await stream.ended
  })
})
