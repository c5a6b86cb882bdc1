/**
 * From results to a ready adviser: the steps that take time, each of them done once however often it is tried.
 *
 * What is done stands in the database, so whoever comes next goes on from there: results → conversation → welcome →
 * suggestions, and the row of the inbox. A job does it, on any instance; a request by hand does the same steps at
 * once, and the job behind it finds them done. The welcome is an answer like others: it streams, it may be stopped, and
 * where its process dies another one begins it anew.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Transactions, Tx } from '../db/database.ts'
import type { Engine } from '../generation/engine.ts'
import { enqueue, type Jobs } from '../jobs/jobs.ts'
import { createRoom } from '../jobs/room.ts'
import type { Logger } from '../logging.ts'
import type { Inbox } from '../notifications/notify.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Tier } from '../upstream/chain.ts'
import type { Opened, Opening } from '../messages/opening.ts'
import { begunMax, questionsFor, welcomeOf } from './adviser.ts'
import { appoint, type AppointDeps } from './appoint.ts'
import type { Archive, ArchiveAnswer } from './archive-client.ts'
import { progressOf } from './inbox-row.ts'
import { rewriteJob, tiersOf } from './onboard-job.ts'
import {
  lockAssessment,
  noteReady,
  noteSuggestions,
  readAdviser,
  readAssessment,
  readBeginning,
  storeResults,
  type Assessment,
  type Welcome,
} from './queries.ts'
import type { AssessmentResults } from './results.ts'

export type Onboarded =
  | { kind: 'ready'; conversationId: string }
  /** Its welcome is being written. */
  | { kind: 'writing'; conversationId: string }
  /** Nothing is to be done: no such assessment, not analysed yet, or its conversation was deleted. */
  | { kind: 'nothing' }
  /** Its results cannot be had. */
  | { kind: 'without_results'; answer: Exclude<ArchiveAnswer, { kind: 'found' }> | { kind: 'foreign' } }

export interface Onboarding {
  /** Goes on from wherever it stands. Within `signal`: what is not over by then is `writing`. @throws what a database does. */
  advance(assessmentId: string, tier: Tier | null, signal: AbortSignal): Promise<Onboarded>
  /** An assessment's results, as somebody may have them who is this user, or a service that speaks for them. */
  findResults(
    userId: string,
    assessmentId: string,
    signal: AbortSignal,
  ): Promise<
    { kind: 'found'; results: AssessmentResults } | Extract<Onboarded, { kind: 'without_results' }>['answer']
  >
}

export interface OnboardingDeps extends AppointDeps {
  transactions: Transactions
  engine: Pick<Engine, 'find'>
  /** messages/opening.ts */
  open: (userId: string, conversationId: string, opening: Opening) => Promise<Opened>
  /** Undefined: results come with their events, or not at all. */
  archive: Archive | undefined
  inbox: Pick<Inbox, 'notifyIn'>
  outbox: Outbox
  jobs: Pick<Jobs, 'wake'>
  log: Logger
}

/** Transactions at once: with four a burst of 200 events was told 1.5 s late (p95), with two 0.9 s. Waiting for a model takes none. */
const stepsMax = 2
/** Between two looks at a welcome that another instance writes, ms. */
const lookMs = 500
/** A welcome that no model has written is tried again after this, ms. */
const rewriteAfterMs = 60_000

export function createOnboarding(deps: OnboardingDeps): Onboarding {
  const { transactions, archive, inbox, outbox, jobs, log } = deps
  const step = createRoom(stepsMax)
  const read = <T>(work: (tx: Tx) => Promise<T>) => step(() => transactions.asSystem('onboard', work))

  async function advance(assessmentId: string, tier: Tier | null, signal: AbortSignal): Promise<Onboarded> {
    for (;;) {
      const assessment = await read((tx) => readAssessment(tx, assessmentId))
      if (assessment?.stage !== 'complete') return { kind: 'nothing' }
      if (assessment.results === null || !assessment.hasResults) {
        const found = await findResults(assessment.userId, assessmentId, signal)
        if (found.kind !== 'found') return { kind: 'without_results', answer: found }
        await takeResults(assessment, found.results)
        continue
      }
      const conversation = await read((tx) => readAdviser(tx, assessment.userId, assessmentId))
      if (conversation === undefined) return { kind: 'nothing' }
      if (assessment.isReady) return { kind: 'ready', conversationId: conversation.id }
      const { id } = conversation
      const { welcomes, hasSpoken } = await read((tx) => readBeginning(tx, id))
      const [welcome] = welcomes
      if (welcome?.status === 'streaming') {
        if (signal.aborted) return { kind: 'writing', conversationId: id }
        await settledOrLater(welcome, signal)
      } else if (
        hasSpoken ||
        conversation.status === 'archived' ||
        (welcome !== undefined && isSaid(welcome))
      ) {
        const standing = { ...conversation, welcome, hasSpoken }
        if (await step(() => makeReady(assessment, standing, tier)))
          return { kind: 'ready', conversationId: id }
      } else {
        const tiers = welcomes.length < begunMax ? tiersOf(tier) : []
        const opening = welcomeOf(assessmentId, assessment.results, tiers)
        await step(() => deps.open(assessment.userId, id, opening))
      }
    }
  }

  async function findResults(
    userId: string,
    assessmentId: string,
    signal: AbortSignal,
  ): Promise<
    | { kind: 'found'; results: AssessmentResults }
    | Exclude<ArchiveAnswer, { kind: 'found' }>
    | { kind: 'foreign' }
  > {
    const known = await read((tx) => readAssessment(tx, assessmentId))
    if (known !== undefined && known.userId !== userId) return { kind: 'foreign' }
    if (known?.hasResults === true && known.results !== null) return { kind: 'found', results: known.results }
    if (archive === undefined) return { kind: 'missing' }
    const answer = await archive.fetch(assessmentId, signal)
    if (answer.kind !== 'found') return answer
    // Whose it is has to be said where nobody has told us of it before.
    const owner = answer.userId ?? known?.userId
    return owner === userId ? { kind: 'found', results: answer.results } : { kind: 'foreign' }
  }

  async function takeResults({ id, userId }: Assessment, results: AssessmentResults): Promise<void> {
    const take = async (tx: Tx) => {
      // A newer event may have brought them meanwhile.
      if ((await lockAssessment(tx, id))?.hasResults !== false) return undefined
      await storeResults(tx, id, results)
      return appoint(tx, deps, { userId, assessmentId: id, results, trigger: 'event' })
    }
    const made = await step(() => transactions.asSystem('take results', take))
    made?.told()
  }

  /** Its end, where it is written here; else the time to look again. */
  async function settledOrLater({ generation_id }: Welcome, signal: AbortSignal): Promise<void> {
    const here = generation_id === null ? undefined : deps.engine.find(generation_id)
    const { promise: aborted, resolve } = Promise.withResolvers<unknown>()
    signal.addEventListener('abort', resolve, { once: true })
    const later = delay(lookMs, undefined, { signal }).catch(() => undefined)
    await Promise.race([here === undefined ? later : here.settled, aborted])
  }

  /** The last step, once: suggestions, the row of the inbox, and the event. @returns false where it is too early. */
  async function makeReady(
    { id: assessmentId, userId }: Assessment,
    conversation: { id: string; title: string; welcome: Welcome | undefined; hasSpoken: boolean },
    tier: Tier | null,
  ): Promise<boolean> {
    const { id: conversationId, title, welcome, hasSpoken } = conversation
    const isComposed = welcome?.composed === true && !hasSpoken
    const done = await transactions.asSystem('an adviser is ready', async (tx) => {
      if (isComposed) await enqueue(tx, rewriteJob({ conversationId, userId, tier }, rewriteAfterMs))
      const assessment = await lockAssessment(tx, assessmentId)
      // A newer version came, without its results.
      if (assessment?.results == null || !assessment.hasResults) return undefined
      if (assessment.isReady) return { told: undefined }
      // Deleted meanwhile.
      if ((await readAdviser(tx, userId, assessmentId))?.id !== conversationId) return undefined
      const suggestions = questionsFor(assessment.results, welcome?.content)
      await noteReady(tx, assessmentId, suggestions)
      if (welcome !== undefined) await noteSuggestions(tx, conversationId, welcome.id, suggestions)
      await outbox.append(tx, [
        {
          routingKey: 'chat.conversation_ready',
          userId,
          data: { conversation_id: conversationId, assessment_id: assessmentId, title },
        },
      ])
      return inbox.notifyIn(tx, [progressOf('chatbot_ready', { userId, assessmentId, conversationId })])
    })
    if (done === undefined) return false
    if (done.told !== undefined) {
      done.told()
      outbox.wake('chat.conversation_ready')
      log.info(
        { event: 'adviser_ready', conversationId, composed: welcome?.composed ?? null },
        'an adviser is ready',
      )
    }
    if (isComposed) jobs.wake(rewriteAfterMs)
    return true
  }

  return { advance, findResults }
}

/** There is something to read, or its user did not want any. */
const isSaid = ({ status }: Welcome) => status === 'complete' || status === 'stopped'
