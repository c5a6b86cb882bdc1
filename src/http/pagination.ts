/** Query parameters of lists, and opaque cursors. */
import { z } from 'zod'
import { AppError } from '../errors.ts'

/** A whole number in a query string. Nothing is coerced: "1e3", "" and " 5" are refused. */
export const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/, 'must be a whole number')
    .transform(Number)
    .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))

export const queryInteger = (min: number, max: number, fallback: number) =>
  wholeNumber(min, max).default(fallback)

/** @param fields texts without line breaks. */
export const encodeCursor = (...fields: string[]): string =>
  Buffer.from(fields.join('\n')).toString('base64url')

/** @throws AppError `invalid_request` for what `encodeCursor` did not make. */
export function decodeCursor<T extends z.ZodTuple>(cursor: string, fields: T): z.output<T> {
  const result = fields.safeParse(Buffer.from(cursor, 'base64url').toString('utf8').split('\n'))
  if (result.success) return result.data
  throw new AppError('invalid_request', {
    detail: 'This cursor was not made by this list.',
    errors: [{ path: 'cursor', message: 'is not a cursor' }],
  })
}
