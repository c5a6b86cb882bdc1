/** HTTP of generations: watch or resume one, stop one. */
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import type { Caller, Database } from '../db/database.ts'
import type { Links } from '../http/links.ts'
import { idOrMissing, messageParams } from '../http/params.ts'
import type { SseResponses } from '../http/sse.ts'
import { messageSchema, type Message } from '../messages/schemas.ts'
import type { Engine } from './engine.ts'
import { attach, parseCursor, readGeneration, type ResumeDeps } from './resume.ts'

/** How long a stop waits for the process that runs the generation, ms; then the message is told as it stands. */
const stopPatienceMs = 4_000
const stopPollMs = 100

export async function generationRoutes(
  instance: FastifyInstance,
  options: { db: Database; engine: Engine; resume: ResumeDeps; sse: SseResponses; links: Links },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, engine, resume, sse, links } = options

  app.get(
    '/conversations/:id/messages/:message_id/stream',
    {
      onRequest: app.requireUser,
      exposeHeadRoute: false,
      schema: {
        summary: 'Watch an answer, or go on where a stream was cut',
        description:
          'With `Last-Event-ID` or `after` (`<generation>:<seq>`): exactly the events behind it. Without: a snapshot, then live.',
        tags: ['Messages'],
        params: messageParams,
        querystring: z.object({ after: z.string().max(100).optional() }),
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const messageId = idOrMissing(request.params.message_id, 'message_not_found')
      // A browser that reconnects repeats the address that it began with, and says in the header how far it came.
      const header = request.headers['last-event-id']
      const given = typeof header === 'string' && header !== '' ? header : request.query.after
      const cursor = given === undefined ? undefined : parseCursor(given)
      const source = await attach(resume, userOf(request), id, messageId, cursor)
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
    const local = engine.find(generation.id)
    if (local !== undefined) {
      local.stop('stopped')
      return (await local.settled).message
    }
    // Another process runs it: it reads such requests with every flush.
    await db.asCaller(caller, (tx) =>
      tx.commit(() =>
        tx.execute(sql`
          update chat.generations set stop_requested_at = now()
          where id = ${generation.id} and status = 'running' and stop_requested_at is null`),
      ),
    )
    for (const deadline = Date.now() + stopPatienceMs; ;) {
      const now = await read()
      if (now.generation.status !== 'running' || Date.now() > deadline) return now.message
      await delay(stopPollMs)
    }
  }
}
