/** HTTP of conversations: list, make, read, change, delete, fork; the path and the tree. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { v7 as uuidv7 } from 'uuid'
import { z } from 'zod'
import { userOf, type UserCaller } from '../auth/authenticate.ts'
import type { Database, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine } from '../generation/engine.ts'
import { idempotencyOf, type Idempotency } from '../http/idempotency.ts'
import type { Links } from '../http/links.ts'
import { decodeCursor, encodeCursor, queryInteger } from '../http/pagination.ts'
import { conversationParams, idOrMissing } from '../http/params.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { readMessage, readPathUpTo, readTree } from '../messages/queries.ts'
import { messageSchema } from '../messages/schemas.ts'
import type { ModelChain } from '../upstream/chain.ts'
import { changeOf, type TellDevices } from './changes.ts'
import { deleteConversation } from './delete.ts'
import { forkConversation } from './fork.ts'
import { AlreadyDone, claimKey, wasDone } from './idempotency.ts'
import {
  insertConversation,
  listConversations,
  lockConversation,
  readConversation,
  updateConversation,
} from './queries.ts'
import {
  contextTypeSchema,
  conversationSchema,
  createBody,
  forkBody,
  updateBody,
  type ConversationChange,
  type UpdateBody,
} from './schemas.ts'
import { defaultTitle } from './title.ts'

/** Messages of a path that come with its conversation; older ones are paged with `before_id`. */
const pathMessagesMax = 200
const offsetMax = 100_000

const listQuery = z.object({
  status: z.enum(['active', 'archived']).default('active'),
  context_type: contextTypeSchema.optional(),
  limit: queryInteger(1, 100, 20),
  offset: queryInteger(0, offsetMax, 0),
  cursor: z.string().max(200).optional(),
})

/** A time as we print it; PostgreSQL knows no year 0. */
const cursorTime = z.iso.datetime({ precision: 3 }).refine((time) => !time.startsWith('0000'))
const cursorFields = z.tuple([cursorTime, z.uuid()])

export async function conversationRoutes(
  instance: FastifyInstance,
  {
    db,
    engine,
    chain,
    links,
    limits,
    tellDevices,
  }: {
    db: Database
    engine: Engine
    chain: ModelChain
    links: Links
    limits: RateLimits
    tellDevices: TellDevices
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const common = { onRequest: app.requireUser }
  const missing = () => new AppError('conversation_not_found')

  /** Makes a conversation under a new id; a repeated request with the same key gets the one that was made before. */
  async function makeOnce(
    request: FastifyRequest,
    caller: UserCaller,
    reply: FastifyReply,
    how: 'created' | 'forked',
    idempotency: Idempotency | undefined,
    make: (tx: Tx, id: string) => Promise<void>,
  ): Promise<FastifyReply> {
    const id = uuidv7()
    const read = async (tx: Tx, madeId: string) => {
      const conversation = await readConversation(tx, madeId, links)
      if (conversation === undefined) throw missing()
      return conversation
    }
    const act = () =>
      db
        .asCaller(caller, async (tx) => {
          await claimKey(tx, caller, idempotency, { conversationId: id, messageId: null })
          await make(tx, id)
          return read(tx, id)
        })
        .catch((error: unknown) => {
          if (!(error instanceof AlreadyDone)) throw error
          void reply.header('idempotent-replay', 'true')
          return db.asCaller(caller, (tx) => read(tx, error.claimed.conversationId))
        })
    const conversation = await limits.within(request, reply, ['conversations'], {
      act,
      counts: (made) => made.id === id,
      repeats: () => wasDone(db, caller, idempotency),
    })
    if (conversation.id === id) tellDevices(caller.userId, changeOf(conversation, how))
    return reply.code(201).header('location', links.conversation(conversation.id)).send(conversation)
  }

  app.get(
    '/conversations',
    {
      ...common,
      schema: {
        summary: 'My conversations, newest activity first',
        tags: ['Conversations'],
        querystring: listQuery,
        response: {
          200: z.object({
            conversations: z.array(conversationSchema),
            total: z.int(),
            pagination: z.object({
              limit: z.int(),
              offset: z.int(),
              has_more: z.boolean(),
              next_cursor: z.string().nullable(),
            }),
          }),
        },
      },
    },
    async (request) => {
      const caller = userOf(request)
      const { status, context_type, limit, offset, cursor } = request.query
      const after = cursor === undefined ? undefined : decodeCursor(cursor, cursorFields)
      const from = after === undefined ? { offset } : { after: { activityAt: after[0], id: after[1] } }
      const { conversations, total, next } = await db.asCaller(caller, (tx) =>
        listConversations(tx, caller.userId, { status, contextType: context_type, limit, from }, links),
      )
      return {
        conversations,
        total,
        pagination: {
          limit,
          offset,
          has_more: next !== undefined,
          next_cursor: next === undefined ? null : encodeCursor(next.activityAt, next.id),
        },
      }
    },
  )

  app.post(
    '/conversations',
    {
      ...common,
      schema: {
        summary: 'Make a conversation',
        tags: ['Conversations'],
        body: createBody,
        response: { 201: conversationSchema },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const { title, context_type, context_data, metadata, model } = request.body
      if (model !== undefined) chain.assertAllowed(model, caller.tier)
      const idempotency = idempotencyOf(request, ['conversation', request.body])
      return makeOnce(request, caller, reply, 'created', idempotency, async (tx, id) => {
        await insertConversation(tx, {
          id,
          userId: caller.userId,
          title: title ?? defaultTitle,
          titleSource: title === undefined ? 'default' : 'user',
          contextType: context_type,
          contextData: context_data,
          metadata,
          model: model ?? null,
        })
      })
    },
  )

  app.get(
    '/conversations/:id',
    {
      ...common,
      schema: {
        summary: 'A conversation and the path to a leaf',
        description: `At most the newest ${pathMessagesMax} messages; older ones with before_id at …/messages.`,
        tags: ['Conversations'],
        params: conversationParams,
        querystring: z.object({ leaf_id: z.uuid().optional() }),
        response: { 200: z.object({ conversation: conversationSchema, messages: z.array(messageSchema) }) },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      return db.asCaller(userOf(request), async (tx) => {
        const conversation = await readConversation(tx, id, links)
        if (conversation === undefined) throw missing()
        const leaf = request.query.leaf_id ?? conversation.current_message_id
        if (leaf === null) return { conversation, messages: [] }
        const { messages } = await readPathUpTo(tx, id, leaf, pathMessagesMax)
        if (messages.length === 0) throw new AppError('message_not_found')
        return { conversation, messages }
      })
    },
  )

  app.get(
    '/conversations/:id/tree',
    {
      ...common,
      schema: {
        summary: 'Every branch',
        tags: ['Conversations'],
        params: conversationParams,
        response: {
          200: z.object({
            head_id: z.uuid().nullable(),
            messages: z.array(z.object({ parent_id: z.uuid().nullable(), message: messageSchema })),
          }),
        },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      return db.asCaller(userOf(request), async (tx) => {
        const conversation = await readConversation(tx, id, links)
        if (conversation === undefined) throw missing()
        const messages = await readTree(tx, id)
        return {
          head_id: conversation.current_message_id,
          messages: messages.map((message) => ({ parent_id: message.parent_message_id, message })),
        }
      })
    },
  )

  for (const method of ['PUT', 'PATCH'] as const)
    app.route({
      ...common,
      method,
      url: '/conversations/:id',
      schema: {
        summary: 'Change title, status, metadata, or the branch in view',
        tags: ['Conversations'],
        params: conversationParams,
        body: updateBody,
        response: { 200: conversationSchema },
      },
      handler: async (request) => {
        const id = idOrMissing(request.params.id, 'conversation_not_found')
        const { title, status, metadata, current_message_id } = request.body
        const caller = userOf(request)
        const changed = await db.asCaller(caller, async (tx) => {
          if ((await lockConversation(tx, id)) === undefined) throw missing()
          if (
            current_message_id !== undefined &&
            (await readMessage(tx, id, current_message_id)) === undefined
          )
            throw new AppError('message_not_found', {
              detail: 'current_message_id names no message of this conversation.',
            })
          await updateConversation(tx, id, { title, status, metadata, currentMessageId: current_message_id })
          const conversation = await readConversation(tx, id, links)
          if (conversation === undefined) throw missing()
          return conversation
        })
        tellDevices(caller.userId, changeOf(changed, reasonOf(request.body)))
        return changed
      },
    })

  app.delete(
    '/conversations/:id',
    {
      ...common,
      schema: {
        summary: 'Delete a conversation',
        description: 'It leaves every list at once, and an answer being generated in it is stopped.',
        tags: ['Conversations'],
        params: conversationParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      await deleteConversation({ db, engine, tellDevices }, userOf(request), id)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/conversations/:id/fork',
    {
      ...common,
      schema: {
        summary: 'A new conversation holding the path up to a message',
        tags: ['Conversations'],
        params: conversationParams,
        body: forkBody,
        response: { 201: conversationSchema },
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const { message_id, title } = request.body
      const caller = userOf(request)
      const idempotency = idempotencyOf(request, ['fork', id, request.body])
      return makeOnce(request, caller, reply, 'forked', idempotency, (tx, forkId) =>
        forkConversation(tx, caller, { id, messageId: message_id, forkId, title }, links),
      )
    },
  )
}

/** The most telling of what was changed at once. */
function reasonOf({ status, title, current_message_id }: UpdateBody): ConversationChange['reason'] {
  if (status !== undefined) return 'status'
  if (title !== undefined) return 'renamed'
  return current_message_id === undefined ? 'metadata' : 'branch'
}
