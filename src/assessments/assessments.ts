/** Door of assessments: the folder's parts, put together. None of them has a lifetime of its own. */
import type { JobHandler } from '../jobs/jobs.ts'
import { open, type OpeningDeps } from '../messages/opening.ts'
import { createByHand, type ByHand } from './by-hand.ts'
import { createDeliveryHandler, type DeliveryOutcome } from './delivery.ts'
import { createOnboarding, type OnboardingDeps } from './onboard.ts'
import { createOnboardHandler } from './onboard-handler.ts'
import { onboardKind, rewriteKind } from './onboard-job.ts'
import { createReceive, type Receive } from './receive.ts'
import { createRewriteHandler, type RewriteDeps } from './rewrite.ts'

export interface Assessments {
  /** An event, whichever way it came. */
  receive: Receive
  /** Of a message of the queue. */
  handle: (delivery: { body: Buffer }) => Promise<DeliveryOutcome>
  byHand: ByHand
  /** By kind of job. */
  jobHandlers: Record<string, JobHandler>
}

export type AssessmentsDeps = Omit<OnboardingDeps, 'open'> &
  RewriteDeps & {
    /** Asked when a welcome begins: who answers is made after the jobs that begin it. */
    openings: () => OpeningDeps
  }

export function createAssessments(deps: AssessmentsDeps): Assessments {
  const now = () => new Date()
  const onboarding = createOnboarding({
    ...deps,
    open: (userId, conversationId, opening) => open(deps.openings(), userId, conversationId, opening),
  })
  const receive = createReceive({ ...deps, now })
  return {
    receive,
    handle: createDeliveryHandler(receive),
    byHand: createByHand({ ...deps, onboarding, now }),
    jobHandlers: {
      [onboardKind]: createOnboardHandler({ ...deps, onboarding, backoff: undefined }),
      [rewriteKind]: createRewriteHandler(deps),
    },
  }
}
