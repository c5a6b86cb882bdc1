/** HTTP of tickets: what opens a stream or a socket without headers. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Caller, Database, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Links } from '../http/links.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { userOf } from './authenticate.ts'
import { socketTicketS, streamTicketS, type Tickets } from './tickets.ts'

const ticketBody = z.strictObject({
  for: z
    .string()
    .regex(
      /^(socket|notifications|message:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i,
      'must be "socket", "notifications" or "message:<id>"',
    ),
})

export async function ticketRoutes(
  instance: FastifyInstance,
  options: {
    db: Database
    tickets: Tickets
    links: Links
    limits: RateLimits
    /** Whether a page may open a socket. @throws AppError forbidden */
    assertOrigin: (origin: string, host: string | undefined) => void
    /** Where a message's generation is watched; undefined where the transaction's user has none such. */
    streamOf: (tx: Tx, messageId: string) => Promise<string | undefined>
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, tickets, links, limits, assertOrigin, streamOf } = options

  app.post(
    '/ticket',
    {
      onRequest: app.requireUser,
      schema: {
        summary: 'A ticket for a socket or a stream, which are opened without headers',
        description: [
          'For `WebSocket` and `EventSource`, which cannot send a token: open the `url`.',
          'One `for` a socket is good once, for 30 s, and for the page that asked; one for a stream may be used again, for 10 minutes.',
        ].join(' '),
        tags: ['Realtime'],
        body: ticketBody,
        response: { 200: z.object({ ticket: z.string(), url: z.string(), expires_in: z.int() }) },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const { origin, host } = request.headers
      const purpose = request.body.for.toLowerCase()
      // What comes of it a page could not read: that its socket is refused.
      if (purpose === 'socket' && origin !== undefined) assertOrigin(origin, host)
      const livesS = purpose === 'socket' ? socketTicketS : streamTicketS
      const act = async () => {
        const url = await urlOf(caller, purpose)
        if (url === undefined) throw new AppError('message_not_found')
        const ticket = await tickets.issue(caller, { purpose, livesS, origin })
        return { ticket, url: `${url}?ticket=${ticket}`, expires_in: livesS }
      }
      return limits.within(request, reply, ['tickets'], {
        act,
        counts: () => true,
        repeats: async () => false,
      })
    },
  )

  async function urlOf(caller: Caller, purpose: string): Promise<string | undefined> {
    if (purpose === 'socket') return links.socket
    if (purpose === 'notifications') return links.inboxStream
    return db.asCaller(caller, (tx) => streamOf(tx, purpose.slice('message:'.length)))
  }
}
