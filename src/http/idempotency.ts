/** Idempotency keys as they arrive: a header, or `client_message_id` in the body. */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'

export interface Idempotency {
  key: string
  /** What was asked for: the same key with something else is refused. */
  fingerprint: string
}

/** @param asked everything that makes one request differ from another, in a fixed order; not how it is answered. */
export function idempotencyOf(
  request: FastifyRequest,
  asked: readonly unknown[],
  clientMessageId?: string,
): Idempotency | undefined {
  const header = request.headers['idempotency-key']
  const key = header ?? clientMessageId
  if (key === undefined) return undefined
  if (typeof key !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(key))
    throw new AppError('invalid_request', {
      detail: 'An idempotency key has 1 to 255 printable ASCII characters.',
      errors: [
        { path: header === undefined ? 'client_message_id' : 'idempotency-key', message: 'is not a key' },
      ],
    })
  const fingerprint = createHash('sha256').update(JSON.stringify(asked)).digest('base64url')
  return { key, fingerprint }
}
