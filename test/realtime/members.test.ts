/** Whoever has no right to be in a room any more leaves it, on every instance: at once, and also when messages are lost. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Database, Transactions } from '../../src/db/database.ts'
import { openDatabase } from '../support/cluster.ts'
import { carriers } from '../support/buses.ts'
import {
  addMembers,
  createClock,
  deleteConversation,
  isType,
  makeConversation,
  removeMembers,
  someone,
  someRoom,
  startInstance,
  type TestPeer,
} from '../support/rooms.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

let url: string
let database: Database
ownDatabase(6, (own) => ({ url, database } = own))

const left = (room: string, reason = 'removed') => ({ op: 'event', type: 'left', room, data: { reason } })

describe('on one instance', () => {
  it('who was removed leaves with a word, each device of theirs, and nobody else', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob, room, other] = [someone('ann'), someone('bob'), someRoom(), someRoom()]
    for (const name of [room, other]) await addMembers(database, name, ann, bob)
    const [her, phone, laptop] = [open(ann), open(bob), open(bob)]
    for (const peer of [her, phone, laptop]) for (const name of [room, other]) await rooms.join(peer, name)
    await removeMembers(database, room, bob)
    rooms.kick(room, [bob])
    for (const peer of [phone, laptop]) expect(await peer.until(isType('left'))).toEqual(left(room))
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(1)
    expect(rooms.emit({ rooms: [other] }, 'news', {})).toBe(3)
    expect(() => rooms.typing(phone, room, true)).toThrow('')
    await her.until(isType('news'))
    expect(her.frames.filter(isType('left'))).toEqual([])
  })

  it('who has been added again by then stays: the database decides', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, room] = [someone('ann'), someRoom()]
    await addMembers(database, room, ann)
    const peer = open(ann)
    await rooms.join(peer, room)
    rooms.kick(room, [ann])
    await rooms.join(peer, room)
    await checked(rooms, peer)
    expect(peer.frames.filter(isType('left'))).toEqual([])
  })

  it('whoever is removed between the check and the joining is out all the same', async () => {
    const [asked, goOn] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
    const slow: Transactions = {
      asCaller: (caller, fn) => database.asCaller(caller, fn),
      async asSystem(why, fn) {
        const result = await database.asSystem(why, fn)
        if (why === 'join') {
          asked.resolve(undefined)
          await goOn.promise
        }
        return result
      },
    }
    const { open, rooms } = startInstance({ transactions: slow })
    const [ann, room] = [someone('ann'), someRoom()]
    await addMembers(database, room, ann)
    const peer = open(ann)
    const joining = rooms.join(peer, room)
    await asked.promise
    await removeMembers(database, room, ann)
    rooms.kick(room, [ann])
    await turn()
    goOn.resolve(undefined)
    await joining
    expect(await peer.until(isType('left'))).toEqual(left(room))
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(0)
  })

  it('a deleted conversation closes its room, to members and owner', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob] = [someone('ann'), someone('bob')]
    const room = await makeConversation(database, ann)
    await addMembers(database, room, bob)
    const [her, him] = [open(ann), open(bob)]
    await rooms.join(her, room)
    await rooms.join(him, room)
    await deleteConversation(database, room)
    rooms.kick(room)
    for (const peer of [her, him]) expect(await peer.until(isType('left'))).toEqual(left(room, 'deleted'))
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(0)
  })

  it('nobody is thrown out by a database that is away, and whoever must go goes when it is back', async () => {
    const proxy = await startTcpProxy(url)
    onTestFinished(() => proxy.close())
    const { database: far } = openDatabase(proxy.url)
    onTestFinished(() => far.close())
    await far.prepare(new AbortController().signal)
    const clock = createClock()
    const { open, rooms, logs } = startInstance({ transactions: far, nowMs: clock.nowMs })
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await addMembers(database, room, ann, bob)
    const [her, him] = [open(ann), open(bob)]
    await rooms.join(her, room)
    await rooms.join(him, room)
    await proxy.refuse()
    await removeMembers(database, room, bob)
    clock.advance(10_000)
    while (!logs.some(({ event }) => event === 'rooms_unchecked')) await turn()
    expect(rooms.emit({ rooms: [room] }, 'news', {})).toBe(2)
    await proxy.pass()
    const stepping = setInterval(() => clock.advance(1_000), 20)
    onTestFinished(() => clearInterval(stepping))
    expect(await him.until(isType('left'))).toEqual(left(room))
    expect(her.frames.filter(isType('left'))).toEqual([])
    expect(logs.filter(({ event }) => event === 'rooms_unchecked')).toHaveLength(1)
  })

  it('everybody is rechecked, thousands too', async () => {
    const clock = createClock()
    const { open, rooms } = startInstance({ transactions: database, nowMs: clock.nowMs })
    const [bob, names] = [someone('bob'), Array.from({ length: 3 }, someRoom)]
    const users = Array.from({ length: 1_000 }, () => someone())
    const peers = users.map((user) => open(user))
    for (const name of names) {
      await addMembers(database, name, ...users)
      await Promise.all(peers.map((peer) => rooms.join(peer, name)))
    }
    const [last, him] = [someRoom(), open(bob)]
    await addMembers(database, last, bob)
    await rooms.join(him, last)
    await removeMembers(database, last, bob)
    clock.advance(10_000)
    expect(await him.until(isType('left'))).toEqual(left(last))
    expect(rooms.emit({ rooms: names }, 'news', {})).toBe(3_000)
  })
})

describe.each(carriers)('over $name', (carrier) => {
  async function pair(nowMs?: () => number) {
    const there = await carrier.place()
    const start = async () => {
      const member = there.join()
      await member.untilBegun(1)
      const clock = nowMs === undefined ? {} : { nowMs }
      return {
        ...startInstance({
          transactions: database,
          bus: member.bus,
          instanceId: member.instanceId,
          ...clock,
        }),
        ...member,
      }
    }
    return { there, a: await start(), b: await start() }
  }

  it.skipIf(!carrier.available)(
    'who is removed through one instance leaves on the other, at once',
    async () => {
      const { a, b } = await pair()
      const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
      await addMembers(database, room, ann, bob)
      const [her, him] = [b.open(ann), a.open(bob)]
      await b.rooms.join(her, room)
      await a.rooms.join(him, room)
      await removeMembers(database, room, bob)
      const before = performance.now()
      b.rooms.kick(room, [bob])
      expect(await him.until(isType('left'))).toEqual(left(room))
      // Not by the recheck.
      expect(performance.now() - before).toBeLessThan(5_000)
      expect(a.rooms.emit({ rooms: [room] }, 'news', {})).toBe(0)
      expect(b.rooms.emit({ rooms: [room] }, 'news', {})).toBe(1)
    },
  )

  it.skipIf(!carrier.available)('more names than a message has room for are as good', async () => {
    const { a, b } = await pair()
    const [room, users] = [someRoom(), Array.from({ length: 1_000 }, () => someone('x'.repeat(200)))]
    await addMembers(database, room, ...users)
    const peers = users.slice(0, 20).map((user) => a.open(user))
    await Promise.all(peers.map((peer) => a.rooms.join(peer, room)))
    await removeMembers(database, room, ...users)
    b.rooms.kick(room, users)
    await Promise.all(peers.map((peer) => peer.until(isType('left'))))
  })

  it.skipIf(!carrier.available)('with the bus closed the recheck finds it, ten seconds later', async () => {
    const clock = createClock()
    const { a, b } = await pair(clock.nowMs)
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    const conversation = await makeConversation(database, ann)
    await addMembers(database, room, ann, bob)
    const [her, him] = [a.open(ann), a.open(bob)]
    for (const peer of [her, him]) await a.rooms.join(peer, room)
    await a.rooms.join(her, conversation)
    await b.bus.close()
    await removeMembers(database, room, bob)
    await deleteConversation(database, conversation)
    b.rooms.kick(room, [bob])
    b.rooms.kick(conversation)
    clock.advance(9_999)
    expect(a.rooms.emit({ rooms: [room] }, 'before', {})).toBe(2)
    await him.until(isType('before'))
    clock.advance(1)
    expect(await him.until(isType('left'))).toEqual(left(room))
    expect(await her.until(isType('left'))).toEqual(left(conversation, 'deleted'))
    expect(a.rooms.emit({ rooms: [room] }, 'after', {})).toBe(1)
    // It is no rarer for being late: once.
    expect(him.frames.filter(isType('left'))).toHaveLength(1)
  })

  it.skipIf(!carrier.available)(
    'what was missed while the bus was away is looked for when it is back',
    async () => {
      const { there, a } = await pair()
      const [bob, room] = [someone('bob'), someRoom()]
      await addMembers(database, room, bob)
      const him = a.open(bob)
      await a.rooms.join(him, room)
      await removeMembers(database, room, bob)
      await there.killConnections()
      expect(await him.until(isType('left'))).toEqual(left(room))
    },
  )

  it.skipIf(!carrier.available)(
    'typing is told on the other instance, and ends there also when its instance is killed',
    async () => {
      const clock = createClock()
      const { a, b } = await pair(clock.nowMs)
      const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
      await addMembers(database, room, ann, bob)
      const [her, him] = [a.open(ann), b.open(bob)]
      await a.rooms.join(her, room)
      await b.rooms.join(him, room)
      b.rooms.typing(him, room, true)
      const frame = { op: 'event', type: 'typing', room, data: { user_id: bob, typing: true } }
      expect(await her.until(isType('typing'))).toEqual(frame)
      await b.bus.close()
      clock.advance(9_000)
      const end = await her.until(({ type, data }) => type === 'typing' && data['typing'] === false)
      expect(end.data).toEqual({ user_id: bob, typing: false })
      expect(him.frames.filter(isType('typing'))).toEqual([])
    },
  )

  it.skipIf(!carrier.available)(
    'strangers who talk on the bus get nobody out, and nothing broken',
    async () => {
      const { there, a } = await pair()
      const [ann, room] = [someone('ann'), someRoom()]
      await addMembers(database, room, ann)
      const her = a.open(ann)
      await a.rooms.join(her, room)
      const messages = [
        ['kick', { room, users: [ann] }],
        ['kick', { room: 7 }],
        ['kick', 'x'],
        ['typing', { room, user: 'eve' }],
        ['presence', { kind: 'all', sockets: -1 }],
        ['presence', { kind: 'some', sockets: 1, online: [7], away: [], gone: [] }],
        ['emit', { type: 'x', data: 'text' }],
        ['revoke', null],
      ]
      await there.say(`rivulet/1 stranger 1 1/1 ${JSON.stringify(messages)}`)
      await there.say(
        `rivulet/1 stranger 2 1/1 ${JSON.stringify([['emit', { type: 'last', data: {}, users: [ann] }]])}`,
      )
      await her.until(isType('last'))
      await checked(a.rooms, her)
      expect(her.frames.map(({ type }) => type)).toEqual(['last', 'checked'])
      expect(her.reasons).toEqual([])
    },
  )
})

/** Others need the processor. */
const turn = () => delay(2)

/** Resolves when what was to be rechecked before has been: this is rechecked behind it, and its word comes last. */
async function checked(
  { join, kick, emit }: Pick<ReturnType<typeof startInstance>['rooms'], 'join' | 'kick' | 'emit'>,
  peer: TestPeer,
): Promise<void> {
  const room = `check:${randomUUID()}`
  await addMembers(database, room, peer.userId)
  await join(peer, room)
  await removeMembers(database, room, peer.userId)
  kick(room, [peer.userId])
  await peer.until((frame) => frame.type === 'left' && frame.room === room)
  peer.frames.splice(
    peer.frames.findIndex((frame) => frame.type === 'left' && frame.room === room),
    1,
  )
  emit({ users: [peer.userId] }, 'checked', {})
  await peer.until(isType('checked'))
}
