/** What a model is sent: the system prompt and the asked-for path, and not a word of anything else. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { systemPrompt } from '../../src/context/prompts.ts'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

const canary = 'CANARY'
let service: Service
let ann: Client
let id: string
/** The path under test: question, answer, question, answer. */
let path: { role: string; content: string }[]
let first: Message
let second: Message

beforeAll(async () => {
  service = await startService()
  ann = await service.as(`ann-${canary}`)
  const bob = await service.as(`bob-${canary}`)
  const unsent = { title: canary, metadata: { canary } }
  // What a conversation knows of its owner is sent with it, and with no other.
  const hidden = { ...unsent, context_data: { canary } }

  for (const client of [bob, ann]) await say(client, await client.conversation(hidden), canary, canary)
  const archived = await ann.conversation(hidden)
  await say(ann, archived, canary, canary)
  await ann.request('PATCH', `/conversations/${archived}`, { status: 'archived' })
  const deleted = await ann.conversation(hidden)
  await say(ann, deleted, canary, canary)
  await ann.request('DELETE', `/conversations/${deleted}`)

  id = await ann.conversation(unsent)
  await say(ann, id, `${canary} another root`, canary)
  first = await say(ann, id, 'first question', 'first answer', { parent_message_id: null })
  service.upstream.script(answer(`${canary} regenerated`))
  await ann.post(`/conversations/${id}/messages/${first.id}/regenerate`)
  await say(ann, id, `${canary} a sibling`, canary, { parent_message_id: first.id })
  second = await say(ann, id, 'second question', 'second answer', { parent_message_id: first.id })
  await say(ann, id, `${canary} further down`, canary, { parent_message_id: second.id })
  path = [
    { role: 'system', content: systemPrompt('general', { isFreeModel: true }) },
    { role: 'user', content: 'first question' },
    { role: 'assistant', content: 'first answer' },
    { role: 'user', content: 'second question' },
    { role: 'assistant', content: 'second answer' },
  ]
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

async function say(
  client: Client,
  conversation: string,
  content: string,
  told: string,
  more = {},
): Promise<Message> {
  service.upstream.script(answer(told))
  const sent = await client.post<{ assistant_message: Message }>(`/conversations/${conversation}/messages`, {
    content,
    ...more,
  })
  expect(sent.body.assistant_message.content).toBe(told)
  return sent.body.assistant_message
}

function expectSent(messages: unknown): void {
  const [request, ...more] = service.upstream.requests
  expect(more).toEqual([])
  expect(request?.body.messages).toEqual(messages)
  expect(JSON.stringify([request?.body, request?.headers])).not.toContain(canary)
  expect(JSON.stringify(request?.headers)).not.toContain(ann.token)
}

it('a send from a message: the path to it', async () => {
  await say(ann, id, 'third question', 'x', { parent_message_id: second.id })
  expectSent([...path, { role: 'user', content: 'third question' }])
})

it('a question edited: the path above it', async () => {
  await say(ann, id, 'second question, again', 'x', { parent_message_id: first.id })
  expectSent([...path.slice(0, 3), { role: 'user', content: 'second question, again' }])
})

it('a new root: nothing before it', async () => {
  await say(ann, id, 'from the start', 'x', { parent_message_id: null })
  expectSent([...path.slice(0, 1), { role: 'user', content: 'from the start' }])
})

it('a send to the branch in view', async () => {
  await ann.request('PUT', `/conversations/${id}`, { current_message_id: second.id })
  await say(ann, id, 'in view', 'x')
  expectSent([...path, { role: 'user', content: 'in view' }])
})

it('regenerating: the path to the question, without the answer that is being replaced', async () => {
  await ann.post(`/conversations/${id}/messages/${second.id}/regenerate`)
  expectSent(path.slice(0, 4))
})

it('a send to a fork: what was forked', async () => {
  const fork = await ann.post<{ id: string }>(`/conversations/${id}/fork`, { message_id: second.id })
  await say(ann, fork.body.id, 'in the fork', 'x')
  expectSent([...path, { role: 'user', content: 'in the fork' }])
})
