/** The job that makes an adviser ready, and the one that lets a model write its welcome again. */
import { z } from 'zod'
import type { NewJob } from '../jobs/jobs.ts'
import type { Tier } from '../upstream/chain.ts'

export const onboardKind = 'onboard'
export const rewriteKind = 'rewrite_welcome'

export const onboardPayload = z.object({
  userId: z.string(),
  /** Of the event that asked for it; null: somebody did by hand. */
  eventId: z.string().nullable(),
  /** Of the user who asked for it; null: a service did, which knows none. */
  tier: z.enum(['free', 'premium']).nullable(),
})
type OnboardPayload = z.infer<typeof onboardPayload>

/** Keyed by the assessment. */
export const onboardJob = (
  { assessmentId, userId, ...rest }: OnboardPayload & { assessmentId: string },
  afterMs = 0,
): NewJob => ({ kind: onboardKind, key: assessmentId, userId, payload: { userId, ...rest }, afterMs })

export const rewritePayload = onboardPayload.pick({ userId: true, tier: true })

/** Keyed by the conversation. */
export const rewriteJob = (
  { conversationId, userId, tier }: z.infer<typeof rewritePayload> & { conversationId: string },
  afterMs: number,
): NewJob => ({ kind: rewriteKind, key: conversationId, userId, payload: { userId, tier }, afterMs })

/** Where nobody's tier is known free models come first; an operator who has none lets everybody have what there is. */
export const tiersOf = (tier: Tier | null): readonly Tier[] => (tier === null ? ['free', 'premium'] : [tier])
