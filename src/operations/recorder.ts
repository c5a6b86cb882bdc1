/**
 * Door of operations, for machines: what they tell the metrics, as a dependency to be narrowed. Nothing here knows how it
 * is counted, and nothing of it is called per token.
 */

/** How one request to the upstream ended. */
export const attemptStatuses = [
  'complete',
  /** Closed by us: a user's stop, a delete, a limit, a shutdown. */
  'stopped',
  /** It broke off after its first text. */
  'interrupted',
  /** No credit, or the account's free quota is used up. */
  'quota',
  /** One model's or provider's own limit. */
  'rate_limited',
  /** Our key, or moderation. */
  'refused',
  'too_long',
  'unavailable',
  'timeout',
  'error',
  /** Not sent at all: its breaker was open. */
  'skipped',
] as const
export type AttemptStatus = (typeof attemptStatuses)[number]

export const outcomes = ['complete', 'stopped', 'failed', 'interrupted'] as const
export type GenerationOutcome = (typeof outcomes)[number]

/** Never throws: a figure that makes no sense is left out. A model that was not configured counts as `other`. */
export interface Recorder {
  /** Once for each request to the upstream, and for each that was not made. */
  attemptEnded: (attempt: {
    /** As it was asked for, not as the upstream names itself. */
    model: string
    status: AttemptStatus
    isFree: boolean
    durationMs: number
  }) => void
  /** Once for each generation of this process. */
  generationSettled: (generation: SettledFigures) => void
  /** A job went to the dead list, and somebody should look at it. */
  jobGivenUp: () => void
}

export interface SettledFigures {
  /** Who answered, as it was asked for. */
  model: string
  /** `streaming`: settled from elsewhere, and nobody could read how. */
  outcome: GenerationOutcome | 'streaming'
  /** None: no text came. */
  firstTokenMs: number | null | undefined
  durationMs: number
  /** Of all its attempts. A model that is not known by its own name is taken for the one that was asked. */
  usages: readonly {
    model: string
    promptTokens: number
    completionTokens: number
    /** An exact decimal; null: not known yet. */
    cost: string | null
  }[]
}
