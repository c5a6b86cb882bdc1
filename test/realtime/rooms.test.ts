/** Rooms: who may join which, and typing, which ends by itself. One instance; members.test.ts and presence.test.ts have several. */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { openDatabase } from '../support/cluster.ts'
import {
  addMembers,
  createClock,
  createPeer,
  deleteConversation,
  isType,
  makeConversation,
  removeMembers,
  someone,
  someRoom,
  startInstance,
} from '../support/rooms.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

let url: string
let database: Database
ownDatabase(6, (own) => ({ url, database } = own))

const forbidden = expect.objectContaining({ code: 'forbidden' }) as unknown

describe('joining', () => {
  it("is for a conversation's owner and its members, and nobody else", async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob, eve] = [someone('ann'), someone('bob'), someone('eve')]
    const room = await makeConversation(database, ann)
    await addMembers(database, room, bob)
    expect(await rooms.join(open(ann), room)).toEqual({ room, present: [] })
    expect(await rooms.join(open(bob), room)).toMatchObject({ room })
    await expect(rooms.join(open(eve), room)).rejects.toEqual(forbidden)
  })

  it("is for its members alone where the room is a service's", async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, eve, room] = [someone('ann'), someone('eve'), someRoom()]
    await addMembers(database, room, ann)
    await rooms.join(open(ann), room)
    await expect(rooms.join(open(eve), room)).rejects.toEqual(forbidden)
  })

  it('is answered the same for what is foreign, deleted, missing, or no name at all', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, eve] = [someone('ann'), someone('eve')]
    const [foreign, deleted] = [await makeConversation(database, ann), await makeConversation(database, eve)]
    await addMembers(database, deleted, eve)
    await deleteConversation(database, deleted)
    const peer = open(eve)
    const names = [
      foreign,
      deleted,
      `conversation:${randomUUID()}`,
      'conversation:1',
      "conversation:' or true --",
      `conversation:${randomUUID()}%00`,
      `conversation:{${randomUUID()}}`,
      `user:${ann}`,
      'team:nobody-is-in-it',
      'team:',
      'team:with space',
      'team:ünïcode',
      'team:\0',
      'Team:upper',
      'no-kind',
      '',
      `team:${'x'.repeat(201)}`,
      '__proto__:x',
    ]
    const answers = await Promise.all(
      names.map((name) => rooms.join(peer, name).catch((error: unknown) => error)),
    )
    const [first] = answers
    expect(first).toEqual(forbidden)
    for (const answer of answers) expect(answer).toEqual(first)
  })

  it('takes odd characters of a name as they are', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const ann = someone('ann')
    const room = `odd-kind_1:${randomUUID()}:"'\\{}$1%_,;--`
    await addMembers(database, room, ann)
    expect(await rooms.join(open(ann), room)).toEqual({ room, present: [] })
    await expect(rooms.join(open(ann), room.replace('%', 'x'))).rejects.toEqual(forbidden)
  })

  it('knows a conversation by its id, however that is spelled', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob] = [someone('ann'), someone('bob')]
    const room = await makeConversation(database, ann)
    await addMembers(database, room, bob)
    const [her, him] = [open(ann), open(bob)]
    await rooms.join(her, room)
    const upper = `conversation:${room.slice('conversation:'.length).toUpperCase()}`
    expect(await rooms.join(him, upper)).toMatchObject({ room })
    rooms.typing(him, upper, true)
    expect(await her.until(isType('typing'))).toMatchObject({ room })
  })

  it("lets a person into their own room, without it being one, and nobody into another's", async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const ann = someone('ann')
    expect(await rooms.join(open(ann), `user:${ann}`)).toEqual({ room: `user:${ann}`, present: [] })
    // Also not as a member: the kind says whose it is.
    const eve = someone('eve')
    await addMembers(database, `user:${ann}`, eve)
    await expect(rooms.join(open(eve), `user:${ann}`)).rejects.toEqual(forbidden)
  })

  it('ends at 64 rooms of a socket, and goes on when it leaves one', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const ann = someone('ann')
    const names = Array.from({ length: 65 }, someRoom)
    for (const name of names) await addMembers(database, name, ann)
    const [last = ''] = names.slice(-1)
    const peer = open(ann)
    const answers = await Promise.allSettled(names.map((name) => rooms.join(peer, name)))
    expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(1)
    await expect(rooms.join(peer, last)).rejects.toMatchObject({ code: 'invalid_request' })
    // One that it is in already is no more.
    await rooms.join(peer, names[0] ?? '')
    rooms.leave(peer, names[0] ?? '')
    expect(await rooms.join(peer, last)).toMatchObject({ room: last })
  })

  it('does nothing for a socket that has gone meanwhile', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await addMembers(database, room, ann, bob)
    const peer = open(ann)
    const joining = rooms.join(peer, room)
    rooms.drop(peer)
    expect(await joining).toEqual({})
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(0)
  })

  it('is refused as unavailable while the database is away, and works when it is back', async () => {
    const proxy = await startTcpProxy(url)
    const { database: far } = openDatabase(proxy.url)
    await far.prepare(new AbortController().signal)
    try {
      const { open, rooms } = startInstance({ transactions: far })
      const [ann, room] = [someone('ann'), someRoom()]
      await addMembers(database, room, ann)
      const peer = open(ann)
      await proxy.refuse()
      await expect(rooms.join(peer, room)).rejects.toMatchObject({ code: 'database_unavailable' })
      await proxy.pass()
      expect(await rooms.join(peer, room)).toMatchObject({ room })
    } finally {
      await far.close()
      await proxy.close()
    }
  })

  it('asks the database for many of a herd at once', async () => {
    let transactions = 0
    const counted = {
      ...database,
      asSystem: (why: string, fn: Parameters<Database['asSystem']>[1]) => {
        if (why === 'join') transactions++
        return database.asSystem(why, fn)
      },
    } as Database
    const { open, rooms } = startInstance({ transactions: counted })
    const [room, users] = [someRoom(), Array.from({ length: 300 }, () => someone())]
    await addMembers(database, room, ...users)
    await Promise.all(users.map((user) => rooms.join(open(user), room)))
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(300)
    expect(transactions).toBeLessThanOrEqual(300 / 50)
  })
})

describe('leaving', () => {
  it('is nothing to be told, and forgets the room', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, room] = [someone('ann'), someRoom()]
    await addMembers(database, room, ann)
    const peer = open(ann)
    await rooms.join(peer, room)
    rooms.leave(peer, room)
    rooms.leave(peer, room)
    rooms.leave(peer, 'no room')
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(0)
    rooms.emit({ users: [ann] }, 'after', {})
    await peer.until(isType('after'))
    expect(peer.frames).toHaveLength(1)
  })
})

describe('typing', () => {
  /** Two people in a room, and a clock. */
  async function pair() {
    const clock = createClock()
    const { open, rooms } = startInstance({ transactions: database, nowMs: clock.nowMs })
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await addMembers(database, room, ann, bob)
    const [her, him] = [open(ann), open(bob)]
    await rooms.join(her, room)
    await rooms.join(him, room)
    /** What she has been told of his typing so far; whatever is on its way comes before the mark. */
    async function told(): Promise<unknown[]> {
      const mark = `mark-${randomUUID()}`
      rooms.emit({ users: [ann] }, mark, {})
      await her.until(isType(mark))
      return her.frames.filter(isType('typing')).map(({ data }) => data['typing'])
    }
    return { clock, open, rooms, ann, bob, room, her, him, told }
  }

  it('is told to the others in the room, and to no device of their own', async () => {
    const { open, rooms, bob, room, her, him } = await pair()
    const phone = open(bob)
    await rooms.join(phone, room)
    rooms.typing(him, room, true)
    expect(await her.until(isType('typing'))).toEqual({
      op: 'event',
      type: 'typing',
      room,
      data: { user_id: bob, typing: true },
    })
    rooms.emit({ rooms: [room] }, 'after', {})
    await Promise.all([him, phone].map((peer) => peer.until(isType('after'))))
    for (const peer of [him, phone]) expect(peer.frames.filter(isType('typing'))).toEqual([])
  })

  it('is for those who are in the room', async () => {
    const { open, rooms, ann, room, her } = await pair()
    expect(() => rooms.typing(open(ann), room, true)).toThrow(forbiddenError)
    expect(() => rooms.typing(her, 'team:other', true)).toThrow(forbiddenError)
    expect(() => rooms.typing(her, 'what is this', true)).toThrow(forbiddenError)
    rooms.leave(her, room)
    expect(() => rooms.typing(her, room, true)).toThrow(forbiddenError)
  })

  it('ends by itself after 6 s, counted from the last time that it was said', async () => {
    const { clock, rooms, room, her, him, told } = await pair()
    rooms.typing(him, room, true)
    clock.advance(1_900)
    rooms.typing(him, room, true)
    clock.advance(5_900)
    expect(await told()).toEqual([true])
    clock.advance(100)
    await her.until(({ type, data }) => type === 'typing' && data['typing'] === false)
    clock.advance(60_000)
    expect(await told()).toEqual([true, false])
  })

  it('is not told again within 2 s, and told again after', async () => {
    const { clock, rooms, room, him, told } = await pair()
    rooms.typing(him, room, true)
    rooms.typing(him, room, true)
    clock.advance(1_999)
    rooms.typing(him, room, true)
    expect(await told()).toEqual([true])
    clock.advance(1)
    rooms.typing(him, room, true)
    expect(await told()).toEqual([true, true])
  })

  it('that is switched on and off is told no more often, and ends as it was left', async () => {
    const { clock, rooms, room, her, him, told } = await pair()
    for (let n = 0; n < 20; n++) rooms.typing(him, room, n % 2 === 0)
    rooms.typing(him, room, true)
    expect(await told()).toEqual([true, false])
    clock.advance(2_000)
    await her.until(() => her.frames.filter(isType('typing')).length === 3)
    expect(await told()).toEqual([true, false, true])
  })

  it.each(['says so', 'leaves the room', 'closes'] as const)('ends when they %s', async (way) => {
    const { rooms, room, bob, her, him } = await pair()
    rooms.typing(him, room, true)
    if (way === 'says so') rooms.typing(him, room, false)
    if (way === 'leaves the room') rooms.leave(him, room)
    if (way === 'closes') rooms.drop(him)
    const end = await her.until(({ type, data }) => type === 'typing' && data['typing'] === false)
    expect(end).toMatchObject({ room, data: { user_id: bob } })
  })

  it('of more than twenty at once is not told of the others: nobody reads more names', async () => {
    const { open, rooms, room, told } = await pair()
    const users = Array.from({ length: 30 }, () => someone())
    await addMembers(database, room, ...users)
    const peers = users.map((user) => open(user))
    for (const peer of peers) await rooms.join(peer, room)
    for (const peer of peers) rooms.typing(peer, room, true)
    expect(await told()).toHaveLength(20)
  })

  it('costs no timer, and nothing is left when all have gone', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [room, users] = [someRoom(), Array.from({ length: 50 }, () => someone())]
    await addMembers(database, room, ...users)
    const peers = users.map((user) => open(user))
    await Promise.all(peers.map((peer) => rooms.join(peer, room)))
    const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    for (const peer of peers) rooms.typing(peer, room, true)
    expect(process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length).toBe(timers)
    for (const peer of peers) rooms.drop(peer)
    expect(rooms.stats()).toMatchObject({ users_online: 0, sockets: 0 })
  })
})

const forbiddenError = expect.objectContaining({ code: 'forbidden' }) as Error

describe('dropping', () => {
  it('a socket that never entered, or twice, is nothing', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const ann = someone('ann')
    const peer = open(ann)
    rooms.drop(createPeer(ann))
    expect(rooms.stats()).toMatchObject({ users_online: 1, sockets: 1 })
    rooms.drop(peer)
    rooms.drop(peer)
    rooms.presence(peer, 'away')
    expect(rooms.stats()).toMatchObject({ users_online: 0, sockets: 0 })
  })

  it('ends memberships that were removed in the same moment without a word to it', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, room] = [someone('ann'), someRoom()]
    await addMembers(database, room, ann)
    const peer = open(ann)
    await rooms.join(peer, room)
    await removeMembers(database, room, ann)
    rooms.kick(room, [ann])
    rooms.drop(peer)
    const other = open(ann)
    await expect(rooms.join(other, room)).rejects.toEqual(forbidden)
    expect(peer.frames).toEqual([])
  })
})
