/** The inbox as an event stream: the same frames as on a socket, and no more of them waiting than a page. */
import { randomUUID } from 'node:crypto'
import { expect, it, onTestFinished } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { serverFrameSchema, type ServerFrame } from '../../src/realtime/protocol.ts'
import { createInboxStream } from '../../src/realtime/stream.ts'
import type { Cursor } from '../../src/notifications/log.ts'
import { ownDatabase } from '../support/own-database.ts'
import { startSockets, type SocketBench } from '../support/sockets.ts'

let database: Database
ownDatabase(4, (own) => ({ database } = own))

const someone = () => `ann-${randomUUID()}`

/** As a response reads it, when a test says so. */
function open(
  { hub }: SocketBench,
  userId: string,
  options: { since?: Cursor; validUntil?: number; reads?: boolean } = {},
) {
  const source = createInboxStream(
    hub,
    { userId, validUntil: options.validUntil ?? Date.now() + 60_000 },
    options.since,
  )
  const taken: { frame: string; last: boolean }[] = []
  let woken = 0
  const read = () => {
    for (let next = source.next(); next !== undefined; next = source.next()) taken.push(next)
  }
  const close = source.watch(() => {
    woken++
    if (options.reads !== false) read()
  })
  onTestFinished(close)
  const parsed = () =>
    taken
      .filter(({ last }) => !last)
      .map(({ frame }) => {
        const [, id = '', data = ''] = /^id: (\S+)\ndata: (.*)\n\n$/.exec(frame) ?? []
        return { id, data: serverFrameSchema.parse(JSON.parse(data)) }
      })
  const titles = () =>
    parsed().flatMap(({ data }) => (data.op === 'event' ? [String(data.data['title'])] : []))
  return { taken, parsed, titles, read, close, woken: () => woken }
}

it('greets, replays and is live with the frames of a socket, each with its place as id', async () => {
  const bench = await startSockets({ transactions: database })
  const ann = someone()
  const { epoch } = await bench.publish(ann, ['a', 'b', 'c'])
  const socket = await bench.open(ann, { cursor: `${epoch}.1` })
  const stream = open(bench, ann, { since: { epoch, seq: 1 } })
  await socket.live()
  await expect.poll(() => stream.parsed().length).toBe(4)
  await bench.publish(ann, ['d'])
  await socket.until((frame) => frame.op === 'event' && frame.seq === 4)
  await expect.poll(() => stream.parsed().length).toBe(5)
  expect(stream.parsed().map(({ data }) => data)).toEqual(socket.frames)
  expect(stream.parsed().map(({ id }) => id)).toEqual([1, 2, 3, 3, 4].map((seq) => `${epoch}.${seq}`))
})

it('goes on behind the last id exactly, however often it is cut', async () => {
  const bench = await startSockets({ transactions: database })
  const ann = someone()
  const { epoch } = await bench.publish(ann, ['0'])
  let since: Cursor = { epoch, seq: 0 }
  const all: string[] = []
  for (let n = 1; n <= 6; n++) {
    const stream = open(bench, ann, { since })
    const publishing = bench.publish(ann, [`${n}`])
    await expect.poll(() => stream.parsed().some(({ data }) => data.op === 'live')).toBe(true)
    stream.close()
    await publishing
    all.push(...stream.titles())
    const [, seq] = (stream.parsed().at(-1)?.id ?? '').split('.')
    since = { epoch, seq: Number(seq) }
  }
  const stream = open(bench, ann, { since })
  await expect.poll(() => stream.parsed().some(({ data }) => data.op === 'live')).toBe(true)
  all.push(...stream.titles())
  expect(all).toEqual(['0', '1', '2', '3', '4', '5', '6'])
})

it('keeps no more than 64 Ki characters and a frame for a response that reads nothing; it goes on when it reads', async () => {
  const bench = await startSockets({ transactions: database })
  const ann = someone()
  const { epoch } = await bench.publish(ann, ['first'])
  const stream = open(bench, ann, { since: { epoch, seq: 0 }, reads: false })
  await expect.poll(() => stream.woken()).toBeGreaterThan(1)
  const big = { data: { text: 'x'.repeat(10_000) } }
  await bench.publish(
    ann,
    Array.from({ length: 60 }, (_, n) => `${n}`),
    big,
  )
  bench.hub.sweep()
  await expect.poll(() => stream.woken()).toBeGreaterThan(7)
  const woken = stream.woken()
  for (let n = 0; n < 3; n++) await bench.publish(ann, [`more ${n}`])
  expect(stream.woken()).toBe(woken)
  stream.read()
  const chars = stream.taken.reduce((sum, { frame }) => sum + frame.length, 0)
  expect(chars).toBeLessThan(64 * 1024 + 12_000)
  await expect
    .poll(() => {
      stream.read()
      return stream.titles().length
    })
    .toBe(64)
  expect(stream.titles().slice(-3)).toEqual(['more 0', 'more 1', 'more 2'])
})

it('ends, with a last frame that is a comment, when its token does, its user is revoked, or the process stops', async () => {
  const bench = await startSockets({ transactions: database })
  const [expired, stopped] = [open(bench, someone(), { validUntil: Date.now() + 20 }), open(bench, someone())]
  await expect.poll(() => expired.taken.at(-1)).toEqual({ frame: ': expired\n\n', last: true })
  await expect.poll(() => stopped.parsed().length).toBe(2)
  for (const userId of [...bench.hub.users()])
    for (const viewer of [...bench.hub.viewersOf(userId)]) viewer.close('restart')
  expect(stopped.taken.at(-1)).toEqual({ frame: ': restart\n\n', last: true })
  expect(bench.hub.viewers()).toBe(0)
})

it('can be open beside sockets: they are not counted among them', async () => {
  const bench = await startSockets({ transactions: database, userSocketsMax: 1 })
  const ann = someone()
  const streams = [open(bench, ann), open(bench, ann)]
  const socket = await bench.open(ann)
  await socket.live()
  await bench.publish(ann, ['for all'])
  const isEvent = (frame: ServerFrame) => frame.op === 'event'
  await socket.until(isEvent)
  for (const stream of streams) await expect.poll(() => stream.titles()).toEqual(['for all'])
})
