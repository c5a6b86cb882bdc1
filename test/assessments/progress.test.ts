/** What an event makes of what is known: the same in whatever order events come, twice or late. */
import { describe, expect, it } from 'vitest'
import { moves, stageOf, type Known } from '../../src/assessments/progress.ts'
import type { EventType } from '../../src/assessments/event.ts'
import { parseResults } from '../../src/assessments/results.ts'
import { results } from '../support/assessments.ts'

interface Told {
  type: EventType
  version: string | null
  occurredAt: string
  withResults?: boolean
}

const at = (minute: number) => `2026-11-20T10:${String(minute).padStart(2, '0')}:00.000Z`
const parsed = parseResults(results)
const read = 'results' in parsed ? parsed.results : null

/** What is known when all of these were told, in this order. */
function after(told: readonly Told[]): Known | undefined {
  let known: Known | undefined
  for (const { type, version, occurredAt, withResults = type === 'analysis_complete' } of told) {
    if (!moves(known, { type, version, occurredAt, results: withResults ? read : null })) continue
    known = { userId: 'ann', stage: stageOf[type], version, occurredAt, hasResults: withResults }
  }
  return known
}

function orders<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]]
  return items.flatMap((item, n) => orders(items.toSpliced(n, 1)).map((rest) => [item, ...rest]))
}

const thrice = <T>(order: readonly T[]) => [...order, ...order.toReversed(), ...order]

describe('events in every order, each three times', () => {
  it.each<[name: string, events: Told[], end: Partial<Known>]>([
    [
      'of an analysis that is complete end as complete',
      [
        { type: 'assessment_submitted', version: null, occurredAt: at(1) },
        { type: 'analysis_started', version: null, occurredAt: at(2) },
        { type: 'analysis_complete', version: null, occurredAt: at(3) },
      ],
      { stage: 'complete', occurredAt: at(3) },
    ],
    [
      'of an analysis that failed end as failed',
      [
        { type: 'assessment_submitted', version: null, occurredAt: at(1) },
        { type: 'analysis_started', version: null, occurredAt: at(2) },
        { type: 'analysis_failed', version: null, occurredAt: at(3) },
      ],
      { stage: 'failed' },
    ],
    [
      'of one that failed and was begun again end as complete',
      [
        { type: 'analysis_failed', version: null, occurredAt: at(2) },
        { type: 'analysis_started', version: null, occurredAt: at(3) },
        { type: 'analysis_complete', version: null, occurredAt: at(4) },
      ],
      { stage: 'complete' },
    ],
    [
      'of three versions end with the newest, whatever their times say',
      [
        { type: 'analysis_complete', version: '9', occurredAt: at(3) },
        { type: 'analysis_complete', version: '10', occurredAt: at(2) },
        { type: 'analysis_complete', version: '9.5', occurredAt: at(1) },
        { type: 'analysis_started', version: '11', occurredAt: at(5) },
      ],
      { stage: 'complete', version: '10' },
    ],
    [
      'without versions end with the latest',
      [
        { type: 'analysis_complete', version: null, occurredAt: at(1) },
        { type: 'analysis_complete', version: null, occurredAt: at(3) },
        { type: 'analysis_complete', version: null, occurredAt: at(2) },
      ],
      { stage: 'complete', occurredAt: at(3) },
    ],
  ])('%s', (_name, events, end) => {
    for (const order of orders(events)) {
      expect(after(order), JSON.stringify(order)).toMatchObject(end)
      expect(after(thrice(order)), JSON.stringify(order)).toMatchObject(end)
    }
  })
})

describe('what is complete', () => {
  const complete: Told = { type: 'analysis_complete', version: '1', occurredAt: at(3) }

  it('takes the same once more where that brings the results, and only then', () => {
    const bare = { ...complete, withResults: false }
    expect(after([bare, complete])).toMatchObject({ hasResults: true })
    expect(after([complete, bare])).toMatchObject({ hasResults: true })
    expect(after([{ ...bare, version: '2' }, complete])).toMatchObject({ version: '2', hasResults: false })
  })

  it('does not fail any more', () => {
    expect(after([complete, { type: 'analysis_failed', version: '2', occurredAt: at(9) }])).toMatchObject({
      stage: 'complete',
    })
  })
})
