/** The bare server: Fastify with our bounds, request ids and compilers, before any hook or route. */
import type { IncomingMessage } from 'node:http'
import fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { validatorCompiler } from 'fastify-type-provider-zod'
import { answerClientError, sendProblem, toAppError } from './error-handler.ts'
import { addEdgeHeaders, requestIdOf } from './security.ts'

const bodyBytesMax = 256 * 1024
/** A request must have arrived whole after this long, ms; checked every `connectionsCheckMs`: 30 s at most. */
const requestTimeoutMs = 20_000
const headersTimeoutMs = 10_000
const connectionsCheckMs = 5_000

export function createServer(options: {
  log: FastifyBaseLogger
  /** Addresses and networks whose forwarded headers are believed. */
  trustedProxies: string[]
  /** As `registerSecurity` takes them. */
  origins: readonly string[] | undefined
  /** What may leave HTTP. Anything else that asks for it (Java's own client does, of every server) is a plain request. */
  mayUpgrade: (request: IncomingMessage) => boolean
}): FastifyInstance {
  const { log, trustedProxies, origins, mayUpgrade } = options
  const http: FastifyInstance = fastify({
    loggerInstance: log,
    genReqId: requestIdOf,
    requestIdHeader: false,
    bodyLimit: bodyBytesMax,
    trustProxy: trustedProxies.length > 0 ? trustedProxies : false,
    requestTimeout: requestTimeoutMs,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    http: {
      headersTimeout: headersTimeoutMs,
      connectionsCheckingInterval: connectionsCheckMs,
      requireHostHeader: false,
      shouldUpgradeCallback: mayUpgrade,
    },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 600 },
    clientErrorHandler: answerClientError,
    frameworkErrors(error, request, reply) {
      addEdgeHeaders(request, reply, origins)
      void sendProblem(toAppError(error), request, reply)
    },
  })
  // An expectation that nobody knows may be ignored (RFC 9110, 10.1.1); Node would answer an empty 417.
  http.server.on(
    'checkExpectation',
    (request, response) => void http.server.emit('request', request, response),
  )
  http.setValidatorCompiler(validatorCompiler)
  // Answers are built from our own rows: checking each of them again would cost more than it finds.
  http.setSerializerCompiler(() => JSON.stringify)
  return http
}
