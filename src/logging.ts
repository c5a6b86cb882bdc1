/**
 * How the process logs: pino, one event with fields a line; readable on a terminal, JSON elsewhere.
 *
 * Message text, tokens, keys and query strings never reach a log: the request serializer prints the path
 * alone, and what could carry a credential is redacted by name.
 */
import { pino, type Logger, type LoggerOptions, type TransportTargetOptions } from 'pino'
import type { Config } from './config.ts'

export type { Logger }

export function createLogger(config: Config): Logger {
  const targets: TransportTargetOptions[] = []
  if (process.stdout.isTTY)
    targets.push({
      target: 'pino-pretty',
      level: config.LOG_LEVEL,
      options: { translateTime: 'HH:MM:ss', ignore: 'pid,hostname', singleLine: true },
    })
  else targets.push({ target: 'pino/file', level: config.LOG_LEVEL, options: { destination: 1 } })
  if (config.LOG_FILE !== undefined)
    targets.push({
      target: 'pino/file',
      level: config.LOG_LEVEL,
      options: { destination: config.LOG_FILE, mkdir: true },
    })
  const options = loggerOptions(config.LOG_LEVEL)
  // A worker thread per process pays only where it formats or writes a file: plain stdout needs none.
  const plain = targets.length === 1 && targets[0]?.target === 'pino/file'
  return plain ? pino(options) : pino(options, pino.transport({ targets }))
}

/** What is logged of things that hold more than may be logged, wherever the lines go. */
export function loggerOptions(level: Config['LOG_LEVEL']): LoggerOptions {
  return {
    level,
    redact: { paths: redacted, censor: '[redacted]' },
    serializers: {
      req: (request: { method: string; url: string; id: string }) => ({
        id: request.id,
        method: request.method,
        path: pathOf(request.url),
      }),
      res: (reply: { statusCode: number }) => ({ status: reply.statusCode }),
      err: (error: unknown) => describeError(error),
    },
  }
}

/** A URL's path without its query string, which may hold tickets, cursors or search words. */
export function pathOf(url: string): string {
  const query = url.search(/[?#]/)
  return query === -1 ? url : url.slice(0, query)
}

/**
 * An error as a log shows it: kind, code, message, stack, and the same of its causes.
 *
 * Named fields only: PostgreSQL puts the failing row into `detail`, and that holds what people wrote.
 */
export function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return { type: typeof error }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
  // PostgreSQL's data exceptions quote the value that they are about.
  const message = /^22...$/.test(code ?? '') ? error.message.replace(/"[^]*"/, '"…"') : error.message
  return {
    type: error.name,
    ...(code !== undefined && { code }),
    message,
    stack: error.stack?.replace(error.message, () => message),
    ...(error.cause !== undefined && depth < 3 && { cause: describeError(error.cause, depth + 1) }),
  }
}

const redacted = ['authorization', 'cookie', 'token', 'ticket', 'password', 'secret', 'api_key', 'content']
