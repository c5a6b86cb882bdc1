/**
 * The same by hand: where an event was lost, or came too early, its user or a service begins with what is known, or with
 * what the archive knows. A job behind it finishes what a request that dies leaves undone.
 */
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { dismiss, enqueue, type Jobs } from '../jobs/jobs.ts'
import type { Tier } from '../upstream/chain.ts'
import { appoint, type AppointDeps, type Appointed } from './appoint.ts'
import type { Onboarding } from './onboard.ts'
import { onboardJob, onboardKind } from './onboard-job.ts'
import { lockAssessment, makeAssessment, storeResults } from './queries.ts'
import type { AssessmentResults } from './results.ts'

export interface Wish {
  userId: string
  assessmentId: string
  /** Null: a service asks, and knows none. */
  tier: Tier | null
  trigger: string
  /** For a conversation that is made by this. */
  title?: string | undefined
  /** Whether the assistant begins. */
  welcome: boolean
}

export interface ByHand {
  /** @throws AppError assessment_not_found, archive_unavailable, archive_error. */
  results(userId: string, assessmentId: string, signal: AbortSignal): Promise<AssessmentResults>
  /** Makes the conversation where there is none, and sees to it that it gets ready. @throws as `results`. */
  begin(wish: Wish, signal: AbortSignal): Promise<Appointed>
  /** Waits until it is ready, within `signal`. @returns whether it is. */
  ready(wish: Pick<Wish, 'assessmentId' | 'tier'>, signal: AbortSignal): Promise<boolean>
}

export interface ByHandDeps extends AppointDeps {
  transactions: Transactions
  onboarding: Onboarding
  jobs: Pick<Jobs, 'wake'>
  now: () => Date
}

/** The job that is left for what a request does itself begins this much later, ms: longer than that takes. */
const behindMs = 45_000

export function createByHand(deps: ByHandDeps): ByHand {
  const { transactions, onboarding, jobs, now } = deps

  async function results(
    userId: string,
    assessmentId: string,
    signal: AbortSignal,
  ): Promise<AssessmentResults> {
    const answer = await onboarding.findResults(userId, assessmentId, signal).catch((error: unknown) => {
      // Nobody waits any more.
      if (signal.aborted) throw new AppError('archive_unavailable', { retryAfter: 5, cause: error })
      throw error
    })
    switch (answer.kind) {
      case 'found':
        return answer.results
      case 'missing':
      case 'foreign':
        throw new AppError('assessment_not_found')
      case 'unavailable':
        throw new AppError('archive_unavailable', {
          detail: 'The results cannot be had at the moment: try again.',
          retryAfter: Math.ceil((answer.retryAfterMs ?? 5_000) / 1000),
        })
      case 'unusable':
        throw new AppError('archive_error', {
          detail: 'The results that are kept of this assessment cannot be read.',
        })
      default:
        return answer satisfies never
    }
  }

  return {
    results,
    async begin(wish, signal) {
      const { userId, assessmentId, tier, title, trigger, welcome } = wish
      const found = await results(userId, assessmentId, signal)
      const appointed = await transactions.asSystem('begin by hand', async (tx) => {
        if (welcome) await enqueue(tx, onboardJob({ userId, assessmentId, eventId: null, tier }, behindMs))
        const { assessment, isNew } = await makeAssessment(tx, {
          id: '',
          type: 'analysis_complete',
          userId,
          assessmentId,
          version: null,
          occurredAt: found.assessment_date ?? now().toISOString(),
          results: found,
        })
        // Somebody else's event was faster than the archive's answer about it.
        if (assessment.userId !== userId) throw new AppError('assessment_not_found')
        if (isNew || assessment.results === null) await storeResults(tx, assessmentId, found)
        const known = isNew ? found : (assessment.results ?? found)
        return appoint(tx, deps, { userId, assessmentId, results: known, title, trigger })
      })
      appointed.told()
      if (welcome) jobs.wake(behindMs)
      return appointed
    },
    async ready({ assessmentId, tier }, signal) {
      const { kind } = await onboarding.advance(assessmentId, tier, signal)
      if (kind !== 'ready') return false
      await transactions.asSystem('begun by hand', async (tx) => {
        await dismiss(tx, onboardKind, assessmentId)
        // What came meanwhile relied on that job.
        const assessment = await lockAssessment(tx, assessmentId)
        if (assessment?.stage === 'complete' && assessment.results === null)
          await enqueue(tx, onboardJob({ userId: assessment.userId, assessmentId, eventId: null, tier }))
      })
      return true
    },
  }
}
