/** Door of assessments: a message of the queue → an event received, or why it never will be. */
import { isAway, isHeldUp } from '../db/database.ts'
import { parseEvent, readJson } from './event.ts'
import type { Receive } from './receive.ts'

/** As the broker's consumer has it. Reasons are codes of ours: they stand in the dead letter's headers. */
export type DeliveryOutcome = { kind: 'done' } | { kind: 'away' } | { kind: 'dead'; reason: string }

/** @throws what may be over when it is tried again. */
export function createDeliveryHandler(
  receive: Receive,
): (delivery: { body: Buffer }) => Promise<DeliveryOutcome> {
  return async ({ body }) => {
    let value: unknown
    try {
      value = readJson(body)
    } catch {
      return { kind: 'dead', reason: 'not_json' }
    }
    const parsed = parseEvent(value)
    if ('why' in parsed) return { kind: 'dead', reason: `${parsed.why}: ${parsed.path} ${parsed.message}` }
    try {
      const { kind } = await receive(parsed.event)
      switch (kind) {
        case 'received':
          return { kind: 'done' }
        case 'foreign':
          return { kind: 'dead', reason: 'foreign_assessment' }
        case 'reused':
          return { kind: 'dead', reason: 'event_id_reused' }
        default:
          return kind satisfies never
      }
    } catch (error) {
      // What waits for one lock waits alone: the others need not stop for it.
      if (isAway(error) && !isHeldUp(error)) return { kind: 'away' }
      throw error
    }
  }
}
