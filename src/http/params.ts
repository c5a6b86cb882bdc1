/** Ids in a path. What is no UUID names nothing: it is answered exactly as a missing object. */
import { z } from 'zod'
import { AppError, type ErrorCode } from '../errors.ts'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export const conversationParams = z.object({ id: z.string() })
export const messageParams = z.object({ id: z.string(), message_id: z.string() })

/** @returns the id in PostgreSQL's spelling. @throws AppError with `code` where it is none. */
export function idOrMissing(id: string, code: ErrorCode): string {
  if (!uuid.test(id)) throw new AppError(code)
  return id.toLowerCase()
}
