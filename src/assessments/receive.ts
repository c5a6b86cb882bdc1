/**
 * One event of an assessment, done once: its claim, what it makes of the assessment, the conversation where results are
 * known, the job for all that takes time, and the row of the inbox, in one transaction.
 *
 * Locks are taken in one order, here as in onboard.ts: claim → job → assessment → conversation → inbox.
 */
import type { Transactions } from '../db/database.ts'
import { renew, type Jobs } from '../jobs/jobs.ts'
import type { Inbox } from '../notifications/notify.ts'
import { claim } from '../notifications/processed.ts'
import { appoint, type AppointDeps } from './appoint.ts'
import type { AssessmentEvent } from './event.ts'
import { progressOf } from './inbox-row.ts'
import { onboardJob, onboardKind } from './onboard-job.ts'
import { moves } from './progress.ts'
import { makeAssessment, moveAssessment } from './queries.ts'

export type Received =
  /** `duplicate`: it was done before, under this id. */
  | { kind: 'received'; duplicate: boolean }
  /** The assessment is another user's. */
  | { kind: 'foreign' }
  /** Another event had this id. */
  | { kind: 'reused' }

/** @throws AppError database_unavailable, and what else a database says. */
export type Receive = (event: AssessmentEvent) => Promise<Received>

export interface ReceiveDeps extends AppointDeps {
  transactions: Transactions
  inbox: Pick<Inbox, 'notifyIn'>
  jobs: Pick<Jobs, 'wake'>
  now: () => Date
}

/** Of both entrances: the same event over the other one is the same. */
export const eventSource = 'assessment events'

export function createReceive(deps: ReceiveDeps): Receive {
  const { transactions, inbox, jobs, now } = deps

  return async (told) => {
    const event = { ...told, occurredAt: happened(told.occurredAt, now()) }
    const { userId, assessmentId, results } = event
    if ((results?.user_id ?? userId) !== userId) return { kind: 'foreign' }
    const fingerprint = JSON.stringify([event.type, userId, assessmentId])
    const isComplete = event.type === 'analysis_complete'
    const job = onboardJob({ userId, assessmentId, eventId: event.id, tier: null })
    const after: (() => void)[] = []
    try {
      const duplicate = await transactions.asSystem('receive an event', async (tx) => {
        after.length = 0
        // Sent together: each way to the database and back costs as much as a statement does.
        const [claimed, , { assessment, isNew }] = await Promise.all([
          claim(tx, eventSource, [{ key: event.id, fingerprint }]),
          // Also where one is being done: its end then waits for this, and sees what has come.
          isComplete ? renew(tx, onboardKind, [job]) : undefined,
          makeAssessment(tx, event),
        ])
        const known = claimed.get(event.id)
        if (known !== undefined && known.fingerprint !== fingerprint) throw new Reused()
        if (known !== undefined) return true
        if (assessment.userId !== userId) throw new Foreign()
        if (!moves(isNew ? undefined : assessment, event)) return false
        const [, appointed, { told: tellInbox }] = await Promise.all([
          moveAssessment(tx, event),
          results === null
            ? undefined
            : appoint(tx, deps, { userId, assessmentId, results, trigger: 'event' }),
          inbox.notifyIn(tx, [progressOf(event.type, { userId, assessmentId })]),
        ])
        if (appointed !== undefined) after.push(appointed.told)
        after.push(tellInbox)
        return false
      })
      if (isComplete) jobs.wake()
      for (const tell of after) tell()
      return { kind: 'received', duplicate }
    } catch (error) {
      if (error instanceof Reused) return { kind: 'reused' }
      if (error instanceof Foreign) return { kind: 'foreign' }
      throw error
    }
  }
}

/** A clock may be ahead; one that is by years would make all that comes later old. */
const aheadMaxMs = 24 * 3_600_000

const happened = (told: string | null, now: Date): string =>
  told === null || Date.parse(told) > now.getTime() + aheadMaxMs ? now.toISOString() : told

class Foreign extends Error {}
class Reused extends Error {}
