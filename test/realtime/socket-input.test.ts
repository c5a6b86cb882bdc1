/** What a client may send, and what it is told, or how it ends, where it sends something else. */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { sql } from '../../src/db/sql.ts'
import { connectionOf, opcodes, rawFrame } from '../support/frames.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startSockets, type SocketBench } from '../support/sockets.ts'
import type { TestSocket } from '../support/socket.ts'

let database: Database
ownDatabase(4, (own) => ({ database } = own))

const someone = () => `ann-${randomUUID()}`

async function openLive(bench: SocketBench, userId = someone()): Promise<TestSocket> {
  const socket = await bench.open(userId)
  await socket.live()
  return socket
}

const start = () => startSockets({ transactions: database })

describe('what is no message of this protocol ends the socket', () => {
  const text = (payload: string | Uint8Array) => rawFrame({ opcode: opcodes.text, payload })
  const fragments = (count: number) =>
    Buffer.concat([
      rawFrame({ opcode: opcodes.text, payload: 'x', fin: false }),
      ...Array.from({ length: count }, () =>
        rawFrame({ opcode: opcodes.continuation, payload: 'x', fin: false }),
      ),
    ])

  it.each<[string, number, Buffer]>([
    ['a binary frame', 4501, rawFrame({ opcode: opcodes.binary, payload: '{"op":"ping"}' })],
    ['no JSON', 4501, text('hello?')],
    ['nothing', 4501, text('')],
    ['half of a frame', 4501, text('{"op":"ping"')],
    ['two in one', 4501, text('{"op":"ping"}{"op":"ping"}')],
    ['an array', 4501, text('[{"op":"ping"}]')],
    ['null', 4501, text('null')],
    ['a string', 4501, text('"ping"')],
    ['a number', 4501, text('1e400')],
    ['8,000 brackets', 4501, text('['.repeat(8_000))],
    ['bytes that are no UTF-8', 1007, text(Buffer.from([0x22, 0xff, 0xfe, 0x22]))],
    ['half of a character', 1007, text(Buffer.from([0x22, 0xe2, 0x82]))],
    ['16 KiB and a byte', 1009, text('x'.repeat(16 * 1024 + 1))],
    ['1 MB', 1009, text('x'.repeat(1_000_000))],
    ['20,000 fragments', 1008, fragments(20_000)],
    [
      '20,000 empty fragments',
      1008,
      Buffer.concat(
        Array.from({ length: 20_000 }, (_, n) => rawFrame({ opcode: n === 0 ? 1 : 0, fin: false })),
      ),
    ],
    ['a frame without a mask', 1002, rawFrame({ opcode: opcodes.text, payload: '{}', masked: false })],
    ['a reserved bit', 1002, rawFrame({ opcode: opcodes.text, payload: '{}', reserved: 4 })],
    ['an opcode that there is not', 1002, rawFrame({ opcode: 3, payload: '{}' })],
    ['a continuation of nothing', 1002, rawFrame({ opcode: opcodes.continuation, payload: '{}' })],
    ['a ping of 126 bytes', 1002, rawFrame({ opcode: opcodes.ping, payload: 'x'.repeat(126) })],
  ])('%s: %i', async (_, code, bytes) => {
    const bench = await start()
    const [socket, neighbour] = [await openLive(bench), await openLive(bench)]
    connectionOf(socket).write(bytes)
    expect((await socket.closed).code).toBe(code)
    await expect.poll(() => bench.sockets.count()).toBe(1)
    expect(bench.hub.viewers()).toBe(1)
    expect(await neighbour.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('takes a message of 16 KiB, and one in pieces', async () => {
    const bench = await start()
    const socket = await openLive(bench)
    const frame = JSON.stringify({ op: 'ping', rid: 1 })
    socket.send(frame + ' '.repeat(16 * 1024 - frame.length))
    await socket.until((answer) => answer.op === 'ok' && answer.rid === 1)
    connectionOf(socket).write(
      Buffer.concat([
        rawFrame({ opcode: opcodes.text, payload: '{"op":"pi', fin: false }),
        rawFrame({ opcode: opcodes.ping, payload: 'in between' }),
        rawFrame({ opcode: opcodes.continuation, payload: 'ng","rid":2}' }),
      ]),
    )
    await socket.until((answer) => answer.op === 'ok' && answer.rid === 2)
  })
})

describe('JSON that is no frame is answered with an error, and the socket goes on', () => {
  const uuid = randomUUID()
  it.each<[string, object]>([
    ['no op', {}],
    ['an op that there is not', { op: 'dance' }],
    ['an op of a server', { op: 'hello' }],
    ['an op that is no text', { op: ['ping'] }],
    ['the name of what every object has', { op: 'constructor' }],
    ['a key that it does not know', { op: 'ping', loud: true }],
    ['a key of what every object has', JSON.parse('{"op":"ping","__proto__":{"op":"x"}}') as object],
    ['an ack of nothing', { op: 'ack' }],
    ['an ack that is no whole number', { op: 'ack', seq: 1.5 }],
    ['an ack below nothing', { op: 'ack', seq: -1 }],
    ['an ack beyond what is a number', { op: 'ack', seq: 1e300 }],
    ['an ack as text', { op: 'ack', seq: '1' }],
    ['reading nothing', { op: 'read' }],
    ['reading both ways', { op: 'read', ids: [uuid], up_to: 1 }],
    ['reading an empty list', { op: 'read', ids: [] }],
    ['reading what is no id', { op: 'read', ids: [uuid, "' or true --"] }],
    ['reading 501', { op: 'read', ids: Array.from({ length: 501 }, () => '') }],
    ['a list of too many', { op: 'list', limit: 101 }],
    ['a list of an unknown status', { op: 'list', status: 'lost' }],
    ['a list of an unknown type', { op: 'list', type: 'gossip' }],
    ['a list behind what is no cursor', { op: 'list', cursor: '\0\ud800' }],
    ['a room without a name', { op: 'join', room: '' }],
    ['a room with a space', { op: 'join', room: 'team:a b' }],
    ['a room that is too long', { op: 'join', room: `team:${'x'.repeat(201)}` }],
    ['typing that is no yes or no', { op: 'typing', room: 'team:a', typing: 'yes' }],
    ['a state that there is not', { op: 'presence', state: 'offline' }],
    ['going back below nothing', { op: 'sync', seq: -1 }],
  ])('%s', async (_, frame) => {
    const bench = await start()
    const socket = await openLive(bench)
    const answer = await socket.ask(frame)
    expect(answer).toMatchObject({
      op: 'error',
      code: 'invalid_request',
      message: expect.stringMatching(/^.{3,200}$/) as string,
    })
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('without a rid where that cannot be read', async () => {
    const bench = await start()
    const socket = await openLive(bench)
    for (const rid of [{}, [], null, true, 1.5, '', 'x'.repeat(65)]) socket.send({ op: 'ping', rid })
    await expect.poll(() => socket.frames.filter(({ op }) => op === 'error').length).toBe(7)
    for (const frame of socket.frames) expect('rid' in frame).toBe(false)
  })

  it('is asked in a room that it is not in: forbidden', async () => {
    const bench = await start()
    const socket = await openLive(bench)
    for (const frame of [
      { op: 'join', room: `conversation:${randomUUID()}` },
      { op: 'join', room: 'team:of-others' },
      { op: 'join', room: 'user:somebody' },
      { op: 'typing', room: 'team:of-others' },
    ])
      expect(await socket.ask(frame)).toMatchObject({ op: 'error', code: 'forbidden' })
  })
})

describe('more than 20 messages a second', () => {
  const flood = (socket: TestSocket, opcode: number, payload = '') =>
    connectionOf(socket).write(
      Buffer.concat(Array.from({ length: 200 }, () => rawFrame({ opcode, payload }))),
    )

  it.each<[string, (socket: TestSocket) => unknown]>([
    ['frames', (socket) => flood(socket, opcodes.text, '{"op":"ping"}')],
    ['frames that it does not know', (socket) => flood(socket, opcodes.text, '{"op":"dance"}')],
    ['acks that say nothing new', (socket) => flood(socket, opcodes.text, '{"op":"ack","seq":1}')],
    ['pings of the WebSocket', (socket) => flood(socket, opcodes.ping)],
    ['pongs that nobody asked for', (socket) => flood(socket, opcodes.pong)],
  ])('end it with 4013: %s', async (_, send) => {
    const bench = await start()
    const [socket, neighbour] = [await openLive(bench), await openLive(bench)]
    send(socket)
    expect(await socket.closed).toEqual({ code: 4013, reason: 'rate' })
    expect(await neighbour.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('in the long run only: 40 at once are answered, the next is too many, and a second later 20 more are not', async () => {
    const time = { ms: 0 }
    const bench = await startSockets({ transactions: database, nowMs: () => time.ms })
    const socket = await openLive(bench)
    const ask = (count: number) =>
      Promise.all(Array.from({ length: count }, () => socket.ask({ op: 'ping' })))
    await ask(40)
    time.ms += 1_000
    await ask(20)
    expect(socket.ws.readyState).toBe(1)
    socket.send({ op: 'ping' })
    expect((await socket.closed).code).toBe(4013)
  })

  it('may be acks of what it was shown: 300 of them, each for itself', async () => {
    const bench = await start()
    const ann = someone()
    const socket = await openLive(bench, ann)
    await bench.publish(
      ann,
      Array.from({ length: 300 }, (_, n) => `${n}`),
    )
    await expect.poll(() => socket.applied.length).toBe(300)
    expect(await socket.ask({ op: 'ping' })).toMatchObject({ op: 'ok' })
  })

  it('cannot pile up behind a slow answer: with 64 that wait it ends', async () => {
    const time = { ms: 0 }
    const bench = await startSockets({
      transactions: database,
      nowMs: () => time.ms,
      inbox: { list: () => new Promise<never>(() => undefined) },
    })
    const socket = await openLive(bench)
    // One is being answered.
    for (const count of [25, 25, 15]) {
      for (let n = 0; n < count; n++) socket.send({ op: 'list' })
      const read = new Promise((resolve) => socket.ws.once('pong', resolve))
      socket.ws.ping()
      await read
      time.ms += 2_000
    }
    expect(socket.ws.readyState).toBe(1)
    socket.send({ op: 'list' })
    expect((await socket.closed).code).toBe(4013)
  })
})

describe('acks', () => {
  const deliveredOf = (userId: string) =>
    database.asSystem('test', async (tx) => {
      const rows = await tx.execute<{ seq: number; delivered: boolean }>(
        sql`
          select seq::int as seq, delivered_at is not null as delivered from chat.notifications
          where user_id = ${userId} order by seq`,
      )
      return rows.filter(({ delivered }) => delivered).map(({ seq }) => seq)
    })

  it('beyond what was shown count up to there only', async () => {
    const bench = await start()
    const ann = someone()
    const socket = await bench.open(ann, { ack: false })
    await socket.live()
    await bench.publish(ann, ['a', 'b'])
    await socket.until((frame) => frame.op === 'event' && frame.seq === 2)
    socket.send({ op: 'ack', seq: Number.MAX_SAFE_INTEGER })
    await expect.poll(() => deliveredOf(ann)).toEqual([1, 2])
    await bench.publish(ann, ['c'])
    await socket.until((frame) => frame.op === 'event' && frame.seq === 3)
    // Read by now, and written if it counted: the next ack is written behind it.
    socket.send({ op: 'ack', seq: 2 })
    await socket.ask({ op: 'ping' })
    expect(await deliveredOf(ann)).toEqual([1, 2])
    socket.send({ op: 'ack', seq: 3 })
    await expect.poll(() => deliveredOf(ann)).toEqual([1, 2, 3])
  })
})
