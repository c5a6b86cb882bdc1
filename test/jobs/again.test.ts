/** Work that is asked for again: while it waits, while it is being done, and after it was given up. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import { listDead, redrive, renew, type TakenJob } from '../../src/jobs/jobs.ts'
import { eventually, handler, startBench, type Bench } from '../support/jobs.ts'

let bench: Bench
beforeEach(async () => {
  bench = await startBench()
})
afterEach(() => bench.close())

const asked = (key: string, version: number, afterMs = 0) =>
  bench.database.asSystem('test', (tx) =>
    renew(tx, 'k', [{ key, userId: 'ann', payload: { version } }], afterMs),
  )
const queued = () =>
  bench.sql`select key, payload, attempts from chat.jobs where status = 'queued' order by key`
const dead = (limit = 10) => bench.database.asSystem('test', (tx) => listDead(tx, ['k'], limit))
const rise = (ids?: string[]) => bench.database.asSystem('test', (tx) => redrive(tx, ['k'], ids))

describe('renewing', () => {
  it('adds many at once, and gives what is queued its new payload, its time and all its attempts', async () => {
    await bench.database.asSystem('test', (tx) =>
      renew(
        tx,
        'k',
        ['a', 'b'].map((key) => ({ key, userId: null, payload: { version: 1 } })),
        60_000,
      ),
    )
    await bench.sql`update chat.jobs set attempts = 5 where key = 'a'`
    await asked('a', 2)
    expect(await queued()).toEqual([
      { key: 'a', payload: { version: 2 }, attempts: 0 },
      { key: 'b', payload: { version: 1 }, attempts: 0 },
    ])
    const [a, b] = await bench.rows()
    expect(a?.due_ms).toBeLessThan(1_000)
    expect(b?.due_ms).toBeGreaterThan(50_000)
  })

  it('leaves to what is being done its lease: it ends, and sees in its write what was committed meanwhile', async () => {
    const begun = Promise.withResolvers<undefined>()
    const gate = Promise.withResolvers<undefined>()
    const runs: TakenJob[] = []
    let seen: unknown
    await asked('a', 1)
    bench.worker({
      k: handler(async (job) => {
        runs.push(job)
        begun.resolve(undefined)
        await gate.promise
        return {
          kind: 'done',
          async write(tx) {
            seen = await tx.execute(sql`select max(fingerprint) as told from chat.processed_events`)
          },
        }
      }),
    })
    await begun.promise
    await bench.database.asSystem('test', async (tx) => {
      await tx.execute(
        sql`insert into chat.processed_events (source, event_id, fingerprint) values ('t', '1', 'new')`,
      )
      await renew(tx, 'k', [{ key: 'a', userId: null, payload: { version: 2 } }])
    })
    expect((await bench.rows())[0]).toMatchObject({ attempts: 1, leased: true })
    gate.resolve(undefined)
    await eventually(() => bench.rows()).toEqual([])
    expect(runs).toHaveLength(1)
    expect(seen).toEqual([{ told: 'new' }])
  })
})

describe('what was given up', () => {
  async function giveUp(...keys: string[]): Promise<void> {
    for (const key of keys) await asked(key, 1)
    const worker = bench.worker({
      k: handler(() => Promise.resolve({ kind: 'dead', why: 'refused' })),
    })
    await eventually(async () => (await queued()).length).toBe(0)
    await worker.close()
  }

  it('is listed with why, the newest first, and queued again: all of it, or what is named', async () => {
    await giveUp('a')
    await giveUp('b')
    await giveUp('c')
    const listed = await dead()
    expect(listed).toMatchObject(
      ['c', 'b', 'a'].map((key) => ({ key, kind: 'k', why: 'refused', attempts: 1, user_id: 'ann' })),
    )
    expect(await dead(1)).toMatchObject([{ key: 'c' }])
    expect(await rise([listed[1]?.id ?? ''])).toEqual([{ kind: 'k', key: 'b' }])
    expect(await queued()).toEqual([{ key: 'b', payload: { version: 1 }, attempts: 0 }])
    expect((await rise()).map(({ key }) => key).toSorted()).toEqual(['a', 'c'])
    expect(await dead()).toEqual([])
    expect(await rise()).toEqual([])
  })

  it('stands once in the queue, whatever died and whatever is queued under its key', async () => {
    await giveUp('a', 'b')
    await giveUp('a')
    await asked('b', 2)
    expect(await rise()).toEqual([{ kind: 'k', key: 'a' }])
    expect(await queued()).toEqual([
      { key: 'a', payload: { version: 1 }, attempts: 0 },
      { key: 'b', payload: { version: 2 }, attempts: 0 },
    ])
    expect(await dead()).toEqual([])
  })

  it('is told in the transaction that gives it up, and stays queued where that fails', async () => {
    const told: string[] = []
    let fails = true
    await asked('a', 1)
    bench.worker(
      {
        k: {
          ...handler(() => Promise.resolve({ kind: 'retry', why: 'no_luck' }), { attemptsMax: 1 }),
          async buried(tx, { key }, why) {
            told.push(`${key}: ${why}`)
            if (fails) await tx.execute(sql`select 1 / 0`)
          },
        },
      },
      { leaseMs: 200 },
    )
    await eventually(() => told.length).toBeGreaterThan(0)
    expect(await queued()).toHaveLength(1)
    fails = false
    await eventually(async () => (await dead()).map(({ why }) => why)).toEqual(['lost_each_time'])
    expect([told[0], told.at(-1)]).toEqual(['a: no_luck', 'a: lost_each_time'])
  })
})
