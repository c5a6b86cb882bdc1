/** What goes wrong around jobs: processes that die, handlers that hang, databases that are away, a process that stops. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Tx } from '../../src/db/database.ts'
import type { JobOutcome } from '../../src/jobs/jobs.ts'
import { eventually, handler, startBench, untilAborted, type Bench } from '../support/jobs.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

let bench: Bench
let proxy: TcpProxy
beforeEach(async () => {
  bench = await startBench()
  proxy = await startTcpProxy(bench.url)
})
afterEach(async () => {
  await proxy.pass()
  await bench.close()
  await proxy.close()
})

const firstRow = async () => (await bench.rows())[0]
const events = (event: string) => bench.logs.filter((line) => line['event'] === event)

/** A handler that a test ends, whatever its signal says. */
function hanging(outcome: JobOutcome = { kind: 'done' }) {
  const begun = Promise.withResolvers<undefined>()
  const gate = Promise.withResolvers<undefined>()
  const state = { runs: 0 }
  return {
    begun: begun.promise,
    end: () => gate.resolve(undefined),
    runs: () => state.runs,
    handler: handler(async () => {
      state.runs++
      begun.resolve(undefined)
      await gate.promise
      return outcome
    }),
  }
}

const note = (text: string) => async (tx: Tx) => {
  await tx.execute(sql`
    insert into chat.idempotency_keys (user_id, key, fingerprint, conversation_id)
    values ('ann', gen_random_uuid()::text, ${text}, gen_random_uuid())`)
}
const notes = async () =>
  (await bench.sql`select fingerprint from chat.idempotency_keys`).map((row) => row['fingerprint'] as string)

describe('a lease that runs out', () => {
  it('is taken by another instance; what the first one finds in the end is not written', async () => {
    const first = hanging({ kind: 'done', write: note('of the first') })
    await bench.add({ key: 'one' })
    const firstWorker = bench.worker({ k: first.handler }, { leaseMs: 300, pollMs: 60_000 })
    await first.begun
    const second = hanging({ kind: 'done', write: note('of the second') })
    bench.worker({ k: second.handler }, { transactions: await bench.open() })
    await second.begun
    expect(await firstRow()).toMatchObject({ attempts: 2, leased: true })
    first.end()
    await firstWorker.close()
    expect(await firstRow()).toMatchObject({ attempts: 2, leased: true })
    second.end()
    await eventually(() => bench.rows()).toEqual([])
    expect(await notes()).toEqual(['of the second'])
  })

  it('is not taken a moment before', async () => {
    const first = hanging()
    await bench.add({ key: 'one' })
    bench.worker({ k: first.handler }, { leaseMs: 1_000, pollMs: 60_000 })
    await first.begun
    const [lease] = await bench.sql`select leased_until from chat.jobs`
    const second = hanging()
    bench.worker({ k: second.handler }, { transactions: await bench.open(), pollMs: 20, leaseMs: 60_000 })
    await second.begun
    const [taken] = await bench.sql`
      select leased_until - interval '60 s' - ${lease?.['leased_until'] as Date}::timestamptz
        between interval '0' and interval '10 s' as right from chat.jobs`
    expect(taken).toEqual({ right: true })
    first.end()
    second.end()
  })

  it('as often as there are attempts is the end: what kills its process is not tried for ever', async () => {
    const never = hanging()
    await bench.add({ key: 'killer' })
    await bench.sql`update chat.jobs set attempts = 3, leased_until = now() - interval '1 s'`
    bench.worker({ k: never.handler })
    await eventually(firstRow).toMatchObject({ status: 'dead', last_error: 'lost_each_time' })
    expect(never.runs()).toBe(0)
    await eventually(() => events('job_dead')).toHaveLength(1)
  })
})

describe('an attempt that takes too long', () => {
  it('is told by its signal, and the job is tried again', async () => {
    let signalled = 0
    bench.worker(
      {
        k: handler(async (job, signal) => {
          signal.addEventListener('abort', () => signalled++)
          return job.attempt === 1 ? untilAborted(job, signal) : { kind: 'done' }
        }),
      },
      { timeoutMs: 100 },
    )
    await bench.add({ key: 'slow' })
    await eventually(() => bench.rows()).toEqual([])
    expect(signalled).toBe(1)
  })

  it('and does not listen gives up its place all the same', async () => {
    const deaf = hanging()
    const done: string[] = []
    bench.worker(
      {
        deaf: { ...deaf.handler, backoff: { firstMs: 60_000, maxMs: 60_000 } },
        k: handler(({ key }) => {
          done.push(key)
          return Promise.resolve({ kind: 'done' })
        }),
      },
      { timeoutMs: 100, runningMax: 1 },
    )
    await bench.add({ key: 'deaf', kind: 'deaf' })
    await deaf.begun
    await bench.add({ key: 'behind it' })
    await eventually(() => done).toEqual(['behind it'])
    expect(await firstRow()).toMatchObject({ key: 'deaf', last_error: 'timed_out', leased: false })
    deaf.end()
  })
})

describe('a database that is away', () => {
  const ways: [name: string, away: () => Promise<void> | void][] = [
    ['refuses', () => proxy.refuse()],
    ['is silent', () => proxy.freeze()],
  ]
  it.each(ways)('and %s is waited for: told once, and then the work goes on', async (_name, away) => {
    const transactions = await bench.open(proxy.url)
    const done: string[] = []
    bench.worker(
      {
        k: handler(({ key }) => {
          done.push(key)
          return Promise.resolve({ kind: 'done' })
        }),
      },
      // A look that was under way may have taken the job and not have heard of it: it is taken again after its lease.
      { transactions, pollMs: 100, leaseMs: 1_000 },
    )
    await bench.add({ key: 'before' })
    await eventually(() => done).toEqual(['before'])
    await away()
    await bench.add({ key: 'meanwhile' })
    await eventually(() => events('jobs_waiting').length).toBe(1)
    await delay(1_500)
    expect(events('jobs_waiting')).toMatchObject([{ level: 40 }])
    await proxy.pass()
    await eventually(() => done).toEqual(['before', 'meanwhile'])
    await eventually(() => bench.rows()).toEqual([])
    expect(events('jobs_resumed')).toHaveLength(1)
    expect(bench.logs.filter(({ level }) => Number(level) >= 50)).toEqual([])
  })

  it('when a job ends: the job is done again, and what it writes is written once', async () => {
    const first = hanging({ kind: 'done', write: note('done') })
    bench.worker(
      { k: first.handler },
      { transactions: await bench.open(proxy.url), leaseMs: 1_000, pollMs: 100 },
    )
    await bench.add({ key: 'one' })
    await first.begun
    await proxy.refuse()
    first.end()
    await eventually(() => events('job_unconcluded').length).toBe(1)
    expect(await notes()).toEqual([])
    await proxy.pass()
    await eventually(() => bench.rows()).toEqual([])
    expect(first.runs()).toBe(2)
    expect(await notes()).toEqual(['done'])
  })

  it('at the end of a job, its commit done and nobody told: it is not done again', async () => {
    const first = hanging({ kind: 'done', write: note('done') })
    await bench.add({ key: 'one' })
    bench.worker(
      { k: first.handler },
      { transactions: await bench.open(proxy.url), leaseMs: 500, pollMs: 60_000 },
    )
    await first.begun
    const lost = proxy.loseCommit()
    first.end()
    await lost
    await eventually(() => events('job_unconcluded').length).toBe(1)
    expect(await bench.rows()).toEqual([])
    expect(await notes()).toEqual(['done'])
    expect(first.runs()).toBe(1)
  })
})

describe('a process that stops', () => {
  it('tells its jobs, gives them back untried, and closes at once', async () => {
    const begun = Promise.withResolvers<undefined>()
    const worker = bench.worker({
      k: handler((job, signal) => {
        begun.resolve(undefined)
        return untilAborted(job, signal)
      }),
    })
    await bench.add({ key: 'one' })
    await begun.promise
    const startedAtMs = performance.now()
    await worker.close()
    expect(performance.now() - startedAtMs).toBeLessThan(500)
    expect(await firstRow()).toMatchObject({ attempts: 0, leased: false, status: 'queued', last_error: null })
    expect(bench.logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
  })

  it('keeps what was done all the same', async () => {
    const begun = Promise.withResolvers<undefined>()
    const worker = bench.worker({
      k: handler(async (job, signal) => {
        begun.resolve(undefined)
        await untilAborted(job, signal).catch(() => undefined)
        return { kind: 'done', write: note('just in time') }
      }),
    })
    await bench.add({ key: 'one' })
    await begun.promise
    await worker.close()
    expect(await bench.rows()).toEqual([])
    expect(await notes()).toEqual(['just in time'])
  })

  it('leaves a job that hangs to its lease, and is not held by it', async () => {
    const deaf = hanging()
    const worker = bench.worker({ k: deaf.handler })
    await bench.add({ key: 'one' })
    await deaf.begun
    const startedAtMs = performance.now()
    await worker.close()
    expect(performance.now() - startedAtMs).toBeLessThan(2_000)
    expect(await firstRow()).toMatchObject({ attempts: 1, leased: true })
    deaf.end()
  })

  it('is not held by a silent database either', async () => {
    const begun = Promise.withResolvers<undefined>()
    const worker = bench.worker(
      {
        k: handler((job, signal) => {
          begun.resolve(undefined)
          return untilAborted(job, signal)
        }),
      },
      { transactions: await bench.open(proxy.url) },
    )
    await bench.add({ key: 'one' })
    await begun.promise
    proxy.freeze()
    const startedAtMs = performance.now()
    await worker.close()
    expect(performance.now() - startedAtMs).toBeLessThan(3_000)
  })

  it('takes nothing afterwards, woken or not; closing twice is closing once', async () => {
    const never = hanging()
    const worker = bench.worker({ k: never.handler })
    await Promise.all([worker.close(), worker.close()])
    await bench.add({ key: 'one' })
    worker.wake()
    const other = hanging()
    bench.worker({ k: other.handler }, { transactions: await bench.open() })
    await other.begun
    expect(never.runs()).toBe(0)
    other.end()
  })
})
