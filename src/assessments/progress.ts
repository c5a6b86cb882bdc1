/**
 * What an event makes of what is known of its assessment: pure, and the same in whatever order events come, twice or late.
 *
 * Analysis complete is where an assessment ends: only a newer version of itself moves it. Failed gives way to it, and to
 * whatever happened later. Nothing goes back.
 */
import type { AssessmentEvent, EventType } from './event.ts'

export type Stage = 'submitted' | 'started' | 'complete' | 'failed'

/** What is known: of its last event that counted. */
export interface Known {
  userId: string
  stage: Stage
  /** A decimal. */
  version: string | null
  /** RFC 3339. */
  occurredAt: string
  hasResults: boolean
}

export const stageOf: Readonly<Record<EventType, Stage>> = {
  assessment_submitted: 'submitted',
  analysis_started: 'started',
  analysis_complete: 'complete',
  analysis_failed: 'failed',
}

const rank: Readonly<Record<Exclude<Stage, 'failed'>, number>> = { submitted: 1, started: 2, complete: 3 }

/** Whether it moves what is known. Undefined: nothing is known yet. */
export function moves(
  known: Known | undefined,
  event: Pick<AssessmentEvent, 'type' | 'version' | 'results'> & { occurredAt: string },
): boolean {
  if (known === undefined) return true
  const stage = stageOf[event.type]
  const newer = isNewer(known, event)
  if (known.stage === 'complete') {
    if (stage !== 'complete') return false
    // The same once more, and this time with what it is about.
    return newer || (!known.hasResults && event.results !== null && !isNewer(event, known))
  }
  if (stage === 'complete') return true
  if (known.stage === 'failed' || stage === 'failed') return newer
  return rank[stage] > rank[known.stage]
}

interface Told {
  version: string | null
  occurredAt: string
}

/** By versions where both have one and they differ, else by their times. */
function isNewer(known: Told, event: Told): boolean {
  const order = compareVersions(event, known)
  return order === 0 ? event.occurredAt > known.occurredAt : order > 0
}

function compareVersions(one: Told, other: Told): number {
  if (one.version === null || other.version === null) return 0
  const [[whole = '', part = ''], [otherWhole = '', otherPart = '']] = [one.version, other.version].map(
    (version) => version.split('.'),
  ) as [string[], string[]]
  const order = compare(BigInt(whole), BigInt(otherWhole))
  return order === 0 ? compare(part.padEnd(10, '0'), otherPart.padEnd(10, '0')) : order
}

const compare = <T extends bigint | string>(one: T, other: T) => (one === other ? 0 : one > other ? 1 : -1)
