/** What a kind of job is: how it is done, and how often it is tried. */
import type { Tx } from '../db/database.ts'
import type { Backoff } from './backoff.ts'
import type { TakenJob } from './queries.ts'

export type JobOutcome =
  /**
   * `write` is run in the transaction that deletes the job. It may be run again: it talks to nothing but `tx`.
   * `committed` is called once that is stored; not where a process dies in between.
   */
  | { kind: 'done'; write?: (tx: Tx) => Promise<void>; committed?: () => void }
  /** Nothing failed, and it is not over: looked at again after so long, ms. That counts no attempt. */
  | { kind: 'later'; afterMs: number }
  /** Not this time. `afterMs`: no sooner than that, whatever the back-off says. */
  | { kind: 'retry'; why: string; afterMs?: number | undefined }
  /** Never. `expected`: nothing that an operator need look at. */
  | { kind: 'dead'; why: string; expected?: boolean }

export interface JobHandler {
  /** Attempts before it is given up. */
  attemptsMax: number
  backoff: Backoff
  /**
   * At once in this process, in room of its own: for kinds that wait for others' servers, and must not make the rest wait
   * with them. Without it: a share of the room that all such kinds have together.
   */
  runningMax?: number
  /** Run in the transaction that puts it on the dead list, whoever gave it up. */
  buried?: (tx: Tx, job: TakenJob, why: string) => Promise<void>
  /**
   * The reasons that it gives are codes or short sentences of ours: they are stored and logged. What it throws is a
   * retry. It ends soon after `signal` is aborted: its time is over, or the process stops.
   */
  run(job: TakenJob, signal: AbortSignal): Promise<JobOutcome>
}
