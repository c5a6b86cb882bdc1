/** The relay: each event once where all is well, at least once where it is not, and nobody waits for who is away. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AppError } from '../../src/errors.ts'
import type { SendOutcome } from '../../src/outbox/relay.ts'
import { eventually } from '../support/jobs.ts'
import {
  scriptedSink,
  startOutboxBench,
  titlesOf,
  type OutboxBench,
  type ScriptedSink,
} from '../support/event-receiver.ts'

let bench: OutboxBench
let sink: ScriptedSink
beforeEach(async () => {
  bench = await startOutboxBench()
  sink = scriptedSink()
})
afterEach(() => bench.close())

const upTo = (count: number) => Array.from({ length: count }, (_, n) => String(n))
const countRows = async () => (await bench.rows()).length
const events = (name: string) => bench.logs.filter(({ event }) => event === name)
/** Rows for each of these sinks. */
const spread = (...sinks: string[]) =>
  bench.sql`
    insert into chat.outbox (id, sink, routing_key, user_id, payload)
    select gen_random_uuid(), s, 'chat.conversation_ready', 'ann', '{}' from unnest(${sinks}::text[]) as s`

describe('what is stored', () => {
  it('is sent in its order, over several batches, and deleted', async () => {
    await bench.add(700)
    await bench.add(1)
    const relay = bench.relay({ exchange: sink })
    await eventually(countRows).toBe(0)
    expect(titlesOf(sink.got)).toEqual([...upTo(700), '0'])
    expect(relay.stats()).toEqual({ sent: 701, unroutable: 0, refused: 0, failed: 0, expired: 0 })
  })

  it('is sent at once where the relay is woken, in few looks, however often', async () => {
    const relay = bench.relay({ exchange: sink }, { times: { pollMs: 600_000 } })
    for (let n = 0; n < 20; n++) {
      await bench.add(1)
      relay.wake()
      relay.wake('exchange')
    }
    await eventually(countRows).toBe(0)
    expect(sink.got).toHaveLength(20)
  })

  it('is found by another instance that nobody wakes', async () => {
    bench.relay({ exchange: sink })
    await bench.add(3)
    await eventually(() => titlesOf(sink.got)).toEqual(upTo(3))
  })

  it('is sent once each by two relays on one table', async () => {
    const [one, other] = [scriptedSink(), scriptedSink()]
    for (const each of [one, other])
      each.answer(() => new Promise((resolve) => void setImmediate(() => resolve('sent'))))
    const relays = [
      bench.relay({ exchange: one }),
      bench.relay({ exchange: other }, { transactions: await bench.open() }),
    ]
    for (let n = 0; n < 12; n++) {
      await bench.add(100)
      for (const relay of relays) relay.wake()
    }
    await eventually(countRows).toBe(0)
    const ids = [...one.got, ...other.got].map(({ id }) => id)
    expect([ids.length, new Set(ids).size]).toEqual([1_200, 1_200])
    expect(Math.min(one.got.length, other.got.length)).toBeGreaterThan(0)
  })

  it('is left alone while it is for nobody here', async () => {
    await spread('bridge', 'dead_letters')
    bench.relay({ exchange: sink })
    await bench.add(1)
    await eventually(countRows).toBe(2)
    expect(await bench.rows()).toMatchObject([{ attempts: 0 }, { attempts: 0 }])
  })

  it('is given up after a week, whoever it was for', async () => {
    await spread('bridge', 'exchange', 'bridge')
    await bench.sql`update chat.outbox set created_at = now() - interval '6 days 23 hours'`
    await bench.sql`
      update chat.outbox set created_at = now() - interval '7 days 1 minute'
      where id = (select id from chat.outbox where sink = 'bridge' limit 1)`
    sink.setUp(false)
    const relay = bench.relay({ exchange: sink }, { times: { forgetEveryMs: 20 } })
    await eventually(countRows).toBe(2)
    expect(relay.stats().expired).toBe(1)
    expect(events('outbox_expired')).toMatchObject([{ count: 1 }])
  })
})

describe('a receiver that is away', () => {
  it('holds nobody else up, is tried by one event at a time, and gets all when it is back', async () => {
    const bridge = scriptedSink({ atOnceMax: 8 })
    bridge.answer(() => Promise.reject(new Error('on purpose')))
    await bench.add(50)
    await spread(...upTo(50).map(() => 'bridge'))
    const relay = bench.relay({ exchange: sink, bridge })
    await eventually(() => sink.got.length).toBe(50)
    // Eight that were under way, and then one by one: those that were never begun were not tried.
    await eventually(() => bridge.got.length).toBeGreaterThan(11)
    const tried = async () => (await bench.rows()).filter(({ attempts }) => attempts > 0).length
    expect(await tried()).toBeLessThan(40)
    expect(events('outbox_sink_away')).toHaveLength(1)
    bridge.answer(() => Promise.resolve('sent'))
    await eventually(countRows).toBe(0)
    expect(relay.stats().sent).toBe(100)
    expect(relay.stats().failed).toBeGreaterThan(11)
    expect(events('outbox_sink_back')).toHaveLength(1)
    expect(JSON.stringify(bench.logs)).not.toContain('assessment_id')
  })

  it('is not tried at all while it says so, and no attempt is counted', async () => {
    sink.setUp(false)
    await bench.add(10)
    const relay = bench.relay({ exchange: sink })
    await spread('bridge')
    const bridge = scriptedSink()
    bench.relay({ bridge })
    await eventually(() => bridge.got.length).toBe(1)
    expect(sink.got).toEqual([])
    sink.setUp(true)
    relay.wake()
    await eventually(countRows).toBe(0)
    expect(sink.got).toHaveLength(10)
  })

  it('that takes some and not others gets the others again, later and later, and keeps no place of theirs', async () => {
    await bench.add(3)
    sink.answer(({ payload }) => {
      const { title } = payload['data'] as { title: string }
      return title === '0' ? Promise.reject(new Error('on purpose')) : Promise.resolve('sent')
    })
    bench.relay({ exchange: sink }, { times: { pollMs: 30, backoff: { firstMs: 60_000, maxMs: 60_000 } } })
    await eventually(async () => (await bench.rows()).map(({ leased }) => leased)).toEqual([null])
    expect(titlesOf(sink.got)).toEqual(upTo(3))
    const [row] = await bench.rows()
    expect(row?.attempts).toBe(1)
    expect(row?.due_ms).toBeGreaterThan(20_000)
    await bench.add(2)
    await eventually(() => sink.got.length).toBe(5)
  })

  it('does not begin more at once than it wants', async () => {
    const few = scriptedSink({ atOnceMax: 8 })
    let [running, most] = [0, 0]
    few.answer(async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => void setImmediate(resolve))
      running--
      return 'sent'
    })
    await bench.add(100)
    bench.relay({ exchange: few })
    await eventually(countRows).toBe(0)
    expect([most, titlesOf(few.got)]).toEqual([8, upTo(100)])
  })

  it('and never answers is given up on in time: its lease is still ours, and its events are tried again', async () => {
    sink.answer(() => new Promise(() => undefined))
    await bench.add(2)
    const relay = bench.relay({ exchange: sink }, { times: { pollMs: 30, sendingMaxMs: 60 } })
    await eventually(() => relay.stats().failed).toBe(2)
    await eventually(async () =>
      (await bench.rows()).map(({ leased, attempts }) => [leased, attempts]),
    ).toEqual([
      [null, 1],
      [null, 1],
    ])
  })
})

describe('an event', () => {
  it('that nobody has asked for is tried again for ten minutes, then given up, and told of once', async () => {
    sink.answer(() => Promise.resolve('unroutable'))
    await bench.add(3)
    const relay = bench.relay({ exchange: sink })
    await eventually(async () =>
      Math.min(...(await bench.rows()).map(({ attempts }) => attempts)),
    ).toBeGreaterThan(12)
    expect(await countRows()).toBe(3)
    await bench.sql`update chat.outbox set created_at = created_at - interval '10 minutes'`
    await eventually(countRows).toBe(0)
    expect(relay.stats()).toMatchObject({ sent: 0, unroutable: 3, failed: 0 })
    expect(events('outbox_unroutable')).toMatchObject([{ routingKey: 'chat.conversation_ready' }])
    expect(events('outbox_sink_away')).toEqual([])
  })

  it('that waited for its broker for long is not given up by the first "nobody"', async () => {
    await bench.add(1)
    await bench.sql`update chat.outbox set created_at = created_at - interval '1 hour'`
    const answers: SendOutcome[] = ['unroutable', 'unroutable', 'sent']
    sink.answer(() => Promise.resolve(answers.shift() ?? 'sent'))
    const relay = bench.relay({ exchange: sink })
    await eventually(() => relay.stats().sent).toBe(1)
  })

  it('that is refused is deleted, counted, and named in the log without what it says', async () => {
    await bench.add(2)
    sink.answer(({ payload }) => {
      const { title } = payload['data'] as { title: string }
      return Promise.resolve(title === '0' ? { refused: 'status_400' } : 'sent')
    })
    const relay = bench.relay({ exchange: sink })
    await eventually(countRows).toBe(0)
    expect(relay.stats()).toMatchObject({ sent: 1, refused: 1, failed: 0 })
    expect(events('outbox_refused')).toMatchObject([
      {
        sink: 'exchange',
        eventId: sink.got[0]?.id,
        routingKey: 'chat.conversation_ready',
        why: 'status_400',
      },
    ])
    expect(JSON.stringify(bench.logs)).not.toContain('assessment_id')
  })
})

describe('a database that is away', () => {
  it('is waited for with one line in the log, and what was sent meanwhile is not sent again', async () => {
    await bench.add(5)
    let isAway = false
    const { database } = bench
    const relay = bench.relay(
      { exchange: sink },
      {
        transactions: {
          asCaller: (caller, fn) => database.asCaller(caller, fn),
          asSystem: (why, fn) =>
            isAway ? Promise.reject(new AppError('database_unavailable')) : database.asSystem(why, fn),
        },
      },
    )
    sink.answer(() => {
      isAway = true
      return Promise.resolve('sent')
    })
    await eventually(() => events('outbox_waiting')).toHaveLength(1)
    await bench.add(5)
    for (let n = 0; n < 5; n++) {
      relay.wake()
      await delay(20)
    }
    expect(events('outbox_waiting')).toHaveLength(1)
    sink.answer(() => Promise.resolve('sent'))
    isAway = false
    await eventually(countRows).toBe(0)
    expect(sink.got).toHaveLength(10)
    expect(events('outbox_resumed')).toHaveLength(1)
  })

  it('is not asked before its tables may be reached', async () => {
    await bench.add(1)
    let isReady = false
    const { database } = bench
    let asked = 0
    bench.relay(
      { exchange: sink },
      {
        ready: () => isReady,
        transactions: {
          asCaller: (caller, fn) => database.asCaller(caller, fn),
          asSystem(why, fn) {
            asked++
            return database.asSystem(why, fn)
          },
        },
      },
    )
    await delay(300)
    expect([asked, sink.got.length]).toEqual([0, 0])
    isReady = true
    await eventually(() => sink.got.length).toBe(1)
  })
})

describe('an end', () => {
  it('deletes what was confirmed, gives back what was not begun, and leaves what is in doubt to its lease', async () => {
    const few = scriptedSink({ atOnceMax: 2 })
    await bench.add(4)
    few.answer(({ payload }) => {
      const { title } = payload['data'] as { title: string }
      return title === '0' ? Promise.resolve('sent') : new Promise(() => undefined)
    })
    const relay = bench.relay({ exchange: few })
    // 0 is sent; 1 and 2 are under way; 3 waits.
    await eventually(() => few.got.length).toBe(3)
    const startedAt = performance.now()
    await relay.close()
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    const rows = await bench.rows()
    expect(rows.map(({ payload, leased, attempts }) => [payload.data?.['title'], leased, attempts])).toEqual([
      ['1', true, 1],
      ['2', true, 1],
      ['3', null, 0],
    ])
  })

  it('takes less than two seconds while the database does not answer', async () => {
    const { database } = bench
    const relay = bench.relay(
      { exchange: sink },
      {
        transactions: {
          asCaller: (caller, fn) => database.asCaller(caller, fn),
          asSystem: () => new Promise(() => undefined),
        },
      },
    )
    await delay(100)
    const startedAt = performance.now()
    await relay.close()
    expect(performance.now() - startedAt).toBeLessThan(2_000)
  })
})
