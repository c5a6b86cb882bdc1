/** Door of messages: HTTP and SQL of reactions: what a user thinks of a message, one each: the last one said counts. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import { readConversation } from '../conversations/queries.ts'
import type { Database, Tx } from '../db/database.ts'
import { sql } from '../db/sql.ts'
import { AppError } from '../errors.ts'
import type { Links } from '../http/links.ts'
import { idOrMissing, messageParams } from '../http/params.ts'
import { text } from '../http/text.ts'
import { readMessage } from './queries.ts'
import { messageSchema, reactionSchema, type Message } from './schemas.ts'

const feedbackCharsMax = 2_000

const reactionBody = z.strictObject({
  reaction: reactionSchema,
  feedback: text(1, feedbackCharsMax).optional().meta({ description: 'In words of one’s own.' }),
})

export async function reactionRoutes(
  instance: FastifyInstance,
  { db, links }: { db: Database; links: Links },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const path = '/conversations/:id/messages/:message_id'
  const common = { onRequest: app.requireUser }

  /** In a transaction of its own, on a message that is there. */
  async function on<T>(
    request: FastifyRequest<{ Params: z.infer<typeof messageParams> }>,
    act: (tx: Tx, message: Message, userId: string) => Promise<T>,
  ): Promise<T> {
    const caller = userOf(request)
    const id = idOrMissing(request.params.id, 'conversation_not_found')
    const messageId = idOrMissing(request.params.message_id, 'message_not_found')
    return db.asCaller(caller, async (tx) => {
      if ((await readConversation(tx, id, links)) === undefined) throw new AppError('conversation_not_found')
      const message = await readMessage(tx, id, messageId)
      if (message === undefined) throw new AppError('message_not_found')
      return act(tx, message, caller.userId)
    })
  }

  for (const [method, url] of [
    ['PUT', `${path}/reaction`],
    ['POST', `${path}/reactions`],
  ] as const)
    app.route({
      ...common,
      method,
      url,
      schema: {
        summary: 'React to a message',
        description:
          'One reaction for each user and message: another one takes its place, with its feedback.',
        tags: ['Messages'],
        params: messageParams,
        body: reactionBody,
        response: { 200: messageSchema },
      },
      handler: (request) =>
        on(request, async (tx, message, userId) => {
          const { reaction, feedback = null } = request.body
          await tx.execute(sql`
            insert into chat.message_reactions (conversation_id, message_id, user_id, reaction, feedback)
            values (${message.conversation_id}, ${message.id}, ${userId}, ${reaction}, ${feedback})
            on conflict (conversation_id, message_id, user_id) do update set reaction = excluded.reaction,
              feedback = excluded.feedback, updated_at = now()`)
          return { ...message, reaction }
        }),
    })

  app.delete(
    `${path}/reaction`,
    {
      ...common,
      schema: {
        summary: 'Take a reaction back',
        tags: ['Messages'],
        params: messageParams,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await on(request, (tx, message, userId) =>
        tx.execute(sql`
          delete from chat.message_reactions
          where conversation_id = ${message.conversation_id} and message_id = ${message.id} and user_id = ${userId}`),
      )
      return reply.code(204).send(null)
    },
  )
}
