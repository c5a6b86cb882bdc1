/** Adding jobs: with a transaction or not at all, once for each thing, and done in the order of their time. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import { enqueue, type NewJob } from '../../src/jobs/jobs.ts'
import { eventually, handler, startBench, type Bench } from '../support/jobs.ts'

let bench: Bench
beforeEach(async () => {
  bench = await startBench()
})
afterEach(() => bench.close())

const job = (key: string, more: Partial<NewJob> = {}): NewJob => ({
  kind: 'k',
  key,
  userId: 'ann',
  payload: { key },
  ...more,
})
const keys = async () => (await bench.rows()).map(({ key }) => key)

describe('a transaction that adds a job', () => {
  it('adds it where it is committed, and not where it is rolled back', async () => {
    await bench.database.asCaller({ userId: 'ann' }, (tx) => tx.commit(() => enqueue(tx, job('kept'))))
    await expect(
      bench.database.asCaller({ userId: 'ann' }, async (tx) => {
        await enqueue(tx, job('thrown'))
        throw new Error('on purpose')
      }),
    ).rejects.toThrow('on purpose')
    await expect(
      bench.database.asCaller({ userId: 'ann' }, (tx) =>
        tx.commit(() => Promise.all([enqueue(tx, job('failed')), tx.execute(sql`select 1 / 0`)])),
      ),
    ).rejects.toMatchObject({ code: '22012' })
    expect(await keys()).toEqual(['kept'])
  })

  it('cannot add one in another’s name, and nothing else of it is stored then', async () => {
    await expect(
      bench.database.asCaller({ userId: 'ann' }, (tx) =>
        tx.commit(() =>
          Promise.all([enqueue(tx, job('own')), enqueue(tx, job('forged', { userId: 'bob' }))]),
        ),
      ),
    ).rejects.toMatchObject({ code: '42501' })
    expect(await keys()).toEqual([])
  })

  it('that commits while the worker looks is found: nothing is lost in between', async () => {
    const done: unknown[] = []
    bench.worker({
      k: handler(({ payload }) => {
        done.push((payload as { key: string }).key)
        return Promise.resolve({ kind: 'done' })
      }),
    })
    const names = Array.from({ length: 60 }, (_, n) => `job ${n}`)
    for (const name of names)
      await bench.database.asCaller({ userId: 'ann' }, (tx) => tx.commit(() => enqueue(tx, job(name))))
    await eventually(() => done.length).toBe(60)
    expect(done.toSorted()).toEqual(names.toSorted())
    await eventually(keys).toEqual([])
  })
})

describe('a key', () => {
  it('stands for one job while that is queued or running, and for a new one when it is done', async () => {
    await bench.add({ key: 'one' }, { key: 'one' })
    await bench.add({ key: 'one' })
    await bench.add({ key: 'one', kind: 'other' })
    expect(await bench.rows()).toMatchObject([
      { kind: 'k', key: 'one' },
      { kind: 'other', key: 'one' },
    ])
    const begun = Promise.withResolvers<undefined>()
    const gate = Promise.withResolvers<undefined>()
    const worker = bench.worker({
      k: handler(async () => {
        begun.resolve(undefined)
        await gate.promise
        return { kind: 'done' }
      }),
    })
    await begun.promise
    await bench.add({ key: 'one' })
    expect(await bench.rows()).toHaveLength(2)
    gate.resolve(undefined)
    await eventually(async () => (await bench.rows()).map(({ kind }) => kind)).toEqual(['other'])
    await worker.close()
    await bench.add({ key: 'one' })
    expect(await bench.rows()).toHaveLength(2)
  })

  it('of a dead job is free: what was given up may be asked for anew', async () => {
    await bench.add({ key: 'one' })
    const worker = bench.worker({ k: handler(() => Promise.resolve({ kind: 'dead', why: 'no' })) })
    await eventually(async () => (await bench.rows())[0]?.status).toBe('dead')
    await worker.close()
    await bench.add({ key: 'one' })
    expect((await bench.rows()).map(({ status }) => status)).toEqual(['dead', 'queued'])
  })

  it('claimed by two transactions at once is one job; the second waits, and fails nothing', async () => {
    const other = await bench.open()
    const held = Promise.withResolvers<undefined>()
    const first = bench.database.asCaller({ userId: 'ann' }, async (tx) => {
      await enqueue(tx, job('one'))
      await held.promise
    })
    await eventually(
      () =>
        bench.sql`select from pg_stat_activity where state = 'idle in transaction' and datname = current_database()`,
    ).toHaveLength(1)
    const second = other.asCaller({ userId: 'bob' }, (tx) =>
      tx.commit(() => enqueue(tx, job('one', { userId: 'bob' }))),
    )
    await eventually(
      () =>
        bench.sql`select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
    ).toHaveLength(1)
    held.resolve(undefined)
    await Promise.all([first, second])
    expect(await bench.rows()).toMatchObject([{ key: 'one', user_id: 'ann' }])
  })
})

describe('the time of a job', () => {
  it('orders them: the longest due is done first, whenever it was added', async () => {
    const order = ['c', 'a', 'e', 'b', 'd']
    await bench.add(...order.map((key) => ({ key })))
    for (const key of order)
      await bench.sql`
        update chat.jobs set run_at = now() - make_interval(mins => ${100 - key.charCodeAt(0) + 96})
        where key = ${key}`
    const done: string[] = []
    bench.worker(
      {
        k: handler(({ key }) => {
          done.push(key)
          return Promise.resolve({ kind: 'done' })
        }),
      },
      { runningMax: 1 },
    )
    await eventually(() => done).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  it('is kept: not before it, and at it, though an idle worker looks much more rarely', async () => {
    const doneAtMs: number[] = []
    const worker = bench.worker(
      {
        k: handler(() => {
          doneAtMs.push(performance.now())
          return Promise.resolve({ kind: 'done' })
        }),
      },
      { pollMs: 60_000 },
    )
    const addedAtMs = performance.now()
    await bench.add({ key: 'later', afterMs: 300 }, { key: 'latest', afterMs: 600 })
    worker.wake(300)
    await eventually(() => doneAtMs.length).toBe(2)
    const [later = 0, latest = 0] = doneAtMs.map((at) => at - addedAtMs)
    expect(later).toBeGreaterThanOrEqual(300)
    expect(latest).toBeGreaterThanOrEqual(600)
    expect(latest).toBeLessThan(3_000)
  })

  it('is not asked for by an idle worker more than once in its interval', async () => {
    let asked = 0
    const counting = {
      ...bench.database,
      asSystem: ((why, fn) => {
        asked++
        return bench.database.asSystem(why, fn)
      }) satisfies Bench['database']['asSystem'],
    }
    const done = Promise.withResolvers<undefined>()
    bench.worker(
      {
        k: handler(() => {
          done.resolve(undefined)
          return Promise.resolve({ kind: 'done' })
        }),
      },
      { transactions: counting, pollMs: 400, random: () => 0.5 },
    )
    await bench.add({ key: 'found by a look' })
    const startedAtMs = performance.now()
    await done.promise
    await eventually(() => asked).toBeGreaterThanOrEqual(6)
    // The first look, the clean-up, one deletion; every look after them is an interval away.
    expect(performance.now() - startedAtMs).toBeGreaterThanOrEqual(2 * 400)
  })
})
