/** The chat's news, told: whose inbox they come to, what they say there, and to whom they are none any more. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { membersJob, membersKind, noteMembers } from '../../src/conversations/members.ts'
import type { Transactions } from '../../src/db/database.ts'
import { answer, errorAfter, gated } from '../../src/embedded/demo-model.ts'
import { unwatchedKind } from '../../src/generation/news.ts'
import { enqueue } from '../../src/jobs/jobs.ts'
import type { Notification } from '../../src/notifications/schemas.ts'
import { addMembers, removeMembers } from '../../src/realtime/queries.ts'
import { createClient, type Client } from '../support/client.ts'
import { openDatabase } from '../support/engines.ts'
import { begin, hold, untilBlocked } from '../support/races.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { openSocket, type TestSocket } from '../support/socket.ts'
import { takeTurn } from '../support/turn.ts'

let service: Service
let other: Service
let ann: Client
/** As a service: no user. */
let trusted: Client

beforeAll(async () => {
  service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '50' } })
  other = await startService({ resolved: { databaseUrl: service.databaseUrl, exclusive: false } })
  ann = await service.as('ann')
  trusted = createClient(service.origin, serviceKey)
})
afterAll(async () => {
  await other.close()
  await service.close()
})
beforeEach(() => service.upstream.forget())

const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 15_000, interval: 20 })

interface Row {
  user_id: string
  type: string
  template: string
  title: string
  body: string
  priority: string
  channels: string[]
  action: unknown
  data: Record<string, unknown>
  dedupe_key: string
  seq: string
}
const rowsOf = (conversation: string, type: string) => service.sql<Row[]>`
  select user_id, type, template, title, body, priority, channels, action, data, dedupe_key, seq from chat.notifications
  where type = ${type} and data->>'conversation_id' = ${conversation} order by user_id`
const jobsOf = (kind: string, keys: readonly string[]) => service.sql`
  select key from chat.jobs where kind = ${kind} and key = any(${keys as string[]}::text[]) and status = 'queued'`

/** An answer that ended as its question asks for, and whose end nobody has watched: its news are due. */
async function unwatched(text: string, options: Parameters<typeof gated>[0] = {}) {
  const gate = gated({ tokens: [text], ...options })
  service.upstream.script(gate)
  const begun = await begin(ann, 'Which trees grow old?')
  begun.stream.drop()
  gate.release()
  gate.end()
  await eventually(() => jobsOf(unwatchedKind, [begun.generation])).toHaveLength(1)
  return begun
}
const make = (due: string) => service.sql`update chat.jobs set run_at = now() where key = ${due}`
const gone = (kind: string, key: string) => eventually(() => jobsOf(kind, [key])).toEqual([])

/** 100 of them, and more: each is two UTF-16 units. */
const flowers = '🌼'.repeat(150)

describe('an answer that nobody watched', () => {
  it('is in its user’s inbox ten seconds later, and on their screens at once', async () => {
    const socket = await openSocket(other.origin, { token: ann.token })
    const before = await socket.live()
    const { id, message, generation } = await unwatched(` Many\n\n  things.\t${flowers}`)
    const startedAtMs = performance.now()
    const event = await socket.until(
      (frame) =>
        frame.op === 'event' &&
        (frame.data as { data?: Record<string, unknown> }).data?.['message_id'] === message,
    )
    expect(performance.now() - startedAtMs).toBeGreaterThan(5_000)
    const told = (event as { data: Notification }).data
    expect(told).toMatchObject({
      type: 'generation_finished',
      template: 'generation_finished',
      title: 'Your answer is ready',
      body: 'There is a new answer for you in “Which trees grow old?”.',
      priority: 'medium',
      action: { url: `/conversations/${id}` },
      data: {
        conversation_id: id,
        message_id: message,
        generation_id: generation,
        message_preview: `Many things. ${'🌼'.repeat(86)}…`,
        status: 'complete',
      },
    })
    expect(told.seq).toBeGreaterThan(before.seq)
    expect(
      (await rowsOf(id, 'generation_finished')).map(({ user_id, dedupe_key }) => [user_id, dedupe_key]),
    ).toEqual([['ann', `generation:${message}`]])
  })

  it('is told as a failure where it is one', async () => {
    const { id, generation } = await unwatched('Well,', { then: errorAfter(0).steps.slice(1) })
    await make(generation)
    await gone(unwatchedKind, generation)
    expect(await rowsOf(id, 'generation_finished')).toEqual([])
    expect(await rowsOf(id, 'generation_failed')).toMatchObject([
      {
        user_id: 'ann',
        action: { label: 'Ask again', url: `/conversations/${id}` },
        data: { message_preview: 'Well,', status: 'failed' },
      },
    ])
  })

  it('is told where its conversation was archived meanwhile', async () => {
    const { id, generation } = await unwatched('Well')
    await ann.request('PATCH', `/conversations/${id}`, { status: 'archived' })
    await make(generation)
    await gone(unwatchedKind, generation)
    expect(await rowsOf(id, 'generation_finished')).toHaveLength(1)
  })

  it('is not told where it was deleted meanwhile', async () => {
    const { id, generation } = await unwatched('Well')
    await ann.request('DELETE', `/conversations/${id}`)
    await make(generation)
    await gone(unwatchedKind, generation)
    expect(await rowsOf(id, 'generation_finished')).toEqual([])
  })

  it('is one row, however often it is told', async () => {
    const { id, generation } = await unwatched('Well')
    await make(generation)
    await gone(unwatchedKind, generation)
    const [row] = await rowsOf(id, 'generation_finished')
    const db = await openDatabase(service.databaseUrl)
    await addJob(db, { kind: unwatchedKind, key: generation, userId: 'ann', payload: {} })
    await gone(unwatchedKind, generation)
    expect(await rowsOf(id, 'generation_finished')).toEqual([row])
  })
})

const addJob = (db: Transactions, job: Parameters<typeof enqueue>[1]) =>
  db.asSystem('a test', (tx) => tx.commit(() => enqueue(tx, job)))

const put = (conversation: string, body: { add?: string[]; remove?: string[] }) =>
  trusted.request('PUT', `/api/chat/internal/rooms/conversation:${conversation}/members`, body)

/** A conversation of ann's, and people of its own who are its members. */
async function withMembers(...names: string[]) {
  const id = await ann.conversation({ title: 'Trees' })
  const members = names.map((name) => `${name} of ${id}`)
  expect((await put(id, { add: members })).status).toBe(200)
  return { id, members }
}

const isOf = (conversation: string, said: string) => (frame: Awaited<ReturnType<TestSocket['until']>>) => {
  if (frame.op !== 'event') return false
  const { data } = frame.data as { data?: Record<string, unknown> }
  return data?.['conversation_id'] === conversation && data['message_preview'] === said
}

describe('a conversation with members', () => {
  it('tells them what was asked at once, and what was answered when it is complete: one row, which moves', async () => {
    const { id, members } = await withMembers('bob', 'cat')
    const [bob = ''] = members
    const { token } = await service.as(bob)
    const socket = await openSocket(other.origin, { token })
    await socket.live()
    const gate = gated({ tokens: ['Oaks.'] })
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: `  Which?\n${flowers}` })
    const asked = `Which? ${'🌼'.repeat(92)}…`
    const question = (await socket.until(isOf(id, asked))) as { data: Notification }
    expect(question.data).toMatchObject({
      type: 'chat_message',
      title: 'New in “Trees”',
      body: asked,
      data: { conversation_id: id, title: 'Trees', sender: { type: 'user', id: 'ann' } },
    })
    gate.release()
    gate.end()
    await stream.ended
    const answered = (await socket.until(isOf(id, 'Oaks.'))) as { data: Notification }
    expect(answered.data).toMatchObject({
      id: question.data.id,
      data: { sender: { type: 'assistant', id: 'rivulet/demo:free' } },
    })
    expect(answered.data.seq).toBeGreaterThan(question.data.seq ?? Infinity)
    expect(socket.unread()).toBe(1)
    // Whoever asked knows.
    expect(
      (await rowsOf(id, 'chat_message')).map(({ user_id, dedupe_key }) => [user_id, dedupe_key]),
    ).toEqual(members.map((member) => [member, `conversation:${id}`]))
  })

  it('tells them of no answer that failed', async () => {
    const { id } = await withMembers('bob')
    service.upstream.script(errorAfter(2))
    const { user } = await takeTurn(ann, id, 'json')
    await gone(membersKind, user.id)
    expect(await rowsOf(id, 'chat_message')).toMatchObject([{ data: { message_id: user.id } }])
  })

  it('tells those who are members when it is told, and after a deletion nobody', async () => {
    const { id, members } = await withMembers('bob', 'cat')
    const [bob = '', cat = ''] = members
    await put(id, { remove: [bob] })
    service.upstream.script(answer('first'), answer('second'), answer('third'))
    const { assistant } = await takeTurn(ann, id, 'json')
    await eventually(() => rowsOf(id, 'chat_message')).toMatchObject([
      { user_id: cat, data: { message_id: assistant.id } },
    ])
    await put(id, { remove: [cat] })
    const alone = await takeTurn(ann, id, 'json')
    expect(await jobsOf(membersKind, [alone.user.id, alone.assistant.id])).toEqual([])
    await put(id, { add: [bob] })
    await ann.request('DELETE', `/conversations/${id}`)
    const db = await openDatabase(service.databaseUrl)
    await addJob(db, membersJob({ id: alone.assistant.id, conversationId: id, askedBy: 'ann' }))
    await gone(membersKind, alone.assistant.id)
    expect(await rowsOf(id, 'chat_message')).toMatchObject([
      { user_id: cat, data: { message_id: assistant.id } },
    ])
  })

  it('leaves the newest message in their inboxes, in whatever order they are told', async () => {
    const { id, members } = await withMembers('bob')
    const turn = await takeTurn(ann, id, 'json')
    await eventually(() => rowsOf(id, 'chat_message')).toMatchObject([
      { data: { message_id: turn.assistant.id } },
    ])
    const db = await openDatabase(service.databaseUrl)
    await addJob(db, membersJob({ id: turn.user.id, conversationId: id, askedBy: 'ann' }))
    await gone(membersKind, turn.user.id)
    const rows = await rowsOf(id, 'chat_message')
    expect(rows).toMatchObject([{ user_id: members[0], data: { message_id: turn.assistant.id } }])
  })

  it('tells one at a time: who is told of the older message at this moment is told of the newer one then', async () => {
    const { id, members } = await withMembers('bob')
    const gate = gated({ tokens: ['Oaks.'] })
    service.upstream.script(gate)
    // The first news of him, which has come as far as his inbox.
    await service.sql`insert into chat.inbox_heads (user_id, epoch) values (${members[0] ?? ''}, 'e')`
    const release = await hold(
      service.sql,
      (session) => session`select from chat.inbox_heads where user_id = ${members[0] ?? ''} for update`,
    )
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'Which?' })
    await untilBlocked(service.sql, 'from chat.inbox_heads')
    gate.release()
    gate.end()
    await stream.ended
    await untilBlocked(service.sql, 'from chat.inbox_heads', 'pg_advisory_xact_lock')
    await release()
    await eventually(() => rowsOf(id, 'chat_message')).toMatchObject([{ data: { message_preview: 'Oaks.' } }])
  })

  it('tells nobody where there is nobody: not even a job is added', async () => {
    const id = await ann.conversation()
    const { user, assistant } = await takeTurn(ann, id, 'json')
    expect(await jobsOf(membersKind, [user.id, assistant.id])).toEqual([])
    expect(await rowsOf(id, 'chat_message')).toEqual([])
  })

  it('says that it is shared while it has members, also where two change them at once', async () => {
    const id = await ann.conversation()
    const room = `conversation:${id}`
    const shared = async () =>
      (await service.sql<{ shared: boolean }[]>`select shared from chat.conversations where id = ${id}`)[0]
        ?.shared
    const db = await openDatabase(service.databaseUrl)
    const change = (work: (tx: Parameters<typeof noteMembers>[0]) => Promise<void>) =>
      db.asSystem('a test', async (tx) => {
        await work(tx)
        await tx.commit(() => noteMembers(tx, id))
      })
    await change((tx) => addMembers(tx, room, ['bob']))
    expect(await shared()).toBe(true)
    // The last one goes, unaware of the one who comes.
    const release = await hold(service.sql, async (session) => {
      await session`insert into chat.room_members (room, user_id) values (${room}, 'cat')`
      await session`select from chat.conversations where id = ${id} for update`
    })
    const removed = change((tx) => removeMembers(tx, room, ['bob']))
    await untilBlocked(service.sql, 'select 1 from chat.conversations')
    await release('commit')
    await removed
    expect(await shared()).toBe(true)
    await change((tx) => removeMembers(tx, room, ['cat']))
    expect(await shared()).toBe(false)
  })

  it('has one row in an inbox for each conversation', async () => {
    const first = await withMembers('bob')
    const second = await ann.conversation({ title: 'Ferns' })
    await put(second, { add: first.members })
    for (const id of [first.id, second]) await takeTurn(ann, id, 'json')
    await eventually(
      async () =>
        await service.sql`select title from chat.notifications where user_id = ${first.members[0] ?? ''} order by title`,
    ).toEqual([{ title: 'New in “Ferns”' }, { title: 'New in “Trees”' }])
  })
})
