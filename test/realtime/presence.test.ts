/** Presence: the best of a person's devices on all instances, told once, and no sooner than it is true. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Database } from '../../src/db/database.ts'
import { noteConnected } from '../../src/notifications/heads.ts'
import { carriers, listen } from '../support/buses.ts'
import { ownDatabase } from '../support/own-database.ts'
import {
  addMembers,
  createClock,
  isPresence,
  isType,
  makeConversation,
  someone,
  someRoom,
  startInstance,
  type Instance,
  type TestPeer,
} from '../support/rooms.ts'

let database: Database
ownDatabase(6, (own) => ({ database } = own))

const ofPerson = (userId: string) => (frame: { type: string; data: Record<string, unknown> }) =>
  frame.type === 'presence' && frame.data['user_id'] === userId
const states = (peer: TestPeer, userId: string) =>
  peer.frames.filter(ofPerson(userId)).map(({ data }) => data['state'])

/**
 * Resolves when everything that was known before has been told to her: somebody who comes later is told behind it.
 *
 * @returns what she was told of this person.
 */
async function toldOf(
  userId: string,
  her: TestPeer,
  room: string,
  { open, rooms }: Instance,
): Promise<unknown[]> {
  const marker = someone('marker')
  await addMembers(database, room, marker)
  const peer = open(marker)
  await her.until(isPresence(marker, 'online'))
  rooms.drop(peer)
  return states(her, userId)
}

/** Ann is in a room; bob is one of its members. */
async function setting() {
  const clock = createClock()
  const instance = startInstance({ transactions: database, nowMs: clock.nowMs })
  const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
  await addMembers(database, room, ann, bob)
  const her = instance.open(ann)
  await instance.rooms.join(her, room)
  const told = () => toldOf(bob, her, room, instance)
  return { ...instance, clock, ann, bob, room, her, told }
}

async function lastSeen(userId: string): Promise<string | null> {
  const rows = await database.asSystem('test', (tx) =>
    tx.execute<{ last_seen_at: string | null }>(
      sql`select last_seen_at from chat.inbox_heads where user_id = ${userId}`,
    ),
  )
  return rows[0]?.last_seen_at ?? null
}

describe('on one instance', () => {
  it('who comes, goes away and leaves is told to the others in their rooms', async () => {
    const { open, rooms, clock, bob, room, her, told } = await setting()
    const him = open(bob)
    expect(await her.until(isPresence(bob, 'online'))).toEqual({
      op: 'event',
      type: 'presence',
      room,
      data: { user_id: bob, state: 'online', last_seen: null },
    })
    rooms.presence(him, 'away')
    await her.until(isPresence(bob, 'away'))
    rooms.presence(him, 'online')
    await her.until((frame) => isPresence(bob, 'online')(frame) && states(her, bob).length === 3)
    rooms.drop(him)
    await told()
    clock.advance(10_000)
    await her.until(isPresence(bob, 'offline'))
    expect(states(her, bob)).toEqual(['online', 'away', 'online', 'offline'])
  })

  it('of a conversation: its owner is told of its members, and they of the owner', async () => {
    const { open, rooms } = startInstance({ transactions: database })
    const [ann, bob] = [someone('ann'), someone('bob')]
    const room = await makeConversation(database, ann)
    await addMembers(database, room, bob)
    const her = open(ann)
    await rooms.join(her, room)
    const him = open(bob)
    expect(await her.until(isPresence(bob, 'online'))).toMatchObject({ room })
    await rooms.join(him, room)
    rooms.presence(her, 'away')
    expect(await him.until(isPresence(ann, 'away'))).toMatchObject({ room })
  })

  it('is told in shared rooms alone, and never to oneself', async () => {
    const { open, rooms, bob, room, her, told } = await setting()
    const [eve, foreign] = [someone('eve'), someRoom()]
    await addMembers(database, foreign, eve)
    const stranger = open(eve)
    await rooms.join(stranger, foreign)
    const him = open(bob)
    await rooms.join(him, room)
    await her.until(isPresence(bob, 'online'))
    rooms.presence(him, 'away')
    await told()
    await toldOf(bob, stranger, foreign, { open, rooms, instanceId: '', logs: [] })
    expect(states(stranger, bob)).toEqual([])
    expect(states(him, bob)).toEqual([])
  })

  it('a person with several devices is online where one is: closing one of two says nothing', async () => {
    const { open, rooms, clock, bob, her, told } = await setting()
    const [phone] = [open(bob), open(bob)]
    await her.until(isPresence(bob, 'online'))
    rooms.drop(phone)
    await told()
    clock.advance(60_000)
    expect(await told()).toEqual(['online'])
  })

  it('a person is away when all of their devices are, and back when one is', async () => {
    const { open, rooms, bob, her, told } = await setting()
    const [phone, laptop] = [open(bob), open(bob)]
    rooms.presence(phone, 'away')
    expect(await told()).toEqual(['online'])
    rooms.presence(laptop, 'away')
    await her.until(isPresence(bob, 'away'))
    // The one in use has gone; the other is away still.
    rooms.presence(phone, 'online')
    await her.until(() => states(her, bob).length === 3)
    rooms.drop(phone)
    await her.until(() => states(her, bob).length === 4)
    expect(states(her, bob)).toEqual(['online', 'away', 'online', 'away'])
  })

  it('coming back within ten seconds is silent, both ways', async () => {
    const { open, rooms, clock, bob, her, told } = await setting()
    rooms.drop(open(bob))
    const him = open(bob)
    await her.until(isPresence(bob, 'online'))
    for (let n = 0; n < 3; n++) {
      rooms.drop(him)
      await told()
      clock.advance(9_000)
      rooms.enter(him)
      await told()
      clock.advance(9_000)
    }
    expect(await told()).toEqual(['online'])
  })

  it('join answers who is here, and their state', async () => {
    const { open, rooms, ann, bob, room } = await setting()
    const carol = someone('carol')
    await addMembers(database, room, carol, someone('not here'))
    await database.asSystem('test', (tx) => noteConnected(tx, [bob]))
    rooms.presence(open(bob), 'away')
    const { present } = await rooms.join(open(carol), room)
    const here = present as { user_id: string }[]
    expect(here.toSorted((a, b) => (a.user_id < b.user_id ? -1 : 1))).toEqual([
      { user_id: ann, state: 'online', last_seen: null },
      { user_id: bob, state: 'away', last_seen: expect.stringMatching(/^20.*Z$/) as string },
    ])
  })

  it('join names two hundred at most', async () => {
    const { open, rooms, ann, room, her } = await setting()
    const users = Array.from({ length: 300 }, () => someone())
    await addMembers(database, room, ...users)
    for (const user of users) open(user)
    rooms.kick(room, [])
    const { present } = await rooms.join(her, room)
    expect(present).toHaveLength(200)
    expect(JSON.stringify(present)).not.toContain(ann)
  })

  it('when somebody was last seen is stored as they leave, and told when they are offline', async () => {
    const { open, rooms, clock, bob, her } = await setting()
    await database.asSystem('test', (tx) => noteConnected(tx, [bob]))
    const connected = await lastSeen(bob)
    const him = open(bob)
    await her.until(isPresence(bob, 'online'))
    rooms.drop(him)
    while ((await lastSeen(bob)) === connected) await turn()
    clock.advance(10_000)
    const { data } = await her.until(isPresence(bob, 'offline'))
    expect(data['last_seen']).toBe(await lastSeen(bob))
  })

  it('a thousand who come at once are told of all the same, bit by bit', async () => {
    const { open, her, room } = await setting()
    const users = Array.from({ length: 1_000 }, () => someone())
    await addMembers(database, room, ...users)
    for (const user of users) open(user)
    await her.until(() => her.frames.filter(isType('presence')).length >= 1_000)
    expect(new Set(her.frames.map(({ data }) => data['user_id'])).size).toBe(1_000)
  })

  it('is not told where more than 250 are in a room here: it would cost their square', async () => {
    const { open, rooms, room, her, bob } = await setting()
    const users = Array.from({ length: 250 }, () => someone())
    await addMembers(database, room, ...users)
    await Promise.all(users.map((user) => rooms.join(open(user), room)))
    const other = someRoom()
    await addMembers(database, other, bob, her.userId)
    await rooms.join(her, other)
    open(bob)
    expect(await her.until(ofPerson(bob))).toMatchObject({ room: other })
    rooms.emit({ users: [her.userId] }, 'after', {})
    await her.until(isType('after'))
    expect(her.frames.filter(ofPerson(bob))).toHaveLength(1)
  })

  it('waits for the database, and then tells how things are by then', async () => {
    let away = false
    const clock = createClock()
    const { open, rooms, logs } = startInstance({
      nowMs: clock.nowMs,
      transactions: {
        asCaller: (caller, fn) => database.asCaller(caller, fn),
        asSystem: (why, fn) => (away ? Promise.reject(new Error('away')) : database.asSystem(why, fn)),
      },
    })
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await addMembers(database, room, ann, bob)
    const her = open(ann)
    await rooms.join(her, room)
    away = true
    const him = open(bob)
    while (!logs.some(({ event }) => event === 'presence_untold')) await turn()
    rooms.presence(him, 'away')
    clock.advance(1_000)
    while (logs.length < 1) await turn()
    away = false
    const stepping = setInterval(() => clock.advance(1_000), 10)
    await her.until(isPresence(bob, 'away'))
    clearInterval(stepping)
    expect(states(her, bob).at(-1)).toBe('away')
  })
})

describe.each(carriers)('over $name', (carrier) => {
  async function pair() {
    const there = await carrier.place()
    const clock = createClock()
    const start = async (member = there.join()) => {
      await member.untilBegun(1)
      const { bus, instanceId } = member
      return { ...startInstance({ transactions: database, bus, instanceId, nowMs: clock.nowMs }), bus }
    }
    const [a, b] = [await start(), await start()]
    const [ann, bob, room] = [someone('ann'), someone('bob'), someRoom()]
    await addMembers(database, room, ann, bob)
    const her = a.open(ann)
    await a.rooms.join(her, room)
    const told = () => toldOf(bob, her, room, a)
    return { there, clock, start, a, b, ann, bob, room, her, told }
  }

  it.skipIf(!carrier.available)(
    'who comes, goes away and leaves on one instance is told on the other',
    async () => {
      const { clock, a, b, bob, her, told } = await pair()
      const him = b.open(bob)
      await her.until(isPresence(bob, 'online'))
      b.rooms.presence(him, 'away')
      await her.until(isPresence(bob, 'away'))
      b.rooms.drop(him)
      await statsOf(a, ({ users_online }) => users_online === 1)
      await told()
      clock.advance(10_000)
      await her.until(isPresence(bob, 'offline'))
      expect(states(her, bob)).toEqual(['online', 'away', 'offline'])
    },
  )

  it.skipIf(!carrier.available)('moving to another instance within ten seconds is silent', async () => {
    const { clock, a, b, bob, her, told } = await pair()
    const him = b.open(bob)
    await her.until(isPresence(bob, 'online'))
    b.rooms.drop(him)
    await statsOf(a, ({ users_online }) => users_online === 1)
    clock.advance(9_000)
    a.open(bob)
    await told()
    clock.advance(20_000)
    expect(await told()).toEqual(['online'])
  })

  it.skipIf(!carrier.available)('devices of one person on two instances are one person', async () => {
    const { clock, a, b, bob, her, told } = await pair()
    const [phone, laptop] = [a.open(bob), b.open(bob)]
    await statsOf(a, ({ sockets }) => sockets === 3)
    expect(a.rooms.stats()).toMatchObject({ users_online: 2, sockets: 3 })
    b.rooms.presence(laptop, 'away')
    expect(await told()).toEqual(['online'])
    a.rooms.drop(phone)
    await her.until(isPresence(bob, 'away'))
    clock.advance(20_000)
    expect(await told()).toEqual(['online', 'away'])
  })

  it.skipIf(!carrier.available)(
    "a killed instance's people are offline when it has been silent for 75 s",
    async () => {
      const { clock, a, b, bob, her, told } = await pair()
      await database.asSystem('test', (tx) => noteConnected(tx, [bob]))
      const connected = await lastSeen(bob)
      b.open(bob)
      await her.until(isPresence(bob, 'online'))
      await b.bus.close()
      clock.advance(74_999)
      expect(await told()).toEqual(['online'])
      clock.advance(1)
      await her.until(isPresence(bob, 'offline'))
      expect(a.rooms.stats().instances).toHaveLength(1)
      // It could not note it itself.
      while ((await lastSeen(bob)) === connected) await turn()
    },
  )

  it.skipIf(!carrier.available)(
    'an instance that stops says so: its people have ten seconds to come back',
    async () => {
      const { clock, a, b, bob, her, told } = await pair()
      b.open(bob)
      await her.until(isPresence(bob, 'online'))
      await b.rooms.close()
      await statsOf(a, ({ instances }) => instances.length === 1)
      expect(await told()).toEqual(['online'])
      clock.advance(10_000)
      await her.until(isPresence(bob, 'offline'))
    },
  )

  it.skipIf(!carrier.available)('an instance that starts hears of those who are here at once', async () => {
    const { start, a, ann, bob, room } = await pair()
    const c = await start()
    await statsOf(c, ({ users_online }) => users_online === 1)
    expect(await c.rooms.join(c.open(bob), room)).toEqual({
      room,
      present: [{ user_id: ann, state: 'online', last_seen: null }],
    })
    await statsOf(a, ({ users_online }) => users_online === 2)
  })

  it.skipIf(!carrier.available)('while this instance hears nobody, nobody goes offline for it', async () => {
    const { there, clock, start, b, room } = await pair()
    const far = there.join({ by: 'proxy', pingMs: 50 })
    await far.untilBegun(1)
    const c = { ...(await start(far)), ...far }
    const [eve, carol] = [someone('eve'), someone('carol')]
    await addMembers(database, room, eve, carol)
    const her = c.open(eve)
    await c.rooms.join(her, room)
    b.open(carol)
    await her.until(isPresence(carol, 'online'))
    await there.proxy.refuse()
    while (c.bus.state() === 'up') await turn()
    clock.advance(200_000)
    expect(await toldOf(carol, her, room, c)).toEqual(['online'])
    await there.proxy.pass()
    await far.untilBegun(2)
    clock.advance(74_000)
    expect(await toldOf(carol, her, room, c)).toEqual(['online'])
  })

  it.skipIf(!carrier.available)('says everything every 30 s', async () => {
    const { there, clock, a, ann } = await pair()
    const member = there.join()
    await member.untilBegun(1)
    const said = listen(member.bus, 'presence')
    const all = { kind: 'all', sockets: 1, part: 1, parts: 1, online: [ann], away: [] }
    const heard = () =>
      said.from[said.messages.findIndex((message) => JSON.stringify(message) === JSON.stringify(all))]
    // It has not asked: only time makes them say it. Again where a bus that may lose messages has lost it.
    await expect
      .poll(
        () => {
          clock.advance(30_000)
          return heard()
        },
        { interval: 2_000, timeout: 15_000 },
      )
      .toBe(a.instanceId)
  })

  it.skipIf(!carrier.available)(
    'believes everything that an instance says, once it is complete',
    async () => {
      const { there, a } = await pair()
      const member = there.join()
      await member.untilBegun(1)
      const say = (message: object) => member.bus.publish('presence', message)
      const part = (n: number, ...online: string[]) =>
        say({ kind: 'all', sockets: 2, part: n, parts: 2, online, away: [] })
      const online = async (count: number) => {
        // The mark comes behind what was said before.
        const mark = someone('mark')
        say({ kind: 'some', sockets: 2, online: [mark], away: [], gone: [] })
        await statsOf(a, ({ users_online }) => users_online === 1 + count + 1)
        say({ kind: 'some', sockets: 2, online: [], away: [], gone: [mark] })
        await statsOf(a, ({ users_online }) => users_online === 1 + count)
      }
      // Somebody whose leaving was lost.
      say({ kind: 'some', sockets: 2, online: [someone('ghost')], away: [], gone: [] })
      await online(1)
      part(1, someone('x'))
      await online(1)
      part(2, someone('y'))
      await online(2)
      // A part was lost: what was known stays.
      part(2, someone('z'))
      await online(2)
      part(1)
      part(1)
      part(2)
      await online(0)
    },
  )

  it.skipIf(!carrier.available)(
    'thousands of people are told of in messages that the bus takes',
    async () => {
      const { start, a } = await pair()
      const users = Array.from({ length: 3_000 }, () => `${randomUUID()}-${'é'.repeat(100)}`)
      for (const user of users) a.open(user)
      const c = await start()
      await statsOf(c, ({ users_online }) => users_online === 3_001)
    },
  )
})

/** Others need the processor. */
const turn = () => delay(2)

async function statsOf(
  { rooms }: Instance,
  matches: (stats: ReturnType<Instance['rooms']['stats']>) => boolean,
): Promise<void> {
  while (!matches(rooms.stats())) await turn()
}
