/**
 * One event of an assessment, done once: its claim, what it makes of the assessment, the conversation where results are
 * known, the job for all that takes time, and the row of the inbox, in one transaction.
 *
 * Locks are taken in one order, here as in onboard.ts: claim → job → assessment → conversation → inbox.
 */
import type { Transactions } from '../db/database.ts'
import { enqueue, type Jobs } from '../jobs/jobs.ts'
import type { Inbox } from '../notifications/notify.ts'
import { claim } from '../notifications/processed.ts'
import { appoint, type AppointDeps } from './appoint.ts'
import type { AssessmentEvent } from './event.ts'
import { progressOf } from './inbox-row.ts'
import { onboardJob } from './onboard-job.ts'
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
    const event = { ...told, occurredAt: told.occurredAt ?? now().toISOString() }
    const { userId, assessmentId, results } = event
    if ((results?.user_id ?? userId) !== userId) return { kind: 'foreign' }
    const fingerprint = JSON.stringify([event.type, userId, assessmentId])
    const after: (() => void)[] = []
    try {
      const duplicate = await transactions.asSystem('receive an event', async (tx) => {
        after.length = 0
        const known = (await claim(tx, eventSource, [{ key: event.id, fingerprint }])).get(event.id)
        if (known !== undefined && known.fingerprint !== fingerprint) return undefined
        if (known !== undefined) return true
        if (event.type === 'analysis_complete') {
          await enqueue(tx, onboardJob({ userId, assessmentId, eventId: event.id, tier: null }))
          after.push(() => jobs.wake())
        }
        const { assessment, isNew } = await makeAssessment(tx, event)
        if (assessment.userId !== userId) throw new Foreign()
        if (!moves(isNew ? undefined : assessment, event)) return false
        await moveAssessment(tx, event)
        if (results !== null) {
          const { told } = await appoint(tx, deps, { userId, assessmentId, results, trigger: 'event' })
          after.push(told)
        }
        after.push((await inbox.notifyIn(tx, [progressOf(event.type, { userId, assessmentId })])).told)
        return false
      })
      for (const tell of after) tell()
      return duplicate === undefined ? { kind: 'reused' } : { kind: 'received', duplicate }
    } catch (error) {
      if (error instanceof Foreign) return { kind: 'foreign' }
      throw error
    }
  }
}

class Foreign extends Error {}
