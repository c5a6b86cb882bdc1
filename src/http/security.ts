/** The edge's headers: request ids, CORS on every answer (streams and errors included), helmet. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

const exposedHeaders = [
  'Content-Location',
  'Content-Disposition',
  'Idempotent-Replay',
  'Location',
  'RateLimit-Limit',
  'RateLimit-Remaining',
  'RateLimit-Reset',
  'Retry-After',
  'X-Request-Id',
]

/** A caller's own id is kept where it can go into a log and a header as it is. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && /^[A-Za-z0-9._:-]{1,128}$/.test(given) ? given : randomUUID()
}

/** @param origins `*`, exact origins, or undefined: pages of this machine only (development). */
export async function registerSecurity(
  app: FastifyInstance,
  origins: readonly string[] | undefined,
): Promise<void> {
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id)
  })
  await app.register(cors, {
    origin: origins === undefined ? localOrigin : origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: [
      'Authorization',
      'Content-Type',
      'Accept',
      'Idempotency-Key',
      'Last-Event-ID',
      'X-Request-Id',
    ],
    exposedHeaders,
    maxAge: 600,
    strictPreflight: false,
  })
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    },
    // An API is read by pages of other origins; whether one may is CORS's business.
    crossOriginResourcePolicy: { policy: 'cross-origin' },
  })
}

/** The same headers for what fails before any hook runs, such as a URL that cannot be decoded. */
export function addEdgeHeaders(
  request: FastifyRequest,
  reply: FastifyReply,
  origins: readonly string[] | undefined,
): void {
  const { origin } = request.headers
  void reply.header('x-request-id', request.id).header('vary', 'Origin')
  if (origin === undefined) return
  if (origins === undefined ? localOrigin.test(origin) : origins.includes('*') || origins.includes(origin))
    void reply
      .header('access-control-allow-origin', origin)
      .header('access-control-expose-headers', exposedHeaders.join(', '))
}

const localOrigin = /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/
