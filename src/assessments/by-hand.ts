/**
 * The same by hand: where an event was lost, or came too early, its user or a service begins with what is known, or with
 * what the archive knows. A job behind it finishes what a request that dies leaves undone.
 */
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { dismiss, enqueue, type Jobs } from '../jobs/jobs.ts'
import type { Tier } from '../upstream/chain.ts'
import { questionsFor } from './adviser.ts'
import { appoint, type AppointDeps, type Appointed } from './appoint.ts'
import type { Onboarding } from './onboard.ts'
import { onboardJob, onboardKind } from './onboard-job.ts'
import {
  isUnfinished,
  makeAssessment,
  noteReady,
  noteUnready,
  readAssessment,
  readBeginning,
  storeResults,
} from './queries.ts'
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
  ready(wish: Pick<Wish, 'userId' | 'assessmentId' | 'tier'>, signal: AbortSignal): Promise<boolean>
}

export interface ByHandDeps extends AppointDeps {
  transactions: Transactions
  onboarding: Onboarding
  jobs: Pick<Jobs, 'wake'>
  now: () => Date
}

/** The job behind a request begins this much later, ms. Both may be at it at once: each step is done once. */
const behindMs = 2_000

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
    if (answer.kind === 'found') return answer.results
    const older = answer.kind === 'foreign' ? undefined : await readOwnResults(userId, assessmentId)
    if (older !== undefined) return older
    switch (answer.kind) {
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

  /** An adviser that is there goes on with what it knows, also while newer results are looked for. */
  async function readOwnResults(
    userId: string,
    assessmentId: string,
  ): Promise<AssessmentResults | undefined> {
    const known = await transactions.asCaller({ userId }, (tx) => readAssessment(tx, assessmentId))
    return known?.results ?? undefined
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
        // What an older version found stays until its job has the newer ones.
        const known = isNew ? found : (assessment.results ?? found)
        if (known === found) await storeResults(tx, assessmentId, found)
        const made = await appoint(tx, deps, { userId, assessmentId, results: known, title, trigger })
        // Without a welcome it is ready as it is; where one is wanted after all, it is not.
        if (!welcome && made.isNew) await noteReady(tx, assessmentId, questionsFor(known, undefined))
        else if (welcome && (await isSilent(tx, made.conversationId))) await noteUnready(tx, assessmentId)
        return made
      })
      appointed.told()
      if (welcome) jobs.wake(behindMs)
      return appointed
    },
    async ready({ userId, assessmentId, tier }, signal) {
      const { kind } = await onboarding.advance(assessmentId, tier, signal)
      if (kind !== 'ready') return false
      await transactions.asSystem('begun by hand', async (tx) => {
        await dismiss(tx, onboardKind, assessmentId)
        // What came meanwhile relied on that job.
        if (await isUnfinished(tx, assessmentId))
          await enqueue(tx, onboardJob({ userId, assessmentId, eventId: null, tier }))
      })
      return true
    },
  }
}

/** Nobody has said anything in it. */
async function isSilent(tx: Tx, conversationId: string): Promise<boolean> {
  const { welcomes, hasSpoken } = await readBeginning(tx, conversationId)
  return welcomes.length === 0 && !hasSpoken
}
