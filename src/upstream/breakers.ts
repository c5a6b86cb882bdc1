/**
 * Door of upstream, for circuit breakers: what is known to fail is not asked again until it may have come back.
 *
 * One per model: closed → open, at once where the upstream says until when (a limit, a model that is gone), else after
 * `failuresMax` failures in a row → half-open, when its time is over: one attempt is let through → closed, or open for
 * twice as long. And one for all `:free` models together, whose daily quota is the account's: open until its reset, and
 * closed again then.
 */
import type { AppError } from '../errors.ts'
import type { UpstreamFailed } from './failures.ts'
import { isFreeModel } from './models.ts'

/** Why a model is not asked now, and for how long; firm: it cannot answer before that. */
export interface Closed {
  error: AppError
  waitMs: number
  firm: boolean
}

export interface Breakers {
  /** Undefined: it may be asked. */
  closedTo(model: string): Closed | undefined
  /** It is being asked. Where only one attempt is let through, this is it. */
  asked(model: string): void
  /** @param askedAtMs what was learnt of it since stays. */
  succeeded(model: string, askedAtMs: number): void
  failed(model: string, failure: UpstreamFailed): void
  /** Neither: it was stopped before it said anything. */
  abandoned(model: string): void
}

/** Failures in a row before a model is left alone. */
const failuresMax = 3
const openMs = 15_000
const openMaxMs = 300_000
/** A model that is gone, or that nobody serves at the moment, ms. */
const goneMs = 600_000
/** While another attempt is finding out, ms. */
const probingMs = 5_000

interface Breaker {
  failures: number
  /** Openings in a row. */
  openings: number
  openedAtMs: number
  openUntilMs: number
  probing: boolean
  error: AppError | undefined
}

export function createBreakers({ nowMs }: { nowMs: () => number }): Breakers {
  // One for each model that is ever asked: the configured ones.
  const breakers = new Map<string, Breaker>()
  let freeQuota: { untilMs: number; error: AppError } | undefined

  function breakerOf(model: string): Breaker {
    const found = breakers.get(model)
    if (found !== undefined) return found
    const made: Breaker = {
      failures: 0,
      openings: 0,
      openedAtMs: -Infinity,
      openUntilMs: -Infinity,
      probing: false,
      error: undefined,
    }
    breakers.set(model, made)
    return made
  }

  function open(breaker: Breaker, ms: number, error: AppError): void {
    // What was asked together fails together: that is one opening.
    if (breaker.openUntilMs <= nowMs()) breaker.openings++
    breaker.openUntilMs = Math.max(breaker.openUntilMs, nowMs() + ms)
    breaker.openedAtMs = nowMs()
    breaker.error = error
  }

  /** The minute's limit, told by an answer begun before, does not end the day's. */
  function closeFree(untilMs: number, error: AppError): void {
    if (freeQuota === undefined || untilMs > freeQuota.untilMs) freeQuota = { untilMs, error }
  }

  return {
    closedTo(model) {
      const now = nowMs()
      if (freeQuota !== undefined && isFreeModel(model) && freeQuota.untilMs > now)
        return { error: freeQuota.error, waitMs: freeQuota.untilMs - now, firm: true }
      const { openUntilMs, probing, error } = breakerOf(model)
      if (error === undefined) return undefined
      if (openUntilMs > now) return { error, waitMs: openUntilMs - now, firm: false }
      return probing ? { error, waitMs: probingMs, firm: false } : undefined
    },
    asked(model) {
      const breaker = breakerOf(model)
      if (breaker.error !== undefined) breaker.probing = true
    },
    succeeded(model, askedAtMs) {
      if (breakerOf(model).openedAtMs <= askedAtMs) breakers.delete(model)
      else breakerOf(model).probing = false
    },
    abandoned(model) {
      breakerOf(model).probing = false
    },
    failed(model, failure) {
      const breaker = breakerOf(model)
      breaker.probing = false
      const { kind, closedForMs } = failure
      switch (kind) {
        case 'free_quota':
          closeFree(nowMs() + (closedForMs ?? openMs), failure)
          return
        case 'limited':
          open(breaker, closedForMs ?? openMs, failure)
          return
        case 'gone':
          open(breaker, goneMs, failure)
          return
        case 'transient':
        case 'silent':
          breaker.failures++
          // Asked before it was opened, or since nobody else was there: it comes back when it was told to.
          if (breaker.openUntilMs > nowMs()) return
          if (breaker.failures >= failuresMax || breaker.error !== undefined)
            open(breaker, Math.min(openMs * 2 ** breaker.openings, openMaxMs), failure)
          return
        // These say nothing about the model.
        case 'no_credit':
        case 'refused':
        case 'too_long':
        case 'mistake':
          return
        default:
          return kind satisfies never
      }
    },
  }
}
