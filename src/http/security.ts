/** The edge's headers: request ids, CORS on every answer (streams and errors included), helmet. */
import { randomUUID } from 'node:crypto'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import cors from '@fastify/cors'
import helmet from 'helmet'
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
  app.addHook('onRequest', (request, reply, done) => {
    void reply.headers(fixedHeaders).header('x-request-id', request.id)
    done()
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
}

/** What helmet says to every answer: always the same, so it is asked once. */
function askHelmet(): Record<string, string> {
  const headers: Record<string, string> = {}
  const probe = new ServerResponse(new IncomingMessage(new Socket()))
  const protect = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    },
    // An API is read by pages of other origins; whether one may is CORS's business.
    crossOriginResourcePolicy: { policy: 'cross-origin' },
  })
  protect(probe.req, probe, () => undefined)
  for (const [name, value] of Object.entries(probe.getHeaders())) headers[name] = String(value)
  return headers
}

const fixedHeaders = askHelmet()

/** The same headers for what fails before any hook runs, such as a URL that cannot be decoded. */
export function addEdgeHeaders(
  request: FastifyRequest,
  reply: FastifyReply,
  origins: readonly string[] | undefined,
): void {
  const { origin } = request.headers
  void reply.headers(fixedHeaders).header('x-request-id', request.id).header('vary', 'Origin')
  if (origin !== undefined && namedOrigins(origins)(origin))
    void reply
      .header('access-control-allow-origin', origins?.includes('*') === true ? '*' : origin)
      .header('access-control-expose-headers', exposedHeaders.join(', '))
}

/**
 * For what CORS does not guard: a page may open a WebSocket anywhere. This server's own pages may: their origin is the host
 * that they ask for, whatever stands before us and speaks TLS.
 *
 * @param origins as `registerSecurity` takes them.
 */
export function createOriginCheck(
  origins: readonly string[] | undefined,
): (origin: string, host: string | undefined) => boolean {
  const isNamed = namedOrigins(origins)
  return (origin, host) =>
    isNamed(origin) || (host !== undefined && origin.replace(/^https?:\/\//, '') === host)
}

function namedOrigins(origins: readonly string[] | undefined): (origin: string) => boolean {
  if (origins === undefined) return (origin) => localOrigin.test(origin)
  return origins.includes('*') ? () => true : (origin) => origins.includes(origin)
}

const localOrigin = /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/
