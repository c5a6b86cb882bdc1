/**
 * JSON bodies. An empty one is no body, whatever its content type says (clients send `DELETE` with
 * `content-type: application/json` all the time); bytes that are no UTF-8 are refused instead of being guessed.
 */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { AppError } from '../errors.ts'

export function registerJsonBodies(app: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (_request: unknown, body: Buffer) => {
      if (body.length === 0) return undefined
      try {
        const value = JSON.parse(utf8.decode(body), refusePrototype) as unknown
        // Fastify hands a missing body to the schema as null: one that was sent must not pass for it.
        if (value === null) throw new SyntaxError('null is no object')
        return value
      } catch (error) {
        throw new AppError('invalid_request', {
          detail: 'The body is not a JSON value, in UTF-8, that this server takes.',
          cause: error,
        })
      }
    },
  )
}

function refusePrototype(key: string, value: unknown): unknown {
  if (key === '__proto__') throw new SyntaxError('__proto__ is no key')
  return value
}

/** A body that may be left out: then every key has its default. */
export const optionalBody = <T extends z.ZodType>(schema: T) => z.preprocess((body) => body ?? {}, schema)
