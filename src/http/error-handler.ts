/**
 * The one place where errors become responses: RFC 9457 problem documents, the framework's own included.
 */
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod'
import { AppError, type ErrorCode } from '../errors.ts'
import { pathOf } from '../logging.ts'

export function registerErrorHandler(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => sendProblem(toAppError(error), request, reply))
  app.setNotFoundHandler((request, reply) => sendProblem(routeNotFound(), request, reply))
}

const routeNotFound = () => new AppError('route_not_found', { detail: 'There is nothing at this URL.' })

/** Before a body is read: nobody has a use for it. Call when the edge's headers have their hooks. */
export function refuseUnknownRoutes(app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => {
    if (request.is404) throw routeNotFound()
    // Node would refuse it with an empty answer.
    if (request.headers.host === undefined && request.raw.httpVersion === '1.1')
      throw new AppError('invalid_request', { detail: 'HTTP/1.1 needs a Host header.' })
  })
}

export function sendProblem(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error.status >= 500)
    request.log[error.status === 500 ? 'error' : 'warn'](
      { event: 'request_failed', code: error.code, err: error },
      error.title,
    )
  if (error.retryAfter !== undefined) void reply.header('retry-after', String(error.retryAfter))
  if (error.headers !== undefined) void reply.headers(error.headers)
  return reply
    .code(error.status)
    .header('content-type', 'application/problem+json; charset=utf-8')
    .send(JSON.stringify(problemOf(error, request.id, pathOf(request.url))))
}

/** Shape: the contract's "Errors". `instance` is the path without its query, which may hold a ticket. */
export function problemOf(error: AppError, requestId: string, instance?: string): Record<string, unknown> {
  const detail = error.detail ?? error.title
  // Every 400 says what is wrong with which part, if only with the whole.
  const errors = error.errors ?? (error.status === 400 ? [{ path: '', message: detail }] : undefined)
  return {
    type: 'about:blank',
    title: error.title,
    status: error.status,
    code: error.code,
    detail,
    ...(instance !== undefined && { instance }),
    request_id: requestId,
    ...(errors !== undefined && { errors }),
    ...(error.retryAfter !== undefined && { retry_after: error.retryAfter }),
    ...error.members,
  }
}

const byFrameworkCode: Record<string, ErrorCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_MAX_PARAM_LENGTH: 'uri_too_long',
}

const byStatus: Record<number, ErrorCode> = {
  404: 'route_not_found',
  408: 'request_timeout',
  413: 'body_too_large',
  414: 'uri_too_long',
  415: 'unsupported_media_type',
  431: 'headers_too_large',
}

export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  if (hasZodFastifySchemaValidationErrors(error))
    return new AppError('invalid_request', {
      detail: `The ${error.validationContext ?? 'request'} is not as this route expects it.`,
      errors: error.validation.map(({ instancePath, message }) => ({
        path: instancePath.replace(/^\//, '').replaceAll('/', '.'),
        message: message ?? 'is wrong',
      })),
    })
  const { code = '', statusCode = 500 } = error as Partial<FastifyError>
  if (statusCode >= 500 || !(error instanceof Error)) return new AppError('internal_error', { cause: error })
  return new AppError(byFrameworkCode[code] ?? byStatus[statusCode] ?? 'invalid_request', {
    // These two quote the URL, query string and all.
    ...(/^FST_ERR_(?!BAD_URL|MAX_PARAM)/.test(code) && { detail: error.message.slice(0, 200) }),
    cause: error,
  })
}

/** What is not even HTTP never reaches a route: answered on the bare socket, then closed. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  const code: ErrorCode =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? 'request_timeout'
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? 'headers_too_large'
        : 'invalid_request'
  const problem = new AppError(code)
  const requestId = randomUUID()
  const body = JSON.stringify(problemOf(problem, requestId))
  if (socket.writable)
    socket.write(
      `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\ncontent-type: application/problem+json; charset=utf-8\r\n` +
        `x-request-id: ${requestId}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    )
  socket.destroy(error)
}
