/**
 * Door of jobs: the one mechanism for what is done later, or until it succeeds.
 *
 * A job is a row: queued → leased by one instance → deleted when it is done, queued again when it failed, dead when
 * there is no point in going on. A transaction adds one (`enqueue`) with all else that it does, or not at all.
 * Promises: a job is done at least once, and what its outcome writes exactly once, since that is committed with the
 * row's deletion; a killed process loses nothing, since its leases run out; no handler holds a transaction while it
 * works. A database that is away is waited for, and the log says so once. An idle process asks every few seconds,
 * sooner for what it knows to be due.
 */
import { isAway, type Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import type { JobHandler } from './handler.ts'
import { perform, type PerformDeps } from './perform.ts'
import { forgetDead, takeDue, type TakenJob } from './queries.ts'

export type { JobHandler, JobOutcome } from './handler.ts'
export {
  dismiss,
  enqueue,
  listDead,
  redrive,
  renew,
  type DeadJob,
  type NewJob,
  type TakenJob,
} from './queries.ts'

export interface Jobs {
  /** Something is due in so many ms: added by this instance. What others add is found by the next look. */
  wake(inMs?: number): void
  /** Takes no more, and tells what runs; what does not end soon is left to its lease. Within `closeMaxMs`. */
  close(): Promise<void>
}

export interface JobsOptions {
  transactions: Transactions
  log: Logger
  /** By kind. Jobs of other kinds are left alone: a newer version of us may know them. */
  handlers: Readonly<Record<string, JobHandler>>
  /** Told of each that is given up, and was not expected to be. */
  gaveUp?: () => void
  random?: () => number
  /** Handlers at once in this process, of kinds without room of their own. Few: each may want a connection, and so do requests. */
  runningMax?: number
  /** Between two looks of an idle process, ms: what another instance added is found that late at most. */
  pollMs?: number
  /** What an attempt gets, ms: more than an upstream's own timeouts. */
  timeoutMs?: number
  /** How long the jobs of a killed process wait, ms: longer than an attempt and the storing of its outcome. */
  leaseMs?: number
}

/** All that a close waits, ms: a handler's grace, and one write to the database. */
const closeMaxMs = 2_500
/** Dead jobs can be looked at this long, days. */
const deadKeptDays = 30
const forgetEveryMs = 3_600_000

export function createJobs(options: JobsOptions): Jobs {
  const { transactions, log, handlers, gaveUp = () => undefined, random = Math.random } = options
  const { runningMax = 4, pollMs = 5_000, timeoutMs = 30_000, leaseMs = 60_000 } = options
  const lanes = lanesOf(handlers, runningMax)
  const running = new Map<TakenJob, { controller: AbortController; ended: Promise<void> }>()
  let timer: NodeJS.Timeout | undefined
  let timerAtMs = Infinity
  let looking: Promise<void> | undefined
  let lookAgain = false
  let away = false
  let forgotAtMs = -Infinity
  let closing: Promise<void> | undefined
  let stopping = false
  const deps: PerformDeps = {
    transactions,
    log,
    gaveUp,
    random,
    timeoutMs,
    stopping: () => stopping,
    requeued: wake,
  }

  function wake(inMs = 0): void {
    const atMs = performance.now() + inMs
    if (stopping || atMs >= timerAtMs) return
    clearTimeout(timer)
    timerAtMs = atMs
    timer = setTimeout(look, inMs)
    timer.unref()
  }

  function look(): void {
    timerAtMs = Infinity
    if (looking !== undefined) {
      lookAgain = true
      return
    }
    looking = take()
      .catch((error: unknown) => {
        if (!away && !stopping)
          log[isAway(error) ? 'warn' : 'error'](
            { event: 'jobs_waiting', err: error },
            'background work waits for the database',
          )
        away = true
        return idleMs()
      })
      .then((nextMs) => {
        looking = undefined
        wake(lookAgain ? 0 : nextMs)
        lookAgain = false
      })
  }

  /** Not all instances at the same moment. */
  const idleMs = () => pollMs * (0.75 + random() / 2)

  /** @returns when to look again, ms. */
  async function take(): Promise<number> {
    for (const lane of lanes) lane.more = lane.running >= lane.max
    const open = lanes
      .filter(({ more }) => !more)
      .map((lane) => ({ lane, kinds: lane.kinds, limit: lane.max - lane.running }))
    if (open.length === 0) return idleMs()
    await forget()
    const { jobs, nextMs } = await transactions.asSystem('jobs', (tx) =>
      tx.commit(() => takeDue(tx, open, leaseMs)),
    )
    if (away) log.info({ event: 'jobs_resumed' }, 'background work goes on')
    away = false
    for (const { lane, kinds, limit } of open)
      lane.more = jobs.filter(({ kind }) => kinds.includes(kind)).length === limit
    for (const job of jobs) begin(job)
    return Math.min(nextMs ?? Infinity, idleMs())
  }

  function begin(job: TakenJob): void {
    const handler = handlers[job.kind]
    const lane = lanes.find(({ kinds }) => kinds.includes(job.kind))
    if (handler === undefined || lane === undefined) return
    const controller = new AbortController()
    // Taken by a look that was under way when the close began.
    if (stopping) controller.abort()
    lane.running++
    const ended = perform(deps, handler, job, controller).finally(() => {
      running.delete(job)
      lane.running--
      if (lane.more) wake()
    })
    running.set(job, { controller, ended })
  }

  async function forget(): Promise<void> {
    if (performance.now() - forgotAtMs < forgetEveryMs) return
    forgotAtMs = performance.now()
    await transactions.asSystem('forget dead jobs', (tx) => tx.commit(() => forgetDead(tx, deadKeptDays)))
  }

  async function close(): Promise<void> {
    clearTimeout(timer)
    for (const { controller } of running.values()) controller.abort()
    let impatience: NodeJS.Timeout | undefined
    const longEnough = new Promise((resolve) => {
      impatience = setTimeout(resolve, closeMaxMs)
    })
    const allEnded = async () => {
      await looking
      await Promise.all([...running.values()].map(({ ended }) => ended))
    }
    await Promise.race([allEnded(), longEnough])
    clearTimeout(impatience)
  }

  wake(idleMs())
  return {
    wake,
    close() {
      stopping = true
      closing ??= close()
      return closing
    },
  }
}

/** Room for jobs that are done at once. */
interface Lane {
  kinds: string[]
  max: number
  running: number
  /** There may be more that is due than there was room for. */
  more: boolean
}

/** One for each kind that has room of its own, and one for all others. */
function lanesOf(handlers: JobsOptions['handlers'], runningMax: number): Lane[] {
  const lane = (kinds: string[], max: number): Lane => ({ kinds, max, running: 0, more: false })
  const entries = Object.entries(handlers)
  const others = entries.filter(([, handler]) => handler.runningMax === undefined).map(([kind]) => kind)
  const own = entries.flatMap(([kind, handler]) =>
    handler.runningMax === undefined ? [] : [lane([kind], handler.runningMax)],
  )
  return others.length === 0 ? own : [lane(others, runningMax), ...own]
}
