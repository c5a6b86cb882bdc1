/** Why an answer ended before its upstream said so: who asked for that, and what its viewers are told. */
import { AppError } from '../errors.ts'
import type { Outcome } from './events.ts'

/** Asked for by its user, by a shutdown, or by the journal: it cannot keep what is said, or somebody else settled it. */
export type StopReason = 'stopped' | 'interrupted' | 'stalled' | 'lost'

/** Of an attempt, as its usage is accounted for. */
export const endedBy = (asked: StopReason | undefined) =>
  asked === undefined ? 'by itself' : asked === 'stopped' ? 'stopped' : 'by us'

/** What its end is called, and what is told of it. */
export function ended(asked: StopReason): { outcome: Outcome; error?: AppError } {
  switch (asked) {
    case 'stopped':
      return { outcome: 'stopped' }
    case 'interrupted':
      return {
        outcome: 'interrupted',
        error: new AppError('shutting_down', {
          detail: 'The server was restarted while this answer was being written. What had arrived is kept.',
          retryAfter: 5,
        }),
      }
    case 'stalled':
    case 'lost':
      return {
        outcome: 'failed',
        error: new AppError('database_unavailable', {
          detail: 'This answer was ended since it could not be stored as it came.',
          retryAfter: 5,
        }),
      }
    default:
      return asked satisfies never
  }
}

export const brokenOff = () =>
  new AppError('upstream_error', {
    detail: 'The model stopped in the middle of its answer.',
    cause: new Error('stream broke off'),
  })
