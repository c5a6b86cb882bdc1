/** The socket as a client sees it: greeted, brought up to date, told what comes, asked whether it lives, sent away. */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { sql } from '../../src/db/sql.ts'
import type { ServerFrame } from '../../src/realtime/protocol.ts'
import { createGate } from '../support/gate.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startSockets } from '../support/sockets.ts'
import type { FrameOf, TestSocket } from '../support/socket.ts'

let database: Database
ownDatabase(6, (own) => ({ database } = own))

const someone = () => `ann-${randomUUID()}`
const titleOf = (frame: ServerFrame) => (frame.op === 'event' ? frame.data['title'] : undefined)
const untilTitle = (socket: TestSocket, title: string) => socket.until((frame) => titleOf(frame) === title)
const events = (socket: TestSocket) =>
  socket.frames.filter((frame): frame is FrameOf<'event'> => frame.op === 'event' && frame.seq !== undefined)
const start = () => startSockets({ transactions: database })

describe('who comes without a cursor', () => {
  it('is greeted as fresh, stands at the head, and is live', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const { epoch } = await publish(ann, ['before'])
    const socket = await open(ann)
    expect(await socket.hello()).toEqual({
      op: 'hello',
      v: 1,
      epoch,
      head: 1,
      unread: 1,
      heartbeat: 25,
      mode: 'fresh',
    })
    expect(await socket.live()).toEqual({ op: 'live', seq: 1 })
    expect(socket.frames).toHaveLength(2)
  })

  it('gets an inbox with its first visit, and is told what comes then', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const socket = await open(ann)
    expect(await socket.hello()).toMatchObject({ head: 0, unread: 0, mode: 'fresh' })
    await socket.live()
    await publish(ann, ['one', 'two'])
    await untilTitle(socket, 'two')
    expect(events(socket)).toMatchObject([
      { seq: 1, prev: 0, unread: 2, type: 'reminder', data: { title: 'one', seq: 1, status: 'sent' } },
      { seq: 2, prev: 1, unread: 2, type: 'reminder', data: { title: 'two', seq: 2 } },
    ])
    const [{ id, time, data } = { id: '', time: '', data: {} }] = events(socket)
    expect([id, time]).toEqual([data['id'], data['updated_at']])
  })
})

describe('who comes with a cursor', () => {
  it('gets all that is behind it in its order, over many pages, and then `live`', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const { epoch } = await publish(ann, ['seen'])
    const titles = Array.from({ length: 130 }, (_, n) => `title ${n}`)
    await publish(ann, titles)
    const socket = await open(ann, { cursor: `${epoch}.1` })
    expect(await socket.hello()).toMatchObject({ mode: 'resume', head: 131, unread: 131 })
    expect(await socket.live()).toEqual({ op: 'live', seq: 131 })
    expect(events(socket).map(({ seq, prev }) => [prev, seq])).toEqual(titles.map((_, n) => [n + 1, n + 2]))
    expect(events(socket).map(titleOf)).toEqual(titles)
  })

  it('gets of a row that moved its last version only, and `prev` bridges where it was', async () => {
    const { open, publish, mark } = await start()
    const ann = someone()
    const { epoch } = await publish(ann, ['a', 'b', 'c'])
    await mark(ann, { upTo: 1 })
    const socket = await open(ann, { cursor: `${epoch}.0` })
    await socket.live()
    expect(events(socket).map(({ seq, prev, data }) => [prev, seq, data['title'], data['status']])).toEqual([
      [0, 2, 'b', 'sent'],
      [2, 3, 'c', 'sent'],
      [3, 4, 'a', 'read'],
    ])
    expect(socket.unread()).toBe(2)
  })

  it('is told `reset` where the cursor is of another log, beyond the head, under the floor, or no cursor', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const { epoch } = await publish(ann, ['one', 'two'])
    await database.asSystem('test', (tx) =>
      tx.execute(sql`update chat.inbox_heads set floor = 1 where user_id = ${ann}`),
    )
    for (const cursor of [
      'other.1',
      `${epoch}.3`,
      `${epoch}.0`,
      'nonsense',
      `${epoch}.-1`,
      '%00',
      '.'.repeat(500),
    ]) {
      const socket = await open(ann, { cursor })
      expect(await socket.hello(), cursor).toMatchObject({ mode: 'reset', head: 2 })
      expect(await socket.live(), cursor).toEqual({ op: 'live', seq: 2 })
      expect(events(socket)).toEqual([])
      await socket.close()
    }
    const socket = await open(ann, { cursor: `${epoch}.1` })
    expect(await socket.hello()).toMatchObject({ mode: 'resume' })
  })

  it('misses nothing and sees nothing twice over many cuts', async () => {
    const { open, publish } = await start()
    const ann = someone()
    let socket = await open(ann)
    await socket.live()
    const all: number[] = []
    for (let round = 0; round < 8; round++) {
      const publishing = publish(ann, [`${round} a`, `${round} b`])
      if (round % 2 === 0) await publishing
      await socket.drop()
      await publishing
      all.push(...socket.applied)
      socket = await open(ann, { from: socket })
      await socket.live()
    }
    all.push(...socket.applied)
    expect(all).toEqual(Array.from({ length: 16 }, (_, n) => n + 1))
    expect(socket.rows.size).toBe(16)
  })
})

describe('several devices', () => {
  it('are shown the same, and what one reads the others hear of', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const [phone, laptop] = [await open(ann), await open(ann)]
    await Promise.all([phone.live(), laptop.live()])
    await publish(ann, ['one'])
    const [onPhone, onLaptop] = await Promise.all([untilTitle(phone, 'one'), untilTitle(laptop, 'one')])
    expect(onPhone).toEqual(onLaptop)
    expect(await phone.ask({ op: 'read', up_to: 1 })).toMatchObject({ op: 'ok', unread: 0 })
    await laptop.until((frame) => frame.op === 'event' && frame.data['status'] === 'read')
    expect(laptop.unread()).toBe(0)
  })

  it('are ten at most: the eleventh replaces the oldest, which is told so', async () => {
    const { open, sockets } = await start()
    const [ann, bob] = [someone(), someone()]
    const other = await open(bob)
    const own: TestSocket[] = []
    for (let n = 0; n < 11; n++) own.push(await open(ann))
    expect(await own[0]?.closed).toEqual({ code: 4504, reason: 'replaced' })
    await expect.poll(() => sockets.count()).toBe(11)
    for (const socket of [...own.slice(1), other]) expect(socket.ws.readyState).toBe(1)
  })
})

describe('what is asked over it', () => {
  it('is answered with its rid: ping, read, list, sync', async () => {
    const { open, publish } = await start()
    const ann = someone()
    await publish(ann, ['one', 'two', 'three'])
    const socket = await open(ann)
    await socket.live()
    expect(await socket.ask({ op: 'ping' })).toEqual({ op: 'ok', rid: expect.any(String) as string })
    const list = await socket.ask({ op: 'list', limit: 2 })
    expect(list).toMatchObject({ op: 'ok', unread: 3, notifications: [{ title: 'three' }, { title: 'two' }] })
    const { next_cursor } = (list as unknown as { pagination: { next_cursor: string } }).pagination
    const [{ id } = { id: '' }] = (list as unknown as { notifications: { id: string }[] }).notifications
    expect(await socket.ask({ op: 'list', cursor: next_cursor })).toMatchObject({
      notifications: [{ title: 'one' }],
    })
    expect(await socket.ask({ op: 'read', ids: [id] })).toMatchObject({ changed: [id], unread: 2 })
    expect(await socket.ask({ op: 'sync', seq: 0 })).toMatchObject({ op: 'ok' })
    await untilTitle(socket, 'one')
  })

  it('says nothing of what is foreign: reading ids of another user changes nothing', async () => {
    const { open, publish } = await start()
    const [ann, eve] = [someone(), someone()]
    const device = await open(ann)
    await device.live()
    await publish(ann, ['secret'])
    const frame = (await untilTitle(device, 'secret')) as FrameOf<'event'>
    const socket = await open(eve)
    await socket.live()
    expect(await socket.ask({ op: 'read', ids: [frame.id] })).toMatchObject({ op: 'ok', changed: [] })
    expect(await device.ask({ op: 'list', status: 'unread' })).toMatchObject({ unread: 1 })
  })

  it('is answered one after the other, in its order', async () => {
    const begun: (() => void)[] = []
    const { open } = await startSockets({
      transactions: database,
      inbox: { mark: () => new Promise((resolve) => begun.push(() => resolve({ changed: [] }))) },
    })
    const socket = await open(someone())
    await socket.live()
    const answers = [
      socket.ask({ op: 'read', up_to: 1 }),
      socket.ask({ op: 'read', up_to: 2 }),
      socket.ask({ op: 'ping' }),
    ]
    await expect.poll(() => begun.length).toBe(1)
    // Both are here by now: an ack goes past those who wait, and the second has not begun.
    expect(socket.frames.filter(({ op }) => op === 'ok')).toEqual([])
    expect(begun).toHaveLength(1)
    begun[0]?.()
    await answers[0]
    await expect.poll(() => begun.length).toBe(2)
    begun[1]?.()
    await Promise.all(answers)
    const rids = socket.frames.flatMap((frame) => (frame.op === 'ok' ? [frame.rid] : []))
    expect(rids).toEqual((await Promise.all(answers)).map(({ rid }) => rid))
  })

  it('does nothing any more once its socket has gone', async () => {
    const done: string[] = []
    let release: () => void = () => undefined
    const { open, sockets } = await startSockets({
      transactions: database,
      inbox: {
        async mark() {
          done.push('mark')
          await new Promise<void>((resolve) => (release = resolve))
          return {}
        },
        async list() {
          done.push('list')
          return {}
        },
      },
    })
    const socket = await open(someone())
    await socket.live()
    socket.send({ op: 'read', up_to: 1 })
    socket.send({ op: 'list' })
    await expect.poll(() => done).toEqual(['mark'])
    await socket.drop()
    await expect.poll(() => sockets.count()).toBe(0)
    release()
    await new Promise((resolve) => setImmediate(resolve))
    expect(done).toEqual(['mark'])
  })

  it('hides what failed inside, and logs it', async () => {
    const { open, logs } = await startSockets({
      transactions: database,
      inbox: { list: () => Promise.reject(new Error('secret of ours')) },
    })
    const socket = await open(someone())
    await socket.live()
    expect(await socket.ask({ op: 'list' })).toEqual({
      op: 'error',
      rid: expect.any(String) as string,
      code: 'internal_error',
      message: 'Internal error',
    })
    expect(logs).toContainEqual(expect.objectContaining({ event: 'operation_failed', op: 'list' }))
  })
})

describe('sync', () => {
  it('brings again what is behind the place that the client names, also while rows move', async () => {
    const { open, publish, mark } = await start()
    const ann = someone()
    const socket = await open(ann)
    await socket.live()
    await publish(ann, ['a', 'b', 'c', 'd'])
    await untilTitle(socket, 'd')
    const before = events(socket).length
    await mark(ann, { upTo: 2 })
    socket.send({ op: 'sync', seq: 1 })
    await socket.until((frame) => frame.op === 'live' && frame.seq === 6)
    const again = events(socket).slice(before)
    // Its own client had all of these but the last two, and applied them alone.
    expect(new Set(again.map(({ seq }) => seq))).toEqual(new Set([3, 4, 5, 6]))
    expect(socket.applied).toEqual([1, 2, 3, 4, 5, 6])
    expect(socket.rows.size).toBe(4)
  })

  it('goes back to the last ack where no place is named', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const socket = await open(ann, { ack: false })
    await socket.live()
    await publish(ann, ['a', 'b', 'c'])
    await untilTitle(socket, 'c')
    socket.send({ op: 'ack', seq: 2 })
    socket.send({ op: 'sync' })
    await socket.until((frame) => frame.op === 'ok')
    await socket.until((frame) => frame.op === 'live' && frame.seq === 3)
    expect(events(socket).map(({ seq }) => seq)).toEqual([1, 2, 3, 3])
  })
})

describe('a heartbeat', () => {
  it('says where the log stands, and is answered with an ack: then nothing happens', async () => {
    const { open, publish, beat, pass } = await start()
    const ann = someone()
    const socket = await open(ann)
    await socket.live()
    await publish(ann, ['one'])
    await untilTitle(socket, 'one')
    beat()
    expect(await socket.until(({ op }) => op === 'heartbeat')).toEqual({ op: 'heartbeat', head: 1 })
    // Its ack is read before what it asks next.
    await socket.ask({ op: 'ping' })
    pass(11_000)
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('that nobody answers for 10 s ends it with 4012, and not before', async () => {
    const { open, beat, pass } = await start()
    const socket = await open(someone(), { ack: false })
    await socket.live()
    beat()
    await socket.until(({ op }) => op === 'heartbeat')
    pass(10_000)
    expect(socket.ws.readyState).toBe(1)
    pass(1_000)
    expect(await socket.closed).toEqual({ code: 4012, reason: 'no_heartbeat' })
  })

  it.each([
    ['a frame that is not known', (socket: TestSocket) => socket.send({ op: 'dance' })],
    ['a ping of the WebSocket', (socket: TestSocket) => socket.ws.ping()],
    ['a pong of the WebSocket', (socket: TestSocket) => socket.ws.pong()],
  ])('is answered by whatever comes: %s', async (_, answer) => {
    const { open, beat, pass } = await start()
    const socket = await open(someone(), { ack: false })
    await socket.live()
    beat()
    await socket.until(({ op }) => op === 'heartbeat')
    answer(socket)
    await socket.ask({ op: 'ping' })
    pass(11_000)
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('finds an event that was lost on its way: the head is beyond, the client asks again', async () => {
    const { open, publish, beat } = await start()
    const ann = someone()
    const lossy = await open(ann)
    await lossy.live()
    const listeners = lossy.ws.listeners('message') as ((...args: unknown[]) => void)[]
    lossy.ws.removeAllListeners('message')
    // The network takes exactly one frame.
    const taken = new Promise((resolve) => lossy.ws.once('message', resolve))
    await publish(ann, ['lost'])
    await taken
    for (const listener of listeners) lossy.ws.on('message', listener)
    expect(lossy.applied).toEqual([])
    beat()
    await untilTitle(lossy, 'lost')
    expect([lossy.gaps, lossy.applied]).toEqual([1, [1]])
  })

  it('is asked of who waits to be greeted too: by a ping', async () => {
    const gate = createGate(database, 'inbox')
    const { open, beat, pass } = await startSockets({ transactions: gate.transactions })
    const alive = await open(someone())
    const dead = await open(someone(), { ws: { autoPong: false } })
    const ponged = new Promise((resolve) => alive.ws.once('ping', resolve))
    beat()
    await ponged
    alive.ws.ping()
    await new Promise((resolve) => alive.ws.once('pong', resolve))
    pass(11_000)
    expect(await dead.closed).toMatchObject({ code: 4012 })
    await gate.open()
    expect(await alive.hello()).toMatchObject({ mode: 'fresh' })
  })
})

describe('it ends', () => {
  it('with 4001 when its token does, and not before', async () => {
    const { open, pass, clock } = await startSockets({
      transactions: database,
      validUntil: Date.now() + 60_000,
    })
    const socket = await open(someone())
    await socket.live()
    pass(50_000)
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
    clock.nowMs += 10_000
    pass(1)
    expect(await socket.closed).toEqual({ code: 4001, reason: 'expired' })
  })

  it('with 4500 where a service revokes its user, and nobody else', async () => {
    const { open, rooms } = await start()
    const [ann, bob] = [someone(), someone()]
    const [phone, laptop, other] = [await open(ann), await open(ann), await open(bob)]
    await Promise.all([phone.live(), laptop.live(), other.live()])
    rooms.revoke([ann])
    expect(await phone.closed).toEqual({ code: 4500, reason: 'revoked' })
    expect(await laptop.closed).toMatchObject({ code: 4500 })
    expect(await other.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('with 4010 where its log is another one all at once, such as after a backup was put back', async () => {
    const { open, publish, hub } = await start()
    const ann = someone()
    await publish(ann, ['a', 'b', 'c'])
    const socket = await open(ann)
    await socket.live()
    await database.asSystem('test', (tx) =>
      tx.execute(sql`update chat.inbox_heads set epoch = 'restored', seq = 1 where user_id = ${ann}`),
    )
    hub.sweep()
    expect(await socket.closed).toEqual({ code: 4010, reason: 'resync' })
    const again = await open(ann, { from: socket })
    expect(await again.hello()).toMatchObject({ mode: 'reset', epoch: 'restored', head: 1 })
  })

  it('with 4010 for all devices, where one that comes finds the other log before any sweep does', async () => {
    const { open, publish } = await startSockets({ transactions: database, sweepMs: 3_600_000 })
    const ann = someone()
    await publish(ann, ['a'])
    const socket = await open(ann)
    await socket.live()
    await database.asSystem('test', (tx) =>
      tx.execute(sql`update chat.inbox_heads set epoch = 'other' where user_id = ${ann}`),
    )
    const fresh = await open(ann)
    expect(await fresh.hello()).toMatchObject({ epoch: 'other', mode: 'fresh' })
    expect(await socket.closed).toMatchObject({ code: 4010 })
    expect(await fresh.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })
})

describe('what a socket asks', () => {
  it('may be acked again where it is shown again: an ack for each costs nothing', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const { epoch } = await publish(ann, ['seen'])
    await publish(
      ann,
      Array.from({ length: 80 }, (_, n) => `title ${n}`),
    )
    const socket = await open(ann, { cursor: `${epoch}.1`, ack: false })
    await socket.live()
    socket.send({ op: 'ack', seq: 81, rid: 'an ack has no answer' })
    expect(await socket.ask({ op: 'sync', seq: 1 })).toMatchObject({ op: 'ok' })
    await expect.poll(() => socket.frames.filter(({ op }) => op === 'live').length).toBe(2)
    for (let seq = 2; seq <= 81; seq++) socket.send({ op: 'ack', seq })
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('gets a list in pages that a socket holds, and all of it behind their cursors', async () => {
    const { open, publish } = await start()
    const ann = someone()
    const long = 'x'.repeat(15_000)
    for (let n = 0; n < 30; n++) await publish(ann, [`title ${n} ${long}`])
    const socket = await open(ann)
    await socket.live()
    const titles: string[] = []
    let cursor: string | undefined
    do {
      const answer = await socket.ask({ op: 'list', limit: 100, cursor })
      expect(JSON.stringify(answer).length).toBeLessThan(70_000)
      const { notifications, pagination } = answer as unknown as {
        notifications: { title: string }[]
        pagination: { next_cursor: string | null }
      }
      titles.push(...notifications.map(({ title }) => title.split(' ')[1] ?? ''))
      cursor = pagination.next_cursor ?? undefined
    } while (cursor !== undefined)
    expect(titles).toEqual(Array.from({ length: 30 }, (_, n) => String(29 - n)))
  })
})
