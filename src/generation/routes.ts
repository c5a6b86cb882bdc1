/** HTTP of generations: watch or resume one, stop one. */
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import { redeemTicket } from '../auth/tickets.ts'
import type { Caller, Database } from '../db/database.ts'
import type { Links } from '../http/links.ts'
import { idOrMissing, messageParams } from '../http/params.ts'
import type { SseResponses } from '../http/sse.ts'
import { messageSchema, type Message } from '../messages/schemas.ts'
import type { Engine } from './engine.ts'
import { requestStop } from './stop.ts'
import { attach, parseCursor, readGeneration, type ResumeDeps } from './resume.ts'
import type { Watched } from './watched.ts'

/** How long a stop waits for the process that runs the generation, ms; then the message is told as it stands. */
const stopPatienceMs = 4_000
const stopPollMs = 100

export async function generationRoutes(
  instance: FastifyInstance,
  options: {
    db: Database
    engine: Engine
    resume: ResumeDeps
    sse: SseResponses
    links: Links
    watched: Pick<Watched, 'by'>
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, engine, resume, sse, links, watched } = options

  app.get(
    '/conversations/:id/messages/:message_id/stream',
    {
      onRequest: async (request) => {
        const { ticket } = request.query as { ticket?: unknown }
        if (request.headers.authorization !== undefined || typeof ticket !== 'string')
          return app.requireUser(request)
        const { message_id } = request.params as { message_id: string }
        const { origin } = request.headers
        await app.admit(request, () =>
          redeemTicket(db, ticket, `message:${message_id.toLowerCase()}`, origin),
        )
      },
      exposeHeadRoute: false,
      schema: {
        summary: 'Watch an answer, or go on where a stream was cut',
        description:
          'With `Last-Event-ID` or `after` (`<generation>:<seq>`): exactly the events behind it. Without: a snapshot, then live.',
        tags: ['Messages'],
        params: messageParams,
        querystring: z.object({
          after: z.string().max(100).optional(),
          ticket: z.string().max(100).optional(),
        }),
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const messageId = idOrMissing(request.params.message_id, 'message_not_found')
      // A browser that reconnects repeats the address that it began with, and says in the header how far it came.
      const header = request.headers['last-event-id']
      const given = typeof header === 'string' && header !== '' ? header : request.query.after
      const cursor = given === undefined ? undefined : parseCursor(given)
      const { generationId, source } = await attach(resume, userOf(request), id, messageId, cursor)
      watched.by(reply.raw, generationId)
      void reply.header('content-location', links.stream(id, messageId))
      return sse.send(reply, source)
    },
  )

  app.post(
    '/conversations/:id/messages/:message_id/stop',
    {
      onRequest: app.requireUser,
      schema: {
        summary: 'Stop an answer being generated; what has arrived is kept',
        tags: ['Messages'],
        params: messageParams,
        response: { 200: messageSchema },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const messageId = idOrMissing(request.params.message_id, 'message_not_found')
      return stop(userOf(request), id, messageId)
    },
  )

  async function stop(caller: Caller, conversationId: string, messageId: string): Promise<Message> {
    const read = () => db.asCaller(caller, (tx) => readGeneration(tx, conversationId, messageId, links))
    const { generation, message } = await read()
    if (generation.status !== 'running') return message
    const stopped = await requestStop(
      { transactions: db, find: (id) => engine.find(id), tell: engine.tellStop },
      caller,
      generation.id,
    )
    if (stopped !== undefined) return (await stopped.settled).message
    for (const deadline = Date.now() + stopPatienceMs; ;) {
      const now = await read()
      if (now.generation.status !== 'running' || Date.now() > deadline) return now.message
      await delay(stopPollMs)
    }
  }
}
