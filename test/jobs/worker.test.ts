/** Doing jobs: by one instance at a time, a few at once, and what each outcome does. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import { AppError } from '../../src/errors.ts'
import type { JobOutcome } from '../../src/jobs/jobs.ts'
import { eventually, handler, startBench, type Bench } from '../support/jobs.ts'

let bench: Bench
beforeEach(async () => {
  bench = await startBench()
})
afterEach(() => bench.close())

const done = (): Promise<JobOutcome> => Promise.resolve({ kind: 'done' })
const firstRow = async () => (await bench.rows())[0]
const events = (event: string) => bench.logs.filter((line) => line['event'] === event)

describe('several instances', () => {
  it('do each of 300 jobs once', async () => {
    const times = new Map<string, number>()
    const count = handler(({ key }) => {
      times.set(key, (times.get(key) ?? 0) + 1)
      return done()
    })
    await bench.add(...Array.from({ length: 300 }, (_, n) => ({ key: String(n) })))
    for (const transactions of [bench.database, await bench.open(), await bench.open()])
      bench.worker({ k: count }, { transactions, runningMax: 8 })
    await eventually(() => bench.rows()).toEqual([])
    expect(times.size).toBe(300)
    expect([...new Set(times.values())]).toEqual([1])
  })

  it('do not wait for each other: what one is about to take, another leaves out', async () => {
    await bench.add({ key: 'held' }, { key: 'free' })
    const letGo = Promise.withResolvers<undefined>()
    const holding = bench.sql.begin(async (tx) => {
      await tx`select from chat.jobs where key = 'held' for update`
      await letGo.promise
    })
    await eventually(
      () =>
        bench.sql`select from pg_stat_activity where state = 'idle in transaction' and datname = current_database()`,
    ).toHaveLength(1)
    bench.worker({ k: handler(done) })
    await eventually(async () => (await bench.rows()).map(({ key }) => key)).toEqual(['held'])
    letGo.resolve(undefined)
    await holding
    await eventually(() => bench.rows()).toEqual([])
  })
})

describe('one instance', () => {
  it('does as many at once as it may, and the rest as those end', async () => {
    let now = 0
    let most = 0
    const gates: (() => void)[] = []
    await bench.add(...Array.from({ length: 10 }, (_, n) => ({ key: String(n) })))
    bench.worker(
      {
        k: handler(async () => {
          most = Math.max(most, ++now)
          await new Promise<void>((resolve) => gates.push(resolve))
          now--
          return { kind: 'done' }
        }),
      },
      { runningMax: 3, pollMs: 60_000 },
    )
    for (let ended = 0; ended < 10; ended++) {
      await eventually(() => gates.length).toBeGreaterThan(0)
      gates.shift()?.()
    }
    await eventually(() => bench.rows()).toEqual([])
    expect(most).toBe(3)
  })

  it('holds no transaction while a handler works', async () => {
    const begun = Promise.withResolvers<undefined>()
    const gate = Promise.withResolvers<undefined>()
    bench.worker({
      k: handler(async () => {
        begun.resolve(undefined)
        await gate.promise
        return { kind: 'done' }
      }),
    })
    await bench.add({ key: 'slow' })
    await begun.promise
    expect(
      await bench.sql`select from pg_stat_activity where xact_start is not null and usename is not null
        and datname = current_database() and pid <> pg_backend_pid()`,
    ).toHaveLength(0)
    gate.resolve(undefined)
  })

  it('leaves kinds alone that it does not know: a newer version of us may', async () => {
    await bench.add({ key: 'new', kind: 'from the future' }, { key: 'old' })
    bench.worker({ k: handler(done) })
    await eventually(async () => (await bench.rows()).map(({ key }) => key)).toEqual(['new'])
    expect(await firstRow()).toMatchObject({ attempts: 0, leased: false, status: 'queued' })
  })
})

describe('an outcome', () => {
  const usage = sql`
    insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
      completion_tokens, total_tokens, cost, is_free_model, source)
    values (gen_random_uuid(), 'ann', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'm', 1, 1, 2, 0, true,
      'reported')`

  it('done: what it writes is committed with the end of the job', async () => {
    bench.worker({
      k: handler(() =>
        Promise.resolve({
          kind: 'done',
          async write(tx) {
            await tx.execute(usage)
          },
        }),
      ),
    })
    await bench.add({ key: 'one' })
    await eventually(() => bench.rows()).toEqual([])
    expect(await bench.sql`select from chat.usage_tracking`).toHaveLength(1)
  })

  it('done, but what it writes is refused: nothing of it is stored, and the job is tried again', async () => {
    bench.worker({
      k: handler(({ attempt }) =>
        Promise.resolve({
          kind: 'done',
          async write(tx) {
            await tx.execute(usage)
            if (attempt === 1) await tx.execute(sql`select 1 / 0`)
          },
        }),
      ),
    })
    await bench.add({ key: 'one' })
    await eventually(() => bench.rows()).toEqual([])
    expect(await bench.sql`select from chat.usage_tracking`).toHaveLength(1)
    expect(events('job_refused')).toHaveLength(1)
  })

  it('later: it is due again after what it asked for, as untried as before', async () => {
    let looked = 0
    bench.worker({
      k: handler(
        () =>
          Promise.resolve(++looked < 6 ? { kind: 'later', afterMs: 5 } : { kind: 'later', afterMs: 60_000 }),
        {
          attemptsMax: 2,
        },
      ),
    })
    await bench.add({ key: 'one' })
    await eventually(() => looked).toBe(6)
    await eventually(async () => (await bench.rows()).map(({ leased }) => leased)).toEqual([false])
    const [row] = await bench.rows()
    expect(row).toMatchObject({ status: 'queued', attempts: 0, last_error: null })
    expect(row?.due_ms).toBeGreaterThan(30_000)
  })

  it('retry: it is due again after the back-off, and says why', async () => {
    const backoff = { firstMs: 100_000, maxMs: 150_000 }
    bench.worker(
      { k: handler(() => Promise.resolve({ kind: 'retry', why: 'not_yet' }), { backoff }) },
      { random: () => 0.5 },
    )
    await bench.add({ key: 'one' })
    await eventually(firstRow).toMatchObject({ last_error: 'not_yet', leased: false, attempts: 1 })
    const first = await firstRow()
    expect(first?.due_ms).toBeGreaterThan(70_000)
    expect(first?.due_ms).toBeLessThanOrEqual(75_000)
  })

  it.each([
    ['longer than the back-off is kept', 500_000, 500_000],
    ['shorter is not', 1, 50_000],
    ['of years is a day', 1e12, 86_400_000],
  ])('retry after a time %s', async (_name, afterMs, dueMs) => {
    const backoff = { firstMs: 100_000, maxMs: 100_000 }
    bench.worker(
      { k: handler(() => Promise.resolve({ kind: 'retry', why: 'busy', afterMs }), { backoff }) },
      { random: () => 0 },
    )
    await bench.add({ key: 'one' })
    await eventually(firstRow).toMatchObject({ last_error: 'busy', leased: false })
    const dueIn = (await firstRow())?.due_ms ?? 0
    expect(dueIn).toBeGreaterThan(dueMs - 10_000)
    expect(dueIn).toBeLessThanOrEqual(dueMs)
  })

  it('dead: it is kept, not tried again, and logged once: as a warning, or as news where it was expected', async () => {
    let tries = 0
    bench.worker({
      k: handler(({ key }) => {
        tries++
        return Promise.resolve({ kind: 'dead', why: 'pointless', expected: key === 'expected' })
      }),
    })
    await bench.add({ key: 'expected' }, { key: 'unexpected' })
    await eventually(async () => (await bench.rows()).map(({ status }) => status)).toEqual(['dead', 'dead'])
    await bench.add({ key: 'behind them' })
    await eventually(async () => (await bench.rows()).map(({ status }) => status)).toEqual([
      'dead',
      'dead',
      'dead',
    ])
    expect(tries).toBe(3)
    expect(await firstRow()).toMatchObject({ last_error: 'pointless', attempts: 1, leased: false })
    await eventually(() => events('job_dead')).toHaveLength(3)
    expect(events('job_dead').map(({ level, key, why }) => ({ level, key, why }))).toEqual(
      expect.arrayContaining([
        { level: 30, key: 'expected', why: 'pointless' },
        { level: 40, key: 'unexpected', why: 'pointless' },
      ]),
    )
  })
})

describe('a job that throws every time', () => {
  it('is tried as often as its kind says, then is dead; the others are done meanwhile', async () => {
    const attempts: number[] = []
    bench.worker(
      {
        k: handler(({ key, attempt }) => {
          if (key !== 'poison') return done()
          attempts.push(attempt)
          throw new TypeError('the secret of ann')
        }),
      },
      { runningMax: 1 },
    )
    await bench.add({ key: 'poison' }, { key: 'one' }, { key: 'two' })
    await eventually(() => bench.rows()).toMatchObject([
      { key: 'poison', status: 'dead', attempts: 3, last_error: 'TypeError' },
    ])
    expect(attempts).toEqual([1, 2, 3])
    await eventually(() => events('job_dead')).toMatchObject([
      { level: 40, kind: 'k', key: 'poison', attempts: 3 },
    ])
  })

  it.each([
    ['a code where it has one', new AppError('upstream_timeout', { detail: 'secret' }), 'upstream_timeout'],
    ['its kind else', new RangeError('secret'), 'RangeError'],
  ])('stores %s, never its words', async (_name, thrown, stored) => {
    const throwing = handler(
      () => {
        throw thrown
      },
      { attemptsMax: 1 },
    )
    bench.worker({ k: throwing })
    await bench.add({ key: 'poison' })
    await eventually(firstRow).toMatchObject({ status: 'dead', last_error: stored })
    expect(JSON.stringify(await bench.sql`select * from chat.jobs`)).not.toContain('secret')
  })
})

it('dead jobs are kept for a month, and then forgotten; queued ones are not', async () => {
  await bench.add({ key: 'old dead' }, { key: 'dead' }, { key: 'old queued', afterMs: 60_000 })
  await bench.sql`update chat.jobs set created_at = now() - interval '31 days' where key like 'old%'`
  await bench.sql`update chat.jobs set status = 'dead' where key like '%dead'`
  bench.worker({ k: handler(done) })
  await eventually(async () => (await bench.rows()).map(({ key }) => key)).toEqual(['old queued', 'dead'])
})
