/** What services ask of rooms, through the real service and real sockets: members, events, who is here, who has to go. */
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createClient, type Client } from '../support/client.ts'
import { someone, someRoom } from '../support/rooms.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { openSocket, type TestSocket } from '../support/socket.ts'

let a: Service
let b: Service
let serviceOf: (service: Service) => Client

beforeAll(async () => {
  a = await startService()
  b = await startService({ resolved: { databaseUrl: a.databaseUrl, exclusive: false } })
  serviceOf = ({ origin }) => createClient(origin, serviceKey)
})
afterAll(async () => {
  await b.close()
  await a.close()
})

const urlOf = (room: string) => `/api/chat/internal/rooms/${encodeURIComponent(room)}/members`
const put = (room: string, body: unknown, service = a) => serviceOf(service).request('PUT', urlOf(room), body)
const get = (room: string, query = '') => serviceOf(a).get<Members>(urlOf(room) + query)
const emit = (body: unknown, service = a) => serviceOf(service).post('/api/chat/internal/realtime/emit', body)

interface Members {
  room: string
  members: string[]
  pagination: { limit: number; has_more: boolean; after_id: string | null }
}

async function socketOf(user: string, service = a): Promise<TestSocket> {
  const { token } = await service.as(user)
  const socket = await openSocket(service.origin, { token })
  await socket.live()
  return socket
}

const isEvent = (type: string) => (frame: { op: string; type?: string }) =>
  frame.op === 'event' && frame.type === type

describe('members', () => {
  it('are added, counted, listed in order, page by page, and removed', async () => {
    const room = someRoom()
    expect((await put(room, { add: ['cat', 'ann', 'bob', 'ann'] })).body).toEqual({ room, members: 3 })
    expect((await put(room, { add: ['ann', 'dan'], remove: ['bob', 'nobody'] })).body).toEqual({
      room,
      members: 3,
    })
    expect((await get(room)).body).toEqual({
      room,
      members: ['ann', 'cat', 'dan'],
      pagination: { limit: 1_000, has_more: false, after_id: null },
    })
    const first = await get(room, '?limit=2')
    expect(first.body.pagination).toEqual({ limit: 2, has_more: true, after_id: 'cat' })
    expect((await get(room, '?limit=2&after_id=cat')).body.members).toEqual(['dan'])
    expect((await get(someRoom())).body.members).toEqual([])
  })

  it('may have any name that a token may have', async () => {
    const room = someRoom()
    const names = [' spaced ', 'new\nline', 'auth0|x', '日本', '"', "'--", '%', '\\', '🎉'.repeat(255)]
    expect((await put(room, { add: names })).body).toMatchObject({ members: names.length })
    expect(new Set((await get(room)).body.members)).toEqual(new Set(names))
    const [one] = (await get(room, '?limit=1')).body.members
    const rest = await get(room, `?after_id=${encodeURIComponent(one ?? '')}`)
    expect(rest.body.members).toHaveLength(names.length - 1)
  })

  it('a thousand at once, on each side, and no more', async () => {
    const room = someRoom()
    const users = Array.from({ length: 1_000 }, () => someone('x'.repeat(200)))
    expect((await put(room, { add: users })).body).toMatchObject({ members: 1_000 })
    const others = Array.from({ length: 1_000 }, () => someone())
    expect((await put(room, { add: others, remove: users })).body).toMatchObject({ members: 1_000 })
    expect((await put(room, { add: [...others, 'one-more'] })).status).toBe(400)
  })

  it('of a conversation come beside its owner, who is none, and cannot be removed', async () => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const id = await (await a.as(ann)).conversation()
    const room = `conversation:${id}`
    expect((await put(`conversation:${id.toUpperCase()}`, { add: [ann, bob] })).body).toEqual({
      room,
      members: 1,
    })
    expect((await get(room)).body).toMatchObject({ room, members: [bob] })
    const [her, him] = [await socketOf(ann), await socketOf(bob)]
    await put(room, { remove: [ann] })
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'ok', room })
    expect(await him.ask({ op: 'join', room })).toMatchObject({ op: 'ok' })
  })

  it('changed by many at once are all there', async () => {
    const [room, users] = [someRoom(), Array.from({ length: 20 }, () => someone())]
    const answers = await Promise.all(
      users.map((user, n) => put(room, { add: [user], remove: [`gone-${n % 3}`] }, n % 2 === 0 ? a : b)),
    )
    expect(answers.map(({ status }) => status)).toEqual(users.map(() => 200))
    expect((await get(room)).body.members).toEqual(users.toSorted())
  })

  it('who is removed on one instance leaves on the other, and cannot come back; who is added can come', async () => {
    const [ann, room] = [someone('ann'), someRoom()]
    const her = await socketOf(ann, b)
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'error', code: 'forbidden' })
    await put(room, { add: [ann] })
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'ok', room, present: [] })
    await put(room, { remove: [ann] })
    expect(await her.until(isEvent('left'))).toEqual({
      op: 'event',
      type: 'left',
      room,
      data: { reason: 'removed' },
    })
    expect(await her.ask({ op: 'typing', room })).toMatchObject({ op: 'error', code: 'forbidden' })
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'error', code: 'forbidden' })
  })

  it('who is added on one instance is among those present for whoever joins on the other', async () => {
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await put(room, { add: [ann] })
    const [her, him] = [await socketOf(ann, b), await socketOf(bob, b)]
    // Its members are known there from now on.
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'ok', present: [] })
    await put(room, { add: [bob] }, a)
    // The message that they are others is before this one.
    await emit({ users: [ann], type: 'added' }, a)
    await her.until(isEvent('added'))
    expect(await her.ask({ op: 'join', room })).toMatchObject({ op: 'ok', present: [{ user_id: bob }] })
    await him.close()
  })

  it("a deleted conversation's room closes", async () => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const client = await a.as(ann)
    const id = await client.conversation()
    const room = `conversation:${id}`
    await put(room, { add: [bob] })
    const him = await socketOf(bob, b)
    await him.ask({ op: 'join', room })
    await client.request('DELETE', `/conversations/${id}`)
    expect(await him.until(isEvent('left'))).toMatchObject({ room, data: { reason: 'deleted' } })
    expect((await put(room, { add: [someone()] })).status).toBe(404)
    expect((await get(room)).status).toBe(404)
  })

  it.each([
    ['no change', 'team:x', {}, 400],
    ['empty lists', 'team:x', { add: [], remove: [] }, 400],
    ['an unknown key', 'team:x', { add: ['a'], also: [] }, 400],
    ['no list', 'team:x', { add: 'a' }, 400],
    ['no text', 'team:x', { add: [1] }, 400],
    ['an empty name', 'team:x', { add: [''] }, 400],
    ['a name too long', 'team:x', { add: ['x'.repeat(256)] }, 400],
    ['NUL in a name', 'team:x', { add: ['a\0'] }, 400],
    ['half a surrogate pair', 'team:x', { add: ['\ud800'] }, 400],
    ['added and removed at once', 'team:x', { add: ['a'], remove: ['a'] }, 400],
    ['a room without a kind', 'team', { add: ['a'] }, 400],
    ['a room with a space', 'team:a b', { add: ['a'] }, 400],
    ["a person's own room", 'user:ann', { add: ['bob'] }, 400],
    ['a conversation that there is not', `conversation:${randomUUID()}`, { add: ['a'] }, 404],
    ['a conversation with no id', 'conversation:1', { add: ['a'] }, 404],
  ])('%s is refused', async (_what, room, body, status) => {
    const answer = await put(room, body)
    expect(answer.status).toBe(status)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
  })
})

describe('emit', () => {
  it('reaches sockets of both instances: people, rooms, everybody', async () => {
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await put(room, { add: [ann, bob] })
    const [her, him] = [await socketOf(ann, a), await socketOf(bob, b)]
    for (const socket of [her, him]) await socket.ask({ op: 'join', room })
    const [one, two, three] = await Promise.all([
      emit({ users: [ann], type: 'for.ann', data: { n: 1 } }, b),
      emit({ rooms: [room], type: 'for.room' }, b),
      emit({ all: true, type: 'for.all', data: {} }, b),
    ])
    expect([one, two, three].map(({ status }) => status)).toEqual([202, 202, 202])
    expect([one.body, two.body]).toEqual([{ local: 0 }, { local: 1 }])
    expect(three.body['local']).toBeGreaterThanOrEqual(1)
    expect(await her.until(isEvent('for.ann'))).toEqual({ op: 'event', type: 'for.ann', data: { n: 1 } })
    for (const socket of [her, him]) {
      expect(await socket.until(isEvent('for.room'))).toEqual({
        op: 'event',
        type: 'for.room',
        room,
        data: {},
      })
      await socket.until(isEvent('for.all'))
    }
    expect(him.frames.filter(isEvent('for.ann'))).toEqual([])
  })

  it.each([
    ['to nobody', { type: 'x' }],
    ['to two kinds at once', { type: 'x', users: ['a'], all: true }],
    ['to all: false', { type: 'x', all: false }],
    ['to no people', { type: 'x', users: [] }],
    ['to too many people', { type: 'x', users: Array.from({ length: 1_001 }, (_, n) => `u${n}`) }],
    ['to too many rooms', { type: 'x', rooms: Array.from({ length: 101 }, (_, n) => `team:${n}`) }],
    ['to no room', { type: 'x', rooms: ['not a room'] }],
    ['without a type', { all: true }],
    ['with a type in capitals', { all: true, type: 'News' }],
    ['with a type too long', { all: true, type: 'x'.repeat(65) }],
    ['as a notification', { all: true, type: 'assessment_progress' }],
    ['as typing', { all: true, type: 'typing' }],
    ['as presence', { all: true, type: 'presence' }],
    ['as left', { all: true, type: 'left' }],
    ['with data that is no object', { all: true, type: 'x', data: [1] }],
    ['with more than 32 KiB', { all: true, type: 'x', data: { text: 'é'.repeat(16_400) } }],
    ['with NUL', { all: true, type: 'x', data: { text: '\0' } }],
    ['with an unknown key', { all: true, type: 'x', seq: 1 }],
  ])('%s is refused', async (_what, body) => {
    expect(await emit(body)).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
  })
})

describe('who is here, and who has to go', () => {
  it('is counted over both instances', async () => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    for (const service of [a, b]) await socketOf(ann, service)
    await socketOf(bob, b)
    interface Stats extends Record<string, unknown> {
      users_online: number
      sockets: number
      instances: { id: string; sockets: number; users: number }[]
    }
    for (;;) {
      const { body } = await serviceOf(a).get<Stats>('/api/chat/internal/realtime/stats')
      expect(body.instances).toHaveLength(2)
      expect(body.sockets).toBe(body.instances.reduce((sum, { sockets }) => sum + sockets, 0))
      if (body.sockets >= 3 && body.users_online >= 2 && body.users_online < body.sockets) break
    }
  })

  it('revoked people are closed with 4500 on both', async () => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const [her, phone, him] = [await socketOf(ann, a), await socketOf(ann, b), await socketOf(bob, b)]
    const answer = await serviceOf(a).post('/api/chat/internal/realtime/revoke', { users: [ann] })
    expect(answer).toMatchObject({ status: 202, body: { local: 1 } })
    expect((await her.closed).code).toBe(4500)
    expect((await phone.closed).code).toBe(4500)
    expect(await him.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
    const bad = await serviceOf(a).post('/api/chat/internal/realtime/revoke', { users: [] })
    expect(bad.status).toBe(400)
  })
})

describe('presence and typing', () => {
  it('cross from one instance to the other, socket to socket', async () => {
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await put(room, { add: [ann, bob] })
    const her = await socketOf(ann, a)
    await her.ask({ op: 'join', room })
    const him = await socketOf(bob, b)
    expect(await her.until(isEvent('presence'))).toMatchObject({
      room,
      data: { user_id: bob, state: 'online' },
    })
    const answer = await him.ask({ op: 'join', room })
    expect(answer).toMatchObject({ op: 'ok', room, present: [{ user_id: ann, state: 'online' }] })
    expect(await him.ask({ op: 'typing', room })).toMatchObject({ op: 'ok' })
    expect(await her.until(isEvent('typing'))).toEqual({
      op: 'event',
      type: 'typing',
      room,
      data: { user_id: bob, typing: true },
    })
    await him.drop()
    const over = { type: 'typing', data: { user_id: bob, typing: false } }
    await her.until(
      (frame) => frame.op === 'event' && isDeepStrictEqual({ type: frame.type, data: frame.data }, over),
    )
    expect(her.frames.filter(isEvent('presence'))).toHaveLength(1)
  })
})

describe('the service scope', () => {
  it.each([
    ['PUT', urlOf('team:x'), { add: ['a'] }],
    ['GET', urlOf('team:x'), undefined],
    ['POST', '/api/chat/internal/realtime/emit', { all: true, type: 'x' }],
    ['GET', '/api/chat/internal/realtime/stats', undefined],
    ['POST', '/api/chat/internal/realtime/revoke', { users: ['a'] }],
  ])('%s %s is closed to users, and to nobody in particular', async (method, path, body) => {
    const user = await a.as(someone())
    expect((await user.request(method, path, body)).status).toBe(403)
    expect((await a.anonymous.request(method, path, body)).status).toBe(401)
  })
})
