/** HTTP of the socket: who may open one. What is said over it is protocol.ts. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import type { Tickets } from '../auth/tickets.ts'
import { AppError } from '../errors.ts'
import type { RateLimits } from '../http/rate-limit.ts'
import { parseCursor, type Cursor } from '../notifications/log.ts'
import type { Sockets } from './socket.ts'

export async function socketRoutes(
  instance: FastifyInstance,
  options: {
    tickets: Pick<Tickets, 'consume'>
    sockets: Pick<Sockets, 'check' | 'accept'>
    limits: RateLimits
    allowsOrigin: (origin: string, host: string | undefined) => boolean
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { tickets, sockets, limits, allowsOrigin } = options

  app.get(
    '/ws',
    {
      exposeHeadRoute: false,
      onRequest: async (request) => {
        sockets.check(request.raw)
        const { authorization, origin, host } = request.headers
        if (origin !== undefined && !allowsOrigin(origin, host)) throw foreignOrigin()
        const { ticket } = request.query as { ticket?: unknown }
        if (authorization !== undefined || typeof ticket !== 'string') return app.requireUser(request)
        await app.admit(request, () => tickets.consume(ticket, origin))
      },
      schema: {
        summary: 'The socket: your inbox and your rooms, live',
        description: [
          'A WebSocket of subprotocol `rivulet.v1`; its frames are described in [AsyncAPI](/docs/asyncapi.json).',
          'Browsers open the `url` of a ticket for `socket`; programs may send `Authorization` instead.',
          'Without an upgrade: 426.',
        ].join(' '),
        tags: ['Realtime'],
        querystring: z.object({
          ticket: z.string().max(100).optional(),
          cursor: z.string().optional().meta({
            description:
              'What you have: `<epoch>.<seq>`. One that means nothing here is answered with `reset`.',
          }),
        }),
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const since = sinceOf(request.query.cursor)
      const accept = async () => sockets.accept(request.raw, caller, since)
      // A ticket was counted when it was asked for.
      if (request.headers.authorization === undefined) await accept()
      else
        await limits.within(request, reply, ['tickets'], {
          act: accept,
          counts: () => true,
          repeats: async () => false,
        })
      return reply.hijack()
    },
  )
}

/** Also where a ticket is asked for: there a page can read it. */
export const foreignOrigin = () =>
  new AppError('forbidden', { detail: 'Pages of this origin may not open sockets here.' })

/** A browser cannot read why it was refused: a cursor that is none is told in the greeting. */
function sinceOf(text: string | undefined): Cursor | undefined {
  if (text === undefined || text === '') return undefined
  return parseCursor(text) ?? { epoch: '', seq: 0 }
}
