/**
 * One attempt at one job: the handler within its time, and what its outcome does to the row.
 *
 * Whatever cannot be stored leaves the row leased: the lease runs out, and somebody takes it again.
 */
import { isAway, type Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import { backoffMs } from './backoff.ts'
import type { JobHandler, JobOutcome } from './handler.ts'
import { bury, release, remove, requeue, type TakenJob } from './queries.ts'

export interface PerformDeps {
  transactions: Transactions
  log: Logger
  /** It went to the dead list, and somebody should look at it. */
  gaveUp: () => void
  random: () => number
  /** What an attempt gets. */
  timeoutMs: number
  /** The process ends: nothing that is cut short by it was tried. */
  stopping: () => boolean
  /** It is queued again, and due in so many ms. */
  requeued: (inMs: number) => void
}

/** What a handler gets to end after its signal, ms. Then the attempt is over, whatever the handler does. */
const abandonMs = 1_000
/** The longest wait that a handler may ask for, ms. */
const afterMaxMs = 24 * 3_600_000
/** Longest `last_error`, in UTF-16 units. */
const whyCharsMax = 200

/** Never rejects. */
export async function perform(
  deps: PerformDeps,
  handler: JobHandler,
  job: TakenJob,
  controller: AbortController,
): Promise<void> {
  const { log, stopping } = deps
  try {
    const outcome = await attempt(deps, handler, job, controller)
    if (outcome === 'abandoned') return
    if (outcome.kind === 'retry' && stopping())
      await deps.transactions.asSystem('jobs', (tx) => tx.commit(() => release(tx, job)))
    else await conclude(deps, handler, job, outcome)
  } catch (error) {
    if (stopping()) return
    log[isAway(error) ? 'debug' : 'error'](
      { event: 'job_unconcluded', ...named(job), err: error },
      'what became of a job could not be stored',
    )
  }
}

/** `abandoned`: the process ends and the handler does not, so the job is still being done: it stays leased. */
async function attempt(
  { log, timeoutMs, stopping }: PerformDeps,
  handler: JobHandler,
  job: TakenJob,
  controller: AbortController,
): Promise<JobOutcome | 'abandoned'> {
  // Begun as often as is allowed and never ended: what kills processes is not tried for ever.
  if (job.attempt > handler.attemptsMax) return { kind: 'dead', why: 'lost_each_time' }
  if (controller.signal.aborted) return { kind: 'retry', why: 'stopping' }
  const { promise: abandoned, resolve: abandon } = Promise.withResolvers<JobOutcome | 'abandoned'>()
  let grace: NodeJS.Timeout | undefined
  controller.signal.addEventListener('abort', () => {
    grace = setTimeout(() => abandon(stopping() ? 'abandoned' : timedOut), abandonMs)
  })
  const clock = setTimeout(() => controller.abort(), timeoutMs)
  try {
    return await Promise.race([handler.run(job, controller.signal), abandoned])
  } catch (error) {
    // After its signal any error is the signal's.
    if (isAborted(controller)) return timedOut
    log[isAway(error) ? 'debug' : 'warn'](
      { event: 'job_failed', ...named(job), attempt: job.attempt, err: error },
      'a job failed',
    )
    return { kind: 'retry', why: codeOf(error) }
  } finally {
    clearTimeout(clock)
    clearTimeout(grace)
  }
}

const isAborted = ({ signal }: AbortController) => signal.aborted

const timedOut: JobOutcome = { kind: 'retry', why: 'timed_out' }

async function conclude(
  deps: PerformDeps,
  handler: JobHandler,
  job: TakenJob,
  outcome: JobOutcome,
): Promise<void> {
  const { transactions, log, random, requeued } = deps
  switch (outcome.kind) {
    case 'done':
      try {
        await finish(transactions, job, outcome)
      } catch (error) {
        if (isAway(error)) throw error
        log.error({ event: 'job_refused', ...named(job), err: error }, 'what a job found cannot be stored')
        await conclude(deps, handler, job, { kind: 'retry', why: codeOf(error) })
      }
      return
    case 'later': {
      const waitMs = Math.min(outcome.afterMs, afterMaxMs)
      await transactions.asSystem('jobs', (tx) => tx.commit(() => release(tx, job, waitMs)))
      requeued(waitMs)
      return
    }
    case 'retry': {
      if (job.attempt >= handler.attemptsMax) return giveUp(deps, handler, job, outcome.why, false)
      const waitMs = Math.max(
        backoffMs(handler.backoff, job.attempt, random),
        Math.min(outcome.afterMs ?? 0, afterMaxMs),
      )
      await transactions.asSystem('jobs', (tx) =>
        tx.commit(() => requeue(tx, job, waitMs, outcome.why.slice(0, whyCharsMax))),
      )
      requeued(waitMs)
      return
    }
    case 'dead':
      return giveUp(deps, handler, job, outcome.why, outcome.expected ?? false)
    default:
      return outcome satisfies never
  }
}

async function finish(
  transactions: Transactions,
  job: TakenJob,
  { write, committed }: Extract<JobOutcome, { kind: 'done' }>,
): Promise<void> {
  const ours = await transactions.asSystem(`job ${job.kind}`, async (tx) => {
    // Where somebody else has it by now, it is theirs to write.
    const removed = await remove(tx, job)
    if (removed) await write?.(tx)
    return removed
  })
  if (ours) committed?.()
}

async function giveUp(
  { transactions, log, gaveUp }: PerformDeps,
  { buried }: JobHandler,
  job: TakenJob,
  why: string,
  expected: boolean,
): Promise<void> {
  const told = why.slice(0, whyCharsMax)
  const ours = await transactions.asSystem('jobs', async (tx) => {
    if (buried === undefined) return tx.commit(() => bury(tx, job, told))
    const dead = await bury(tx, job, told)
    if (dead) await buried(tx, job, told)
    return dead
  })
  if (!ours) return
  if (!expected) gaveUp()
  log[expected ? 'info' : 'warn'](
    { event: 'job_dead', ...named(job), attempts: job.attempt, why },
    'a job was given up',
  )
}

const named = ({ id, kind, key }: TakenJob) => ({ jobId: id, kind, key })

/** What may be stored of an error: its code or its kind. Its message may quote what people wrote. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
