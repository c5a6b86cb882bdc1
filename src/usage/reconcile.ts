/**
 * Door of usage: records what an answer took; where that is a guess, a job asks the upstream what it was in the end.
 *
 * An estimated row of a paid model has no cost until then, never a silent zero. Of a free model the tokens are set
 * right, and its cost is what the upstream says: 0.
 */
import { z } from 'zod'
import type { Tx } from '../db/database.ts'
import { dismiss, enqueue, type JobHandler, type JobOutcome } from '../jobs/jobs.ts'
import type { Logger } from '../logging.ts'
import { canBeAsked, type Billing } from '../upstream/reconcile.ts'
import { deleteUsage, insertUsage, reconcileUsage, type UsageRow } from './queries.ts'

export type { UsageRow } from './queries.ts'

export const reconcileKind = 'reconcile_cost'

/** The upstream's own books lag behind its streams, ms. */
export const reconcileAfterMs = 2_000

/** Is this a guess that the upstream can set right? */
export const needsReconciling = (
  usage: Pick<UsageRow, 'source' | 'cost'> | undefined,
  upstreamId: string | undefined,
): upstreamId is string =>
  usage !== undefined && (usage.source === 'estimated' || usage.cost === null) && canBeAsked(upstreamId)

/**
 * Its statements are issued at once: they may leave with a transaction's last ones.
 *
 * @param askAfterMs when the upstream is asked for what is a guess: later than usual where its answer has only begun.
 */
export async function recordUsage(
  tx: Tx,
  usage: UsageRow,
  upstreamId: string | undefined,
  askAfterMs = reconcileAfterMs,
): Promise<void> {
  const { id, generationId, userId } = usage
  await Promise.all([
    insertUsage(tx, usage),
    needsReconciling(usage, upstreamId) &&
      enqueue(tx, {
        kind: reconcileKind,
        key: id,
        userId,
        payload: { usageId: id, generationId, upstreamId },
        afterMs: askAfterMs,
      }),
  ])
}

/** Takes back what was recorded of an answer that had only begun. The system's alone: no user can unmake a cost. */
export async function withdrawUsage(tx: Tx, id: string): Promise<void> {
  // The job first, as reconciling does: the same order of locks.
  await Promise.all([dismiss(tx, reconcileKind, id), deleteUsage(tx, id)])
}

const payloadSchema = z.object({ usageId: z.uuid(), generationId: z.uuid(), upstreamId: z.string() })

/** 2 s, 4 s, … up to an hour: with 16 attempts, five hours of an upstream that is away. */
const backoff = { firstMs: 2_000, maxMs: 3_600_000 }
const attemptsMax = 16
/** Not known by then, it never will be: some 17 minutes at most. Stopped answers are booked late. */
const unknownAttemptsMax = 10
/** A server that does not know the question has not learned it a moment later; a proxy in between may have. */
const unsupportedAttemptsMax = 3

export function createReconcileHandler({ billing, log }: { billing: Billing; log: Logger }): JobHandler {
  return {
    attemptsMax,
    backoff,
    async run({ payload, attempt }, signal): Promise<JobOutcome> {
      const { usageId, generationId, upstreamId } = payloadSchema.parse(payload)
      const bill = await billing.ask(upstreamId, signal)
      switch (bill.kind) {
        case 'billed':
          log.info(
            { event: 'cost_reconciled', generationId, cost: bill.cost },
            'what an answer cost is known',
          )
          return { kind: 'done', write: (tx) => reconcileUsage(tx, usageId, bill) }
        case 'unknown':
          if (attempt < unknownAttemptsMax) return { kind: 'retry', why: 'upstream_knows_no_such_answer' }
          return { kind: 'dead', why: 'upstream_knows_no_such_answer', expected: true }
        case 'unsupported':
          if (attempt < unsupportedAttemptsMax) return { kind: 'retry', why: 'upstream_tells_no_costs' }
          return { kind: 'dead', why: 'upstream_tells_no_costs', expected: true }
        case 'unusable':
          if (attempt < unknownAttemptsMax) return { kind: 'retry', why: 'upstream_bill_is_unusable' }
          return { kind: 'dead', why: 'upstream_bill_is_unusable' }
        case 'unavailable':
          return { kind: 'retry', why: `upstream_${bill.why}`, afterMs: bill.retryAfterMs }
        default:
          return bill satisfies never
      }
    },
  }
}
