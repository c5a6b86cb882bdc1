/** The job that makes an adviser ready: what its steps say → what becomes of it, and of whom it was for where it fails. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { enqueue, type JobHandler, type JobOutcome, type TakenJob } from '../jobs/jobs.ts'
import type { Inbox } from '../notifications/notify.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { progressOf } from './inbox-row.ts'
import type { Onboarded, Onboarding } from './onboard.ts'
import { onboardJob, onboardPayload } from './onboard-job.ts'
import { isUnfinished, keepOldResults, lockAssessment } from './queries.ts'
import { eventSource } from './receive.ts'

export interface OnboardHandlerDeps {
  onboarding: Onboarding
  inbox: Pick<Inbox, 'notifyIn'>
  outbox: Outbox
  /** For tests. */
  backoff?: JobHandler['backoff'] | undefined
}

/** An archive that is away for a quarter of an hour is waited for. */
const attemptsMax = 8
const defaultBackoff = { firstMs: 10_000, maxMs: 300_000 }
/** Welcomes that are written at once here, each a stream of its own: what they do besides waiting has room for few (onboard.ts). */
const runningMax = 64
/** One look at a welcome, ms: less than an attempt at a job gets. */
const lookMs = 20_000
/** Between two, ms. */
const againMs = 500

export function createOnboardHandler(deps: OnboardHandlerDeps): JobHandler {
  const { onboarding, inbox, outbox, backoff = defaultBackoff } = deps

  return {
    attemptsMax,
    backoff,
    runningMax,
    async run({ key: assessmentId, payload }, signal) {
      const asked = onboardPayload.parse(payload)
      const within = AbortSignal.any([signal, AbortSignal.timeout(lookMs)])
      const onboarded = await onboarding.advance(assessmentId, asked.tier, within)
      return outcomeOf(onboarded, async (tx) => {
        // What came while this was done, and relied on it.
        if (await isUnfinished(tx, assessmentId)) await enqueue(tx, onboardJob({ assessmentId, ...asked }))
      })
    },
    buried,
  }

  /** Its user is told, and may begin by hand; the event goes where it can be sent again from, and counts as new then. */
  async function buried(tx: Tx, { key: assessmentId, payload }: TakenJob, why: string): Promise<void> {
    const { userId, eventId } = onboardPayload.parse(payload)
    const assessment = await lockAssessment(tx, assessmentId)
    if (assessment === undefined || assessment.hasResults) return
    if (eventId !== null) {
      await tx.execute(
        sql`delete from chat.processed_events where source = ${eventSource} and event_id = ${eventId}`,
      )
      const { version, occurredAt: occurred_at } = assessment
      const event = { event_id: eventId, user_id: userId, assessment_id: assessmentId, occurred_at, version }
      await outbox.deadLetter(tx, {
        routingKey: 'analysis.complete',
        payload: { type: 'analysis_complete', ...event },
        reason: why,
      })
    }
    if (assessment.results !== null && why !== foreign) {
      // The adviser that is there goes on with what it knows.
      await keepOldResults(tx, assessmentId)
      await enqueue(tx, onboardJob({ assessmentId, ...onboardPayload.parse(payload) }))
      return
    }
    // Whoever it really belongs to may be told of it; nothing of it was ever here.
    if (why === foreign)
      await tx.execute(sql`delete from chat.assessments where assessment_id = ${assessmentId}`)
    else
      await tx.execute(
        sql`update chat.assessments set stage = 'failed', updated_at = now() where assessment_id = ${assessmentId}`,
      )
    await inbox.notifyIn(tx, [progressOf('analysis_failed', { userId, assessmentId })])
  }
}

const foreign = 'foreign_assessment'

function outcomeOf(onboarded: Onboarded, write: (tx: Tx) => Promise<void>): JobOutcome {
  switch (onboarded.kind) {
    case 'ready':
    case 'nothing':
      return { kind: 'done', write }
    case 'writing':
      return { kind: 'later', afterMs: againMs }
    case 'without_results':
      return withoutResults(onboarded.answer)
    default:
      return onboarded satisfies never
  }
}

function withoutResults(answer: Extract<Onboarded, { kind: 'without_results' }>['answer']): JobOutcome {
  switch (answer.kind) {
    case 'unavailable':
      return { kind: 'retry', why: `archive_${answer.why}`, afterMs: answer.retryAfterMs }
    case 'missing':
      // The event may have been faster than the archive.
      return { kind: 'retry', why: 'results_missing' }
    case 'unusable':
      return { kind: 'dead', why: `results_unusable: ${answer.why}` }
    case 'foreign':
      return { kind: 'dead', why: foreign }
    default:
      return answer satisfies never
  }
}
