/** Door of operations: `GET /metrics`, and how long requests take. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Metrics } from './metrics.ts'

export function measureRequests(app: FastifyInstance, { requestEnded }: Pick<Metrics, 'requestEnded'>): void {
  const record = (request: FastifyRequest, reply: FastifyReply) => {
    requestEnded({
      method: request.method,
      route: request.routeOptions.url,
      statusCode: reply.statusCode,
      durationMs: reply.elapsedTime,
    })
  }
  // A stream is open for as long as an answer takes: with that in it the histogram would say nothing of the rest.
  app.addHook('onSend', (request, reply, payload, done) => {
    if (isStream(reply)) record(request, reply)
    done(null, payload)
  })
  app.addHook('onResponse', (request, reply, done) => {
    if (!isStream(reply)) record(request, reply)
    done()
  })
}

const isStream = (reply: FastifyReply) =>
  String(reply.getHeader('content-type')).startsWith('text/event-stream')

export async function scrapeRoutes(
  instance: FastifyInstance,
  { metrics }: { metrics: Metrics },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()

  app.get(
    '/metrics',
    {
      onRequest: app.requireService,
      schema: {
        summary: 'Metrics, for Prometheus',
        description: 'Service scope. What the figures mean stands in their HELP lines.',
        tags: ['Health'],
        response: {
          200: { description: 'Prometheus text format', content: { 'text/plain': { schema: z.string() } } },
        },
      },
    },
    async (_request, reply) => reply.header('content-type', metrics.contentType).send(await metrics.scrape()),
  )
}
