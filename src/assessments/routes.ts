/** HTTP of assessments: a conversation about one, by hand; what is known of it, and what may be asked in it. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import { lockConversation, readConversation } from '../conversations/queries.ts'
import type { Database, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Links } from '../http/links.ts'
import { conversationParams, idOrMissing } from '../http/params.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { readMessage, readPathUpTo } from '../messages/queries.ts'
import { contextOf } from './adviser.ts'
import type { ByHand } from './by-hand.ts'
import { assessmentId } from './event.ts'
import { conversationQuestions } from './questions.ts'
import { addContext, readAdviser, readBeginning, readNewest } from './queries.ts'
import {
  adviserAnswer,
  autoInitializeAnswer,
  autoInitializeBody,
  contextAnswer,
  contextBody,
  fromAssessmentAnswer,
  fromAssessmentBody,
  initializeAnswer,
  initializeBody,
  readyAnswer,
  suggestionsSchema,
  type Readiness,
} from './schemas.ts'

export interface AssessmentRoutesOptions {
  db: Database
  byHand: ByHand
  links: Links
  limits: RateLimits
}

const tags = ['Assessments']
/** As a conversation comes with its path. */
const pathMessagesMax = 200
/** A welcome is waited for so long, ms: what takes longer comes over its stream. */
const welcomeMs = 30_000
/** A service is told soon whether it is ready, ms. */
const readyMs = 10_000

export async function assessmentRoutes(
  instance: FastifyInstance,
  { db, byHand, links, limits }: AssessmentRoutesOptions,
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const common = { onRequest: app.requireUser }

  async function conversationOf(tx: Tx, id: string) {
    const conversation = await readConversation(tx, id, links)
    if (conversation === undefined) throw new AppError('conversation_not_found')
    return conversation
  }

  app.post(
    '/conversations/from-assessment',
    {
      ...common,
      schema: {
        summary: 'A conversation about my assessment',
        description: [
          'There is one for each assessment: where it exists it is the one that is answered. The assistant begins, and',
          'that message is waited for, for 30 seconds; one that takes longer comes with status `streaming`, and over its stream.',
        ].join('\n'),
        tags,
        body: fromAssessmentBody,
        response: { 201: fromAssessmentAnswer },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const { title, auto_start_message: welcome } = request.body
      const id = request.body.assessment_id ?? (await newestOf(caller.userId))
      const { userId, tier } = caller
      const wish = { userId, tier, assessmentId: id, trigger: 'user', title, welcome }
      const exists = () =>
        db.asCaller(caller, (tx) => readAdviser(tx, caller.userId, id)).then((row) => row !== undefined)
      const { conversationId } = await limits.within(request, reply, ['conversations'], {
        act: () => byHand.begin(wish, gone(reply)),
        counts: ({ isNew }) => isNew,
        repeats: exists,
      })
      if (welcome) await byHand.ready(wish, within(reply, welcomeMs))
      const answer = await db.asCaller(caller, async (tx) => {
        const conversation = await conversationOf(tx, conversationId)
        const [first] = (await readBeginning(tx, conversationId)).welcomes
        return {
          conversation,
          initial_message:
            first === undefined ? null : ((await readMessage(tx, conversationId, first.id)) ?? null),
          suggestions: await conversationQuestions(tx, conversationId),
        }
      })
      return reply.code(201).header('location', links.conversation(conversationId)).send(answer)
    },
  )

  async function newestOf(userId: string): Promise<string> {
    const newest = await db.asCaller({ userId }, (tx) => readNewest(tx, userId))
    if (newest === undefined)
      throw new AppError('assessment_not_found', { detail: 'No assessment of yours is known.' })
    return newest.id
  }

  app.post(
    '/conversations/:id/context/assessment',
    {
      ...common,
      schema: {
        summary: 'Let a conversation know an assessment',
        description: 'What it knows of another one is replaced.',
        tags,
        params: conversationParams,
        body: contextBody,
        response: { 200: contextAnswer },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      await db.asCaller(caller, (tx) => conversationOf(tx, id))
      const results = await byHand.results(caller.userId, request.body.assessment_id, gone(reply))
      await db.asCaller(caller, async (tx) => {
        if ((await lockConversation(tx, id)) === undefined) throw new AppError('conversation_not_found')
        await addContext(tx, id, contextOf(request.body.assessment_id, results))
      })
      return {
        context_added: true as const,
        assessment_data: { ...results, assessment_id: request.body.assessment_id, user_id: caller.userId },
      }
    },
  )

  app.get(
    '/conversations/assessment-ready/:user_id',
    {
      onRequest: app.requireUserOrService,
      schema: {
        summary: 'Whether a user has results, and an adviser for them',
        description: 'For the user, or a service. Of several assessments the newest one that is analysed.',
        tags,
        params: z.object({ user_id: z.string() }),
        response: { 200: readyAnswer },
      },
    },
    async (request) => {
      const { user_id: userId } = request.params
      if (request.caller?.kind === 'user' && request.caller.userId !== userId)
        throw new AppError('forbidden', { detail: 'Ask for yourself.' })
      if (userId === '' || userId.includes('\0')) return unknown
      return db.asCaller({ userId }, (tx) => readReadiness(tx, userId))
    },
  )

  app.get(
    '/conversations/:id/suggestions',
    {
      ...common,
      schema: {
        summary: 'What may be asked next',
        description: 'Six to eight questions, in the language of the conversation.',
        tags,
        params: conversationParams,
        response: { 200: z.object({ suggestions: suggestionsSchema }) },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      return db.asCaller(userOf(request), async (tx) => {
        await conversationOf(tx, id)
        return { suggestions: await conversationQuestions(tx, id) }
      })
    },
  )

  const assessmentParams = z.object({ assessment_id: z.string() })

  app.get(
    '/assessment/:assessment_id/conversation',
    {
      ...common,
      schema: {
        summary: 'The conversation about my assessment, and its path',
        tags,
        params: assessmentParams,
        response: { 200: adviserAnswer },
      },
    },
    async (request) => {
      const caller = userOf(request)
      const id = idOf(request.params.assessment_id)
      if (id === undefined) return { exists: false }
      return db.asCaller(caller, async (tx) => {
        const adviser = await readAdviser(tx, caller.userId, id)
        if (adviser === undefined) return { exists: false }
        const conversation = await conversationOf(tx, adviser.id)
        const leaf = conversation.current_message_id
        const path = leaf === null ? undefined : await readPathUpTo(tx, adviser.id, leaf, pathMessagesMax)
        return { exists: true, conversation, messages: path?.messages ?? [] }
      })
    },
  )

  app.post(
    '/assessment/:assessment_id/initialize',
    {
      ...common,
      schema: {
        summary: 'Begin by hand what an event should have begun',
        description: 'Answers at once: the welcome streams into the conversation.',
        tags,
        params: assessmentParams,
        body: initializeBody,
        response: { 200: initializeAnswer },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const id = idOf(request.params.assessment_id)
      if (id === undefined) throw new AppError('assessment_not_found')
      const { trigger_source: trigger = 'manual' } = request.body
      const wish = { userId: caller.userId, tier: caller.tier, assessmentId: id, trigger, welcome: true }
      const { conversationId, isNew } = await limits.within(request, reply, ['conversations'], {
        act: () => byHand.begin(wish, gone(reply)),
        counts: (made) => made.isNew,
        repeats: () =>
          db.asCaller(caller, (tx) => readAdviser(tx, caller.userId, id)).then((row) => row !== undefined),
      })
      // The job behind it goes on where this does not.
      byHand.ready(wish, AbortSignal.timeout(welcomeMs)).catch(() => undefined)
      const message = isNew ? 'Your adviser is getting ready.' : 'Your adviser is there.'
      return { success: true as const, message, conversation_id: conversationId }
    },
  )

  app.post(
    '/conversations/auto-initialize',
    {
      onRequest: app.requireService,
      schema: {
        summary: 'The same for a user, by a service',
        tags,
        body: autoInitializeBody,
        response: { 200: autoInitializeAnswer },
      },
    },
    async (request, reply) => {
      const { user_id: userId, assessment_id: id, trigger_source: trigger = 'service' } = request.body
      const wish = { userId, assessmentId: id, tier: null, trigger, welcome: true }
      const { conversationId } = await byHand.begin(wish, gone(reply))
      const ready = await byHand.ready(wish, within(reply, readyMs))
      const initial_suggestions = await db.asCaller({ userId }, (tx) =>
        conversationQuestions(tx, conversationId),
      )
      return { conversation_id: conversationId, ready, initial_suggestions }
    },
  )
}

/** What is no id names nothing. */
const idOf = (given: string): string | undefined => assessmentId.safeParse(given).data

/** Whoever has left needs no answer; what was begun goes on behind them. */
const gone = (reply: FastifyReply) => within(reply, welcomeMs)

function within(reply: FastifyReply, ms: number): AbortSignal {
  const left = new AbortController()
  reply.raw.once('close', () => left.abort())
  return AbortSignal.any([left.signal, AbortSignal.timeout(ms)])
}

const unknown: Readiness = {
  has_assessment: false,
  assessment_date: null,
  assessment_id: null,
  conversation_exists: false,
  conversation_id: null,
  ready_for_chatbot: false,
}

async function readReadiness(tx: Tx, userId: string): Promise<Readiness> {
  const newest = await readNewest(tx, userId)
  if (newest?.stage !== 'complete') return unknown
  const adviser = await readAdviser(tx, userId, newest.id)
  return {
    has_assessment: true,
    assessment_date: newest.results?.assessment_date ?? newest.occurredAt,
    assessment_id: newest.id,
    conversation_exists: adviser !== undefined,
    conversation_id: adviser?.id ?? null,
    ready_for_chatbot: adviser !== undefined && newest.isReady,
  }
}
