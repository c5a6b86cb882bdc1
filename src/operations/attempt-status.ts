/** Door of operations: how an attempt at the upstream ended, in the words of the metrics. */
import type { AttemptStatus, Recorder } from './recorder.ts'

export interface EndedAttempt {
  /** Its breaker was open: no call was made. */
  skipped: boolean
  /** We closed it: a stop, a delete, a limit, a shutdown. Whatever it says then of errors is our doing. */
  stopped: boolean
  /** `kind` says what failed, where the upstream's failure has one; else its `code` does. */
  error: { readonly code: string; readonly kind?: string } | undefined
  answer: { readonly finishReason?: string | undefined } | undefined
}

/** Tells a recorder of attempts as they end. */
export const observeAttempts =
  (recorder: Pick<Recorder, 'attemptEnded'>, isFree: (model: string) => boolean) =>
  ({ model, durationMs, ...attempt }: EndedAttempt & { model: string; durationMs: number }): void =>
    recorder.attemptEnded({ model, status: attemptStatusOf(attempt), isFree: isFree(model), durationMs })

export function attemptStatusOf({ skipped, stopped, error, answer }: EndedAttempt): AttemptStatus {
  if (skipped) return 'skipped'
  if (stopped) return 'stopped'
  if (error === undefined) return answer?.finishReason === undefined ? 'interrupted' : 'complete'
  return byKind[error.kind ?? ''] ?? byCode[error.code] ?? 'error'
}

const byKind: Partial<Record<string, AttemptStatus>> = {
  limited: 'rate_limited',
  free_quota: 'quota',
  no_credit: 'quota',
  refused: 'refused',
  too_long: 'too_long',
  gone: 'unavailable',
  silent: 'timeout',
}

const byCode: Partial<Record<string, AttemptStatus>> = {
  upstream_timeout: 'timeout',
  upstream_unavailable: 'unavailable',
}
