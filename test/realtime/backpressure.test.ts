/** Clients that do not read: what they cost, whom they hold up, and how they end. */
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { connectionOf } from '../support/frames.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startSockets, type SocketBench } from '../support/sockets.ts'
import type { TestSocket } from '../support/socket.ts'

let database: Database
ownDatabase(6, (own) => ({ database } = own))

const someone = () => `ann-${randomUUID()}`
/** Of a notification, bytes: a few hundred fill what the system itself takes for a connection. */
const dataBytes = 15_000
const big = { data: { text: 'x'.repeat(dataBytes) } }
const frameBytesMax = dataBytes + 2_000
const bufferedBytesMax = 64 * 1024

async function fill(bench: SocketBench, userId: string, rows: number): Promise<void> {
  for (let n = 0; n < rows; n += 100)
    await bench.publish(
      userId,
      Array.from({ length: 100 }, (_, index) => `${n + index}`),
      big,
    )
}

/** A client that stops reading: nothing of it is read from now on, not even by its system's own buffers once they are full. */
function stop(socket: TestSocket): void {
  connectionOf(socket).pause()
}

/** The server's end of what was opened last, and the most that ever waited there. */
function watchEnd(bench: SocketBench): { end: Socket; most: () => number; waits: Promise<void> } {
  const end = bench.ends.at(-1)
  if (end === undefined) throw new Error('no connection')
  let most = 0
  const waits = Promise.withResolvers<undefined>()
  const look = setInterval(() => {
    most = Math.max(most, end.writableLength)
    if (end.writableLength > bufferedBytesMax / 2) waits.resolve(undefined)
    if (end.destroyed) clearInterval(look)
  }, 1)
  return { end, most: () => most, waits: waits.promise }
}

describe('a client that stops reading', () => {
  it(
    'costs 64 KiB and a frame, and gets everything in order when it reads again',
    { timeout: 60_000 },
    async () => {
      const bench = await startSockets({ transactions: database })
      const ann = someone()
      const socket = await bench.open(ann)
      await socket.live()
      const { most, waits } = watchEnd(bench)
      stop(socket)
      const rows = 1_200
      const filling = fill(bench, ann, rows)
      await Promise.all([waits, filling])
      expect(socket.applied.length).toBeLessThan(rows)
      connectionOf(socket).resume()
      await expect.poll(() => socket.applied.length, { timeout: 30_000 }).toBe(rows)
      expect(socket.applied).toEqual(Array.from({ length: rows }, (_, n) => n + 1))
      expect([socket.gaps, socket.repeated]).toEqual([0, 0])
      expect(most()).toBeGreaterThan(bufferedBytesMax / 2)
      expect(most()).toBeLessThanOrEqual(bufferedBytesMax + frameBytesMax)
    },
  )

  it('is not told what is volatile meanwhile, and others are', { timeout: 60_000 }, async () => {
    const bench = await startSockets({ transactions: database })
    const [ann, bob] = [someone(), someone()]
    const other = await bench.open(bob)
    await other.live()
    const socket = await bench.open(ann)
    await socket.live()
    const { end, waits } = watchEnd(bench)
    stop(socket)
    await Promise.all([waits, fill(bench, ann, 1_200)])
    await expect.poll(() => end.writableLength).toBeGreaterThan(bufferedBytesMax)
    const before = end.writableLength
    bench.rooms.emit({ all: true }, 'noise', { text: 'x'.repeat(10_000) })
    await other.until((frame) => frame.op === 'event' && frame.type === 'noise')
    expect(end.writableLength).toBe(before)
    connectionOf(socket).resume()
    await expect.poll(() => socket.applied.length, { timeout: 30_000 }).toBe(1_200)
    expect(socket.frames.some((frame) => frame.op === 'event' && frame.type === 'noise')).toBe(false)
    bench.rooms.emit({ all: true }, 'again', {})
    await socket.until((frame) => frame.op === 'event' && frame.type === 'again')
  })

  it(
    'and takes nothing for 30 s ends with 4008; the rest waits in its inbox',
    { timeout: 60_000 },
    async () => {
      const bench = await startSockets({ transactions: database })
      const ann = someone()
      const socket = await bench.open(ann, { ack: false })
      await socket.live()
      const { waits } = watchEnd(bench)
      stop(socket)
      await Promise.all([waits, fill(bench, ann, 1_200)])
      // What waits for it says that it does not read, not that it is dead: a heartbeat would only wait there too.
      bench.beat()
      bench.pass(1)
      bench.pass(29_000)
      expect(bench.hub.viewers()).toBe(1)
      bench.pass(2_000)
      expect(bench.hub.viewers()).toBe(0)
      connectionOf(socket).resume()
      expect(await socket.closed).toEqual({ code: 4008, reason: 'slow' })
      const again = await bench.open(ann, { from: socket })
      await again.live()
      expect([...socket.applied, ...again.applied]).toEqual(Array.from({ length: 1_200 }, (_, n) => n + 1))
    },
  )

  it('but takes a little every now and then is not given up', { timeout: 60_000 }, async () => {
    const bench = await startSockets({ transactions: database })
    const ann = someone()
    const socket = await bench.open(ann)
    await socket.live()
    const { end, waits } = watchEnd(bench)
    stop(socket)
    await Promise.all([waits, fill(bench, ann, 1_200)])
    for (let n = 0; n < 4; n++) {
      bench.pass(1)
      bench.pass(25_000)
      const taken = end.bytesWritten
      connectionOf(socket).resume()
      await expect.poll(() => end.bytesWritten, { timeout: 10_000, interval: 1 }).toBeGreaterThan(taken)
      stop(socket)
    }
    expect(bench.hub.viewers()).toBe(1)
  })

  it('and asks a lot is answered as it takes the answers: what it asks waits too', async () => {
    const page = { notifications: [], text: 'x'.repeat(400_000) }
    let listed = 0
    const bench = await startSockets({
      transactions: database,
      inbox: {
        list() {
          listed++
          return Promise.resolve(page)
        },
      },
    })
    const other = await bench.open(someone())
    const socket = await bench.open(someone())
    await Promise.all([socket.live(), other.live()])
    const { end, most } = watchEnd(bench)
    stop(socket)
    for (let n = 0; n < 39; n++) socket.send({ op: 'list', rid: n })
    await expect.poll(() => end.writableLength, { timeout: 10_000 }).toBeGreaterThan(bufferedBytesMax)
    const begun = listed
    for (let n = 0; n < 5; n++) await other.ask({ op: 'ping' })
    expect(listed).toBe(begun)
    expect(most()).toBeLessThan(500_000)
    connectionOf(socket).resume()
    await expect
      .poll(() => socket.frames.filter(({ op }) => op === 'ok').length, { timeout: 10_000 })
      .toBe(39)
  })

  it(
    'ends with 4008 at once where an answer makes it more than a MiB that waits',
    { timeout: 60_000 },
    async () => {
      const asked = Promise.withResolvers<undefined>()
      const answer = Promise.withResolvers<object>()
      const bench = await startSockets({
        transactions: database,
        inbox: {
          list() {
            asked.resolve(undefined)
            return answer.promise
          },
        },
      })
      const ann = someone()
      const socket = await bench.open(ann)
      await socket.live()
      const { end, waits } = watchEnd(bench)
      socket.send({ op: 'list' })
      await asked.promise
      stop(socket)
      await Promise.all([waits, fill(bench, ann, 1_200)])
      await expect.poll(() => end.writableLength).toBeGreaterThan(bufferedBytesMax)
      answer.resolve({ text: 'x'.repeat(1024 * 1024) })
      await expect.poll(() => bench.hub.viewers()).toBe(0)
      connectionOf(socket).resume()
      expect(await socket.closed).toEqual({ code: 4008, reason: 'slow' })
    },
  )
})

describe('a hundred clients that stop', () => {
  it('cost 64 KiB and a frame each, and nobody else waits for them', { timeout: 120_000 }, async () => {
    const bench = await startSockets({ transactions: database, userSocketsMax: 100 })
    const [ann, bob] = [someone(), someone()]
    const other = await bench.open(bob)
    await other.live()
    const stopped: TestSocket[] = []
    for (let n = 0; n < 100; n++) stopped.push(await bench.open(ann, { ack: false }))
    await Promise.all(stopped.map((socket) => socket.live()))
    const ends = bench.ends.slice(1)
    stopped.forEach(stop)
    await fill(bench, ann, 700)
    await expect
      .poll(() => ends.filter(({ writableLength }) => writableLength > 0).length, { timeout: 60_000 })
      .toBe(100)
    for (const { writableLength } of ends)
      expect(writableLength).toBeLessThanOrEqual(bufferedBytesMax + frameBytesMax)
    const tookMs: number[] = []
    for (let n = 0; n < 20; n++) {
      const startedAtMs = performance.now()
      await bench.publish(bob, [`for bob ${n}`])
      await other.until((frame) => frame.op === 'event' && frame.data['title'] === `for bob ${n}`)
      tookMs.push(performance.now() - startedAtMs)
    }
    // Loose, since machines are busy: a viewer that waited for one of them would wait for ever.
    expect(Math.max(...tookMs)).toBeLessThan(2_000)
    bench.pass(1)
    await other.ask({ op: 'ping' })
    bench.pass(31_000)
    // They do not even read that they are closed: cut, a few seconds later.
    await expect.poll(() => bench.sockets.count(), { timeout: 20_000 }).toBe(1)
  })
})
