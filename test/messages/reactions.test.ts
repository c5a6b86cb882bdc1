/** Reactions: one for each user and message, the last one said; nobody else's, and never lost by two at once. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
let eve: Client
let id: string
let answer: Message
let path: string

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  eve = await service.as('eve')
})
afterAll(() => service.close())
beforeEach(async () => {
  id = await ann.conversation()
  const { body } = await ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
    content: 'Hello?',
  })
  answer = body.assistant_message
  path = `/conversations/${id}/messages/${answer.id}`
})

const rows = () =>
  service.sql<{ reaction: string; feedback: string | null }[]>`
    select reaction, feedback from chat.message_reactions where message_id = ${answer.id}`

describe('a reaction', () => {
  it('is answered with its message, and stands wherever that is read', async () => {
    const { status, body } = await ann.request<Message>('PUT', `${path}/reaction`, { reaction: 'like' })
    expect({ status, body }).toEqual({ status: 200, body: { ...answer, reaction: 'like' } })
    expect((await ann.get<Message>(path)).body.reaction).toBe('like')
    const { messages } = (await ann.get<{ messages: Message[] }>(`/conversations/${id}`)).body
    expect(messages.map(({ reaction }) => reaction)).toEqual([null, 'like'])
    const tree = (await ann.get<{ messages: { message: Message }[] }>(`/conversations/${id}/tree`)).body
    expect(tree.messages.map(({ message }) => message.reaction)).toEqual([null, 'like'])
  })

  it('takes the place of the one before, with its feedback; POST …/reactions does the same', async () => {
    await ann.request('PUT', `${path}/reaction`, { reaction: 'dislike', feedback: 'Too <b>long</b> 😀' })
    expect(await rows()).toEqual([{ reaction: 'dislike', feedback: 'Too <b>long</b> 😀' }])
    const again = await ann.post<Message>(`${path}/reactions`, { reaction: 'helpful' })
    expect(again).toMatchObject({ status: 200, body: { reaction: 'helpful' } })
    expect(await rows()).toEqual([{ reaction: 'helpful', feedback: null }])
  })

  it('is taken back, any number of times', async () => {
    await ann.request('PUT', `${path}/reaction`, { reaction: 'not_helpful' })
    for (let n = 0; n < 2; n++) expect((await ann.request('DELETE', `${path}/reaction`)).status).toBe(204)
    expect((await ann.get<Message>(path)).body.reaction).toBeNull()
  })

  it('given by forty requests at once is one of theirs, and none fails', async () => {
    const kinds = ['like', 'dislike', 'helpful', 'not_helpful']
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        ann.request('PUT', `${path}/reaction`, { reaction: kinds[n % 4], feedback: `${n}` }),
      ),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(40).fill(200))
    const [row, ...others] = await rows()
    expect(others).toEqual([])
    expect(row?.reaction).toBe(kinds[Number(row?.feedback) % 4])
  })

  it('is not copied by a fork: it is about this message', async () => {
    await ann.request('PUT', `${path}/reaction`, { reaction: 'like' })
    const fork = await ann.post<{ id: string }>(`/conversations/${id}/fork`, { message_id: answer.id })
    const { messages } = (await ann.get<{ messages: Message[] }>(`/conversations/${fork.body.id}`)).body
    expect(messages.at(-1)?.reaction).toBeNull()
  })
})

describe('is refused', () => {
  it.each<[name: string, body: unknown]>([
    ['without a reaction', {}],
    ['of another kind', { reaction: 'love' }],
    ['that is null', { reaction: null }],
    ['with feedback of 2001 characters', { reaction: 'like', feedback: 'x'.repeat(2_001) }],
    ['with NUL in its feedback', { reaction: 'like', feedback: 'a\0' }],
    ['with a key that there is not', { reaction: 'like', stars: 5 }],
  ])('one %s', async (_name, body) => {
    expect(await ann.request('PUT', `${path}/reaction`, body)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    })
    expect(await rows()).toEqual([])
  })

  it('one to another’s message as to one that is not there', async () => {
    const other = await ann.conversation()
    const nowhere = [
      [eve, path, 'conversation_not_found'],
      [ann, `/conversations/${other}/messages/${answer.id}`, 'message_not_found'],
      [ann, `/conversations/${id}/messages/none`, 'message_not_found'],
    ] as const
    for (const [client, at, code] of nowhere) {
      expect(await client.request('PUT', `${at}/reaction`, { reaction: 'like' })).toMatchObject({
        status: 404,
        body: { code },
      })
      expect(await client.request('DELETE', `${at}/reaction`)).toMatchObject({ status: 404, body: { code } })
    }
    await ann.request('DELETE', `/conversations/${id}`)
    expect((await ann.request('PUT', `${path}/reaction`, { reaction: 'like' })).status).toBe(404)
  })
})
