/** HTTP of messages: send and regenerate (JSON or a stream), the path in pages, one message. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf, type UserCaller } from '../auth/authenticate.ts'
import { wasDone } from '../conversations/idempotency.ts'
import { readConversation } from '../conversations/queries.ts'
import type { Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { attach, createViewer, outcomeOf, type ResumeDeps, type Watched } from '../generation/engine.ts'
import { idempotencyOf, type Idempotency } from '../http/idempotency.ts'
import { queryInteger } from '../http/pagination.ts'
import { conversationParams, idOrMissing, messageParams } from '../http/params.ts'
import type { LimitName, RateLimits } from '../http/rate-limit.ts'
import type { SseResponses } from '../http/sse.ts'
import { answersFree } from './free.ts'
import { readMessage, readNewestLeafBelow, readPathAfter, readPathUpTo, type PathPage } from './queries.ts'
import { messageSchema, regenerateBody, sendBody, usageSchema, type Message } from './schemas.ts'
import { regenerate, sendMessage, type Turn, type TurnDeps } from './turn.ts'

const pageQuery = z
  .object({
    limit: queryInteger(1, 200, 50),
    // In PostgreSQL's spelling: they are compared with ids that it printed.
    before_id: z.uuid().toLowerCase().optional(),
    after_id: z.uuid().toLowerCase().optional(),
    leaf_id: z.uuid().toLowerCase().optional(),
  })
  .refine((query) => query.before_id === undefined || query.after_id === undefined, {
    path: ['after_id'],
    message: 'goes with before_id in no request: a page has one direction',
  })

export async function messageRoutes(
  instance: FastifyInstance,
  {
    turns,
    resume,
    sse,
    limits,
    watched,
    contentCharsMax,
  }: {
    turns: TurnDeps
    resume: ResumeDeps
    sse: SseResponses
    limits: RateLimits
    watched: Pick<Watched, 'by'>
    contentCharsMax: number
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, links } = turns
  const common = { onRequest: app.requireUser }
  const streamNote = 'With `stream: true` or `Accept: text/event-stream` the answer is an event stream.'

  /** A turn as far as the limits allow: what is asked of a free model counts twice. */
  async function limited(
    request: FastifyRequest,
    reply: FastifyReply,
    wish: { conversationId: string; model: string | undefined },
    idempotency: Idempotency | undefined,
    act: () => Promise<Turn>,
  ): Promise<Turn> {
    const caller = userOf(request)
    const names: LimitName[] = ['messages']
    if (await answersFree(turns, caller, wish)) names.push('free_generations')
    return limits.within(request, reply, names, {
      act,
      counts: (turn) => turn.kind === 'begun',
      repeats: () => wasDone(db, caller, idempotency),
    })
  }

  /** A turn as an event stream: its own generation, or the one that an earlier request with the same key began. */
  async function stream(caller: UserCaller, reply: FastifyReply, turn: Turn): Promise<FastifyReply> {
    const { conversationId, messageId } = turn.kind === 'begun' ? turn.generation : turn
    const { generationId, source } =
      turn.kind === 'begun'
        ? { generationId: turn.generation.id, source: createViewer(turn.generation.log) }
        : await attach(resume, caller, conversationId, messageId, 'start')
    watched.by(reply.raw, generationId)
    void reply.header('content-location', links.stream(conversationId, messageId))
    if (turn.kind === 'replayed') void reply.header('idempotent-replay', 'true')
    return sse.send(reply, source)
  }

  /** A turn waited for: both messages as stored, and why it failed where it did. */
  async function outcome(caller: UserCaller, reply: FastifyReply, turn: Turn) {
    if (turn.kind === 'begun') {
      const settled = await turn.generation.settled
      watched.by(reply.raw, turn.generation.id)
      return { question: turn.userMessage, ...settled }
    }
    void reply.header('idempotent-replay', 'true')
    const { conversationId, messageId } = turn
    const { generationId, message, error } = await outcomeOf(resume, caller, conversationId, messageId)
    watched.by(reply.raw, generationId)
    const parent = message.parent_message_id
    const question =
      parent === null ? undefined : await db.asCaller(caller, (tx) => readMessage(tx, conversationId, parent))
    return { question, message, usage: message.usage, error }
  }

  app.post(
    '/conversations/:id/messages',
    {
      ...common,
      schema: {
        summary: 'Send a message and get its answer',
        description: streamNote,
        tags: ['Messages'],
        params: conversationParams,
        body: sendBody(contentCharsMax),
        response: {
          200: z.object({
            user_message: messageSchema,
            assistant_message: messageSchema,
            usage: usageSchema.nullable(),
          }),
        },
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const caller = userOf(request)
      const idempotency = idempotencyOf(
        request,
        ['send', id, askedFor(request.body)],
        request.body.client_message_id,
      )
      const wish = { conversationId: id, model: request.body.model }
      const turn = await limited(request, reply, wish, idempotency, () =>
        sendMessage(turns, caller, id, request.body, idempotency),
      )
      if (wantsStream(request, request.body)) return stream(caller, reply, turn)
      const { question, message, usage, error } = await outcome(caller, reply, turn)
      const answer = { user_message: found(question), assistant_message: message }
      if (error !== undefined) throw withMessages(error, answer)
      return { ...answer, usage }
    },
  )

  app.post(
    '/conversations/:id/messages/:message_id/regenerate',
    {
      ...common,
      schema: {
        summary: 'Answer the same question again, beside the old answer',
        description: streamNote,
        tags: ['Messages'],
        params: messageParams,
        body: regenerateBody,
        response: {
          200: z.object({
            new_message: messageSchema,
            usage: usageSchema.nullable(),
            original_message_id: z.uuid(),
          }),
        },
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const messageId = idOrMissing(request.params.message_id, 'message_not_found')
      const caller = userOf(request)
      const idempotency = idempotencyOf(request, ['regenerate', id, messageId, askedFor(request.body)])
      const wish = { conversationId: id, model: request.body.model }
      const turn = await limited(request, reply, wish, idempotency, () =>
        regenerate(turns, caller, id, messageId, request.body, idempotency),
      )
      if (wantsStream(request, request.body)) return stream(caller, reply, turn)
      const { message, usage, error } = await outcome(caller, reply, turn)
      const answer = { new_message: message, original_message_id: messageId }
      if (error !== undefined) throw withMessages(error, answer)
      return { ...answer, usage }
    },
  )

  app.get(
    '/conversations/:id/messages',
    {
      ...common,
      schema: {
        summary: 'A path, in pages',
        description:
          'Without a cursor: the newest. before_id: what lies above that message. after_id: what follows it, on the path to the leaf; where the branch in view has changed, on the newest branch below it.',
        tags: ['Messages'],
        params: conversationParams,
        querystring: pageQuery,
        response: {
          200: z.object({
            messages: z.array(messageSchema),
            pagination: z.object({
              limit: z.int(),
              has_more: z.boolean(),
              before_id: z.uuid().nullable(),
              after_id: z.uuid().nullable(),
            }),
          }),
        },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const { limit } = request.query
      const { messages, hasMore } = await db.asCaller(userOf(request), async (tx) => {
        const conversation = await readConversation(tx, id, links)
        if (conversation === undefined) throw new AppError('conversation_not_found')
        return readPage(tx, id, request.query, conversation.current_message_id)
      })
      return {
        messages,
        pagination: {
          limit,
          has_more: hasMore,
          before_id: messages[0]?.id ?? null,
          after_id: messages.at(-1)?.id ?? null,
        },
      }
    },
  )

  app.get(
    '/conversations/:id/messages/:message_id',
    {
      ...common,
      schema: {
        summary: 'One message',
        tags: ['Messages'],
        params: messageParams,
        response: { 200: messageSchema },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const messageId = idOrMissing(request.params.message_id, 'message_not_found')
      return db.asCaller(userOf(request), async (tx) => {
        if ((await readConversation(tx, id, links)) === undefined)
          throw new AppError('conversation_not_found')
        return found(await readMessage(tx, id, messageId))
      })
    },
  )
}

async function readPage(
  tx: Tx,
  conversationId: string,
  query: z.output<typeof pageQuery>,
  currentLeaf: string | null,
): Promise<PathPage> {
  const { limit, before_id, after_id, leaf_id } = query
  if (leaf_id !== undefined) found(await readMessage(tx, conversationId, leaf_id))
  if (before_id !== undefined) {
    const above = found(await readMessage(tx, conversationId, before_id)).parent_message_id
    return above === null ? empty : readPathUpTo(tx, conversationId, above, limit)
  }
  const leaf = leaf_id ?? currentLeaf
  if (leaf === null) return empty
  if (after_id === undefined) return readPathUpTo(tx, conversationId, leaf, limit)

  found(await readMessage(tx, conversationId, after_id))
  const page = await readPathAfter(tx, conversationId, after_id, leaf, limit)
  if (page !== undefined) return page
  if (leaf_id !== undefined)
    throw new AppError('invalid_request', {
      detail: 'after_id is not on the path to leaf_id.',
      errors: [{ path: 'after_id', message: 'is not on the path to leaf_id' }],
    })
  const newest = await readNewestLeafBelow(tx, conversationId, after_id)
  return (await readPathAfter(tx, conversationId, after_id, newest, limit)) ?? empty
}

const empty: PathPage = { messages: [], hasMore: false }

function found(message: Message | undefined): Message {
  if (message === undefined) throw new AppError('message_not_found')
  return message
}

/** A body without what says only how to answer, or under which key. */
const askedFor = (body: object) => ({ ...body, stream: undefined, client_message_id: undefined })

/** One route, two representations: the body's wish or the header's. */
function wantsStream(request: FastifyRequest, body: { stream?: boolean | undefined }): boolean {
  return body.stream === true || /\btext\/event-stream\b/i.test(request.headers.accept ?? '')
}

/** A generation that failed is stored all the same: the problem shows what there is. */
function withMessages(error: AppError, members: Record<string, unknown>): AppError {
  return new AppError(error.code, {
    ...(error.detail !== undefined && { detail: error.detail }),
    ...(error.retryAfter !== undefined && { retryAfter: error.retryAfter }),
    members,
    cause: error.cause,
  })
}
