/** The client of the socket, rule by rule, against a server that is only the wire. Its clock and its chance are ours. */
import { globSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { RealtimeOptions } from '../../src/playground/client/realtime.ts'
import { createRows } from '../../src/playground/client/rows.ts'
import { hello, notificationOf, row, startTrial, type Trial, type Visit } from './scripted.ts'

const live = (seq: number) => ({ op: 'live', seq }) as const
const heartbeat = (head: number) => ({ op: 'heartbeat', head }) as const
const seqsOf = (trial: Trial) => trial.applied.map(({ seq }) => seq)
const isAckOf = (seq: number) => (frame: { op: string }) =>
  frame.op === 'ack' && 'seq' in frame && frame.seq === seq

/** A client that is live behind 10, and what its server sees. */
async function goneLive(
  options: Parameters<typeof startTrial>[0] = {},
): Promise<{ trial: Trial; visit: Visit }> {
  const trial = await startTrial({ stored: 'k1.10', ...options })
  const visit = await trial.script.next()
  visit.say(hello('resume'), live(10))
  await trial.state('live')
  return { trial, visit }
}

/** Waits until the client has read everything that was said so far. */
async function hasRead(trial: Trial, visit: Visit): Promise<void> {
  const mark = `mark-${trial.volatile.length}`
  visit.say({ op: 'event', type: mark, data: {} })
  await trial.until(() => trial.volatile.find(({ type }) => type === mark))
}

describe('connecting', () => {
  it('offers the subprotocol, and brings its ticket and the stored cursor', async () => {
    const trial = await startTrial({ stored: 'k1.10' })
    const { address, protocol } = await trial.script.next()
    expect(protocol).toBe('rivulet.v1')
    expect([...address.searchParams]).toEqual([
      ['ticket', 't'],
      ['cursor', 'k1.10'],
    ])
  })

  it.each([null, '', 'nonsense', 'k1.', 'k1.1e3'])('brings no cursor where %j is stored', async (stored) => {
    const trial = await startTrial({ stored })
    const { address } = await trial.script.next()
    expect(address.searchParams.get('cursor')).toBe(null)
  })

  it('works with the WebSocket that Node brings along', async () => {
    const own: RealtimeOptions['WebSocket'] = WebSocket
    const { trial, visit } = await goneLive({ WebSocket: own })
    visit.say(row(11, 10))
    await trial.until(() => trial.applied[0])
    visit.socket.close(4504)
    expect(await trial.state('stopped')).toEqual({ kind: 'stopped', why: 'closed with 4504' })
  })
})

describe('applying', () => {
  it('applies what is behind the cursor in its order, and stores the cursor after each', async () => {
    const trial = await startTrial({ stored: 'k1.10' })
    const visit = await trial.script.next()
    visit.say(hello('resume', { head: 13 }), row(11, 10), row(13, 11), live(13))
    await trial.state('live')
    expect(seqsOf(trial)).toEqual([11, 13])
    expect(trial.kept).toEqual(['k1.11', 'k1.13', 'k1.13'])
  })

  it('applies nothing twice', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(11, 10), row(11, 10), row(9, 8), row(12, 11))
    await hasRead(trial, visit)
    expect(seqsOf(trial)).toEqual([11, 12])
  })

  it('tells what was replayed from what is new', async () => {
    const trial = await startTrial({ stored: 'k1.10' })
    const visit = await trial.script.next()
    visit.say(hello('resume', { head: 11 }), row(11, 10), live(11), row(12, 11))
    await trial.until(() => trial.applied[1])
    expect(trial.applied.map(({ replayed }) => replayed)).toEqual([true, false])
  })

  it('stands where `live` says, whether or not there were rows', async () => {
    const { trial, visit } = await goneLive()
    visit.say(live(20))
    await trial.until(() => trial.kept.find((cursor) => cursor === 'k1.20'))
    visit.say(row(20, 19), row(21, 20))
    await hasRead(trial, visit)
    expect(seqsOf(trial)).toEqual([21])
  })

  it('does not pass an event that could not be applied: it comes again', async () => {
    let broken = true
    const trial = await startTrial({
      stored: 'k1.10',
      apply() {
        if (broken) throw new Error('the list is gone')
      },
    })
    const first = await trial.script.next()
    first.say(hello('resume', { head: 11 }), row(11, 10), live(11))
    const { delayMs } = await trial.state('waiting')
    expect([trial.kept, trial.client.cursor(), trial.failures.length]).toEqual([[], 'k1.10', 1])
    broken = false
    trial.clock.advance(delayMs)
    const second = await trial.script.next()
    expect(second.address.searchParams.get('cursor')).toBe('k1.10')
    second.say(hello('resume', { head: 11 }), row(11, 10), live(11))
    await trial.state('live')
    expect(seqsOf(trial)).toEqual([11])
  })

  it('goes on where the cursor cannot be stored', async () => {
    const { trial, visit } = await goneLive({
      save() {
        throw new Error('the disk is full')
      },
    })
    visit.say(row(11, 10), row(12, 11))
    await trial.until(() => trial.applied[1])
    expect(trial.client.cursor()).toBe('k1.12')
  })

  it('keeps the badge as the last frame that had one says', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(11, 10, { unread: 8 }), row(12, 11, { unread: 7 }))
    await trial.until(() => trial.applied[1])
    expect(trial.unread).toEqual([0, 8, 7])
  })

  it('hands on what is volatile, and does not move for it', async () => {
    const { trial, visit } = await goneLive()
    const typing = { op: 'event', type: 'typing', room: 'team:design', data: { user_id: 'ben' } } as const
    visit.say(typing)
    await trial.until(() => trial.volatile[0])
    expect([trial.volatile, trial.client.cursor()]).toEqual([[typing], 'k1.10'])
  })

  it('passes over what it does not understand', async () => {
    const { trial, visit } = await goneLive()
    visit.say('', '{', 'null', '[]', '{"op":"later_version"}', row(11, 10))
    await trial.until(() => trial.applied[0])
    expect(trial.states.map(({ kind }) => kind)).toEqual(['connecting', 'replaying', 'live'])
  })
})

describe('a gap', () => {
  it('found by an event is not applied over, but asked for', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(13, 12))
    const sync = await visit.heard(({ op }) => op === 'sync')
    expect([sync, trial.applied]).toEqual([{ op: 'sync', seq: 10, rid: expect.any(Number) as number }, []])
    visit.say(okOf(sync), row(12, 10), row(13, 12), live(13), row(14, 13))
    await trial.until(() => trial.applied[2])
    expect(seqsOf(trial)).toEqual([12, 13, 14])
  })

  it('found by a heartbeat is asked for, and the heartbeat is answered', async () => {
    const { visit } = await goneLive()
    visit.say(heartbeat(12))
    await visit.heard(isAckOf(10))
    expect(visit.frames.map(({ op }) => op)).toEqual(['sync', 'ack'])
  })

  it('is none before the replay is done', async () => {
    const trial = await startTrial({ stored: 'k1.10' })
    const visit = await trial.script.next()
    visit.say(hello('resume', { head: 99 }), heartbeat(99))
    await visit.heard(isAckOf(10))
    expect(visit.frames.map(({ op }) => op)).toEqual(['ack'])
  })

  it('is asked for once, and not over when a `live` comes that was said before', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(13, 12))
    const sync = await visit.heard(({ op }) => op === 'sync')
    visit.say(row(14, 13), live(14))
    await hasRead(trial, visit)
    expect([trial.client.cursor(), trial.applied]).toEqual(['k1.10', []])
    visit.say(okOf(sync), row(12, 10), row(13, 12), row(14, 13), live(14))
    await trial.until(() => trial.applied[2])
    expect(visit.frames.filter(({ op }) => op === 'sync').length).toBe(1)
  })

  it('that stays is left by another connection', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(13, 12))
    const sync = await visit.heard(({ op }) => op === 'sync')
    visit.say(okOf(sync), live(10), row(13, 12))
    expect((await trial.state('waiting')).why).toBe('a gap that stays')
    expect(trial.client.cursor()).toBe('k1.10')
  })
})

describe('reading the list again', () => {
  it.each(['fresh', 'reset'] as const)('is asked for on `%s`, which stands at the head', async (mode) => {
    const trial = await startTrial({ stored: 'k0.3' })
    const visit = await trial.script.next()
    visit.say(hello(mode, { head: 40 }), live(40), row(41, 40))
    await trial.until(() => trial.applied[0])
    expect([trial.reloads, trial.client.cursor()]).toEqual([[mode], 'k1.41'])
  })

  it('stores no cursor and acknowledges nothing before it is there', async () => {
    const list = Promise.withResolvers<undefined>()
    const trial = await startTrial({ stored: 'k0.3', reload: () => list.promise })
    const visit = await trial.script.next()
    visit.say(hello('reset'), live(10), row(11, 10), heartbeat(11))
    expect(await visit.heard(({ op }) => op === 'ack')).toEqual({ op: 'ack', seq: 0 })
    expect([seqsOf(trial), trial.kept]).toEqual([[11], [null]])
    list.resolve(undefined)
    await trial.until(() => trial.kept[1])
    expect(trial.kept).toEqual([null, 'k1.11'])
  })

  it('is done again, without a cursor, where it failed', async () => {
    let away = true
    const trial = await startTrial({
      reload: () => (away ? Promise.reject(new Error('the list is away')) : Promise.resolve()),
    })
    const first = await trial.script.next()
    first.say(hello('fresh'), live(10))
    const { delayMs } = await trial.state('waiting')
    away = false
    trial.clock.advance(delayMs)
    const second = await trial.script.next()
    expect(second.address.searchParams.get('cursor')).toBe(null)
    second.say(hello('fresh'), live(10))
    await trial.until(() => trial.kept.find((cursor) => cursor === 'k1.10'))
    expect([trial.reloads, trial.failures.length]).toEqual([['fresh', 'fresh'], 1])
  })

  it('is done again where the connection was cut meanwhile, and its late end counts for nothing', async () => {
    const lists = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
    let nth = 0
    const trial = await startTrial({ reload: () => lists[nth++]?.promise ?? Promise.resolve() })
    const first = await trial.script.next()
    first.say(hello('fresh'), live(10))
    await trial.state('live')
    trial.client.drop()
    trial.clock.advance(1_000)
    const second = await trial.script.next()
    expect(second.address.searchParams.get('cursor')).toBe(null)
    second.say(hello('fresh', { head: 12 }), live(12))
    await trial.until(() => trial.reloads[1])
    lists[0]?.resolve(undefined)
    await hasRead(trial, second)
    expect(trial.kept).toEqual([null, null])
    lists[1]?.resolve(undefined)
    await trial.until(() => trial.kept.find((cursor) => cursor !== null))
    expect(trial.kept.at(-1)).toBe('k1.12')
  })
})

describe('acknowledging', () => {
  it('says once in a second how far it is', async () => {
    const { trial, visit } = await goneLive()
    trial.clock.advance(1_000)
    await visit.heard(isAckOf(10))
    visit.say(row(11, 10), row(12, 11), row(13, 12))
    await trial.until(() => trial.applied[2])
    trial.clock.advance(999)
    await hasRead(trial, visit)
    expect(visit.frames.length).toBe(1)
    trial.clock.advance(1)
    await visit.heard(isAckOf(13))
    expect(visit.frames.length).toBe(2)
  })

  it('answers a heartbeat at once, which takes the place of the next', async () => {
    const { trial, visit } = await goneLive()
    visit.say(row(11, 10), heartbeat(11))
    await visit.heard(isAckOf(11))
    trial.clock.advance(5_000)
    expect(visit.frames).toEqual([{ op: 'ack', seq: 11 }])
  })
})

describe('coming back', () => {
  it('waits in a window that doubles from 0.5 s to 30 s', async () => {
    const trial = await startTrial({ ticket: () => Promise.reject(new Error('no network')) })
    const delays: number[] = []
    for (let nth = 0; nth < 9; nth++) {
      const { delayMs } = await trial.until(() =>
        trial.states.filter((state) => state.kind === 'waiting').at(nth),
      )
      delays.push(delayMs)
      trial.clock.advance(delayMs)
    }
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
  })

  it.each([0, 0.25, 0.999])(
    'waits anything from nothing to the whole window (chance: %d)',
    async (chance) => {
      const { trial, visit } = await goneLive({ random: () => chance })
      visit.socket.terminate()
      expect((await trial.state('waiting')).delayMs).toBe(500 * chance)
    },
  )

  it('waits longer after a connection that did not last, and not after one that did', async () => {
    const { trial, visit } = await goneLive()
    visit.socket.terminate()
    expect((await trial.state('waiting')).delayMs).toBe(500)
    trial.clock.advance(500)
    const second = await trial.script.next()
    second.say(hello('resume'), live(10))
    await trial.state('live')
    second.socket.terminate()
    expect((await trial.state('waiting')).delayMs).toBe(1_000)
    trial.clock.advance(1_000)
    const third = await trial.script.next()
    third.say(hello('resume'), live(10))
    await trial.state('live')
    trial.clock.advance(10_000)
    third.socket.terminate()
    expect((await trial.state('waiting')).delayMs).toBe(500)
  })

  it.each([1000, 1001, 1011, 1012, 4001, 4008, 4010, 4012, 4013, 4499])(
    'comes back after %i, from its cursor',
    async (code) => {
      const { trial, visit } = await goneLive()
      visit.say(row(11, 10))
      await trial.until(() => trial.applied[0])
      visit.socket.close(code)
      trial.clock.advance((await trial.state('waiting')).delayMs)
      const { address } = await trial.script.next()
      expect(address.searchParams.get('cursor')).toBe('k1.11')
    },
  )

  it.each([4500, 4501, 4503, 4504, 4505, 4999, 1007, 1009])('%i is final', async (code) => {
    const { trial, visit } = await goneLive()
    visit.socket.close(code)
    expect(await trial.state('stopped')).toEqual({ kind: 'stopped', why: `closed with ${code}` })
    expect([trial.tickets.length, trial.clock.pending()]).toEqual([1, []])
  })

  it('asks for a ticket each time, after 4001 with a new token', async () => {
    const { trial, visit } = await goneLive()
    visit.socket.close(4001)
    trial.clock.advance((await trial.state('waiting')).delayMs)
    const second = await trial.script.next()
    second.say(hello('resume'))
    await trial.state('replaying')
    second.socket.close(1012)
    trial.clock.advance((await trial.state('waiting')).delayMs)
    await trial.script.next()
    expect(trial.tickets).toEqual([false, true, false])
  })

  it('stops where the ticket is refused', async () => {
    const trial = await startTrial({ ticket: () => Promise.resolve({ refused: 'unauthorized' }) })
    expect(await trial.state('stopped')).toEqual({ kind: 'stopped', why: 'unauthorized' })
    expect(trial.clock.pending()).toEqual([])
  })

  it('waits at least as long as the ticket’s answer says', async () => {
    const trial = await startTrial({ ticket: () => Promise.resolve({ retryAfterMs: 7_000 }) })
    expect((await trial.state('waiting')).delayMs).toBe(7_500)
  })

  it('takes a server that is silent longer than its heartbeat for dead', async () => {
    const { trial, visit } = await goneLive()
    trial.clock.advance(34_999)
    await hasRead(trial, visit)
    trial.clock.advance(34_999)
    expect(trial.client.state().kind).toBe('live')
    trial.clock.advance(1)
    expect(await trial.state('waiting')).toMatchObject({ why: 'silence' })
    await visit.closed
  })

  it('takes a server that never says hello for dead', async () => {
    const trial = await startTrial()
    await trial.script.next()
    trial.clock.advance(15_000)
    expect(await trial.state('waiting')).toMatchObject({ why: 'silence' })
  })

  it('does not try while there is no network, and at once when there is again', async () => {
    const { trial, visit } = await goneLive()
    trial.network.change(false)
    await visit.closed
    expect([trial.client.state(), trial.clock.pending()]).toEqual([{ kind: 'offline' }, []])
    trial.network.change(true)
    const again = await trial.script.next()
    expect(again.address.searchParams.get('cursor')).toBe('k1.10')
  })

  it('does not wait any longer when the network comes back', async () => {
    const { trial, visit } = await goneLive()
    visit.socket.terminate()
    await trial.state('waiting')
    trial.network.change(true)
    await trial.script.next()
    expect(trial.tickets.length).toBe(2)
  })

  it('listens to nothing any more once it is stopped, until it is started again', async () => {
    const { trial, visit } = await goneLive()
    trial.client.stop()
    visit.say(row(11, 10))
    await visit.closed
    trial.network.change(true)
    expect([trial.applied, trial.clock.pending(), trial.script.visits()]).toEqual([[], [], 1])
    trial.client.start()
    expect((await trial.script.next()).address.searchParams.get('cursor')).toBe('k1.10')
  })
})

describe('asking', () => {
  it('gets the answer with its own rid, in whatever order they come', async () => {
    const { trial, visit } = await goneLive()
    const pinged = trial.client.ask({ op: 'ping' })
    const listed = trial.client.ask({ op: 'list', status: 'unread' })
    const list = await visit.heard(({ op }) => op === 'list')
    const [ping] = visit.frames
    visit.say({ op: 'error', rid: ridOf(list), code: 'forbidden', message: 'no' }, okOf(ping))
    expect([await pinged, await listed]).toMatchObject([{ op: 'ok' }, { op: 'error', code: 'forbidden' }])
  })

  it('has an answer too where the connection is cut, or there is none', async () => {
    const { trial, visit } = await goneLive()
    const asked = trial.client.ask({ op: 'ping' })
    await visit.heard(({ op }) => op === 'ping')
    visit.socket.terminate()
    expect(await asked).toMatchObject({ op: 'error', code: 'not_connected' })
    expect(await trial.client.ask({ op: 'ping' })).toMatchObject({ op: 'error', code: 'not_connected' })
  })

  it('asks at most 64 questions at once', async () => {
    const { trial } = await goneLive()
    for (let nth = 0; nth < 64; nth++) void trial.client.ask({ op: 'ping' })
    expect(await trial.client.ask({ op: 'ping' })).toMatchObject({ code: 'not_connected' })
  })

  it('joins its rooms again, 75 ms apart, but not those that it left or that refused it', async () => {
    const { trial, visit } = await goneLive()
    const rooms = ['team:a', 'team:b', 'team:c', 'team:d']
    for (const room of rooms) {
      const joined = trial.client.join(room)
      const frame = await visit.heard((heard) => heard.op === 'join' && heard.room === room)
      visit.say(
        room === 'team:b'
          ? { op: 'error', rid: ridOf(frame), code: 'forbidden', message: 'no' }
          : okOf(frame),
      )
      await joined
    }
    void trial.client.leave('team:c')
    trial.client.drop()
    trial.clock.advance(500)
    const again = await trial.script.next()
    again.say(hello('resume'))
    await again.heard(({ op }) => op === 'join')
    trial.clock.advance(74)
    await hasRead(trial, again)
    expect(again.frames).toMatchObject([{ op: 'join', room: 'team:a' }])
    trial.clock.advance(1)
    await again.heard((frame) => frame.op === 'join' && frame.room === 'team:d')
    expect(again.frames.length).toBe(2)
  })
})

describe('the list', () => {
  const id = '0193c1a4-52b7-7e0a-8d3c-000000000001'

  it('keeps the higher seq of an id, whatever comes first', () => {
    const rows = createRows()
    expect([4, 6, 5, 6].map((seq) => rows.put(notificationOf(id, seq)))).toEqual([true, true, false, false])
    expect(rows.shown().map(({ seq }) => seq)).toEqual([6])
  })

  it('does not show what is archived or has expired, and does not take it back from an older page', () => {
    const rows = createRows()
    rows.put(notificationOf(id, 5, { removed: true }))
    rows.put(notificationOf(id, 4))
    rows.put(notificationOf(id.replace(/1$/, '2'), 6, { archived_at: '2026-03-01T09:00:00.000Z' }))
    expect(rows.shown()).toEqual([])
  })

  it('is shown with the newest first', () => {
    const rows = createRows()
    for (const seq of [2, 9, 5]) rows.put(notificationOf(id.replace(/1$/, String(seq)), seq))
    expect(rows.shown().map(({ seq }) => seq)).toEqual([9, 5, 2])
    rows.clear()
    expect(rows.shown()).toEqual([])
  })
})

it('is taken by a browser as it is: its types can be erased, and it imports its neighbours alone', () => {
  const folder = join(import.meta.dirname, '../../src/playground/client')
  for (const file of globSync('*.ts', { cwd: folder })) {
    const script = stripTypeScriptTypes(readFileSync(join(folder, file), 'utf8'))
    const imported = [...script.matchAll(/\bfrom '([^']+)'/g)].map(([, target]) => target)
    expect(imported.filter((target) => target?.startsWith('./') !== true)).toEqual([])
    expect(script).not.toMatch(/\b(process|Buffer|require)\b/)
  }
})

const ridOf = (frame: object | undefined): number =>
  frame !== undefined && 'rid' in frame ? Number(frame.rid) : Number.NaN
const okOf = (frame: object | undefined) => ({ op: 'ok', rid: ridOf(frame) }) as const
