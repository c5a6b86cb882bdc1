/** Events as they are told: both spellings, other words, and what is none. */
import { describe, expect, it } from 'vitest'
import { parseEvent, readJson } from '../../src/assessments/event.ts'
import { eventOf, results } from '../support/assessments.ts'

const read = (value: unknown) => {
  const parsed = parseEvent(value)
  if (!('event' in parsed)) throw new Error(`${parsed.why}: ${parsed.path} ${parsed.message}`)
  return parsed.event
}

describe('an event', () => {
  it('is read in camelCase as in snake_case, whatever it has besides', () => {
    const camel = {
      eventId: 'e1',
      type: 'analysis_complete',
      userId: 'auth0|7',
      assessmentId: 'a 1/ü',
      occurredAt: '2026-11-20T10:05:00Z',
      results: {
        riasec: results.riasec,
        ocean: results.ocean,
        viaIs: results.via_is,
        personaProfile: results.persona_profile,
        assessmentDate: results.assessment_date,
      },
      producer: { name: 'worker', retries: 3 },
    }
    const snake = {
      event_id: 'e1',
      type: 'analysis_complete',
      user_id: 'auth0|7',
      assessment_id: 'a 1/ü',
      occurred_at: '2026-11-20T10:05:00.000Z',
      results,
    }
    expect(read(camel)).toEqual(read(snake))
    expect(read(snake)).toMatchObject({ id: 'e1', userId: 'auth0|7', assessmentId: 'a 1/ü', version: null })
  })

  it.each([
    ['assessment_complete', 'analysis_complete'],
    ['assessment_started', 'analysis_started'],
  ])('%s is another word for %s, and means the same event', (alias, type) => {
    expect(read(eventOf({ type: alias, results }))).toEqual(read(eventOf({ type, results })))
  })

  it('without an id gets the one that its type, user, assessment and version make', () => {
    const id = (more: object) => read(eventOf(more as never)).id
    expect(id({ occurred_at: '2026-01-01T00:00:00Z' })).toBe(id({}))
    const others = [
      { assessment_id: 'a2' },
      { version: 1 },
      { version: '2' },
      { type: 'analysis_started', results: null },
    ]
    expect(new Set([id({}), ...others.map(id)]).size).toBe(others.length + 1)
    expect(id({ version: 2 })).toBe(id({ version: '2' }))
  })

  it.each<[told: unknown, read: string | null]>([
    ['2026-11-20T10:05:00+02:00', '2026-11-20T08:05:00.000Z'],
    ['2026-11-20T10:05:00', '2026-11-20T10:05:00.000Z'],
    ['2026-11-20', '2026-11-20T00:00:00.000Z'],
    [1_795_000_000_000, new Date(1_795_000_000_000).toISOString()],
    [null, null],
    [undefined, null],
  ])('that happened at %s happened at %s', (told, expected) => {
    expect(read(eventOf({ occurred_at: told })).occurredAt).toBe(expected)
  })

  it.each<[name: string, wrong: unknown, path: string]>([
    ['no object', 'hello', ''],
    ['a list', [eventOf()], ''],
    ['null', null, ''],
    ['a user that is no text', eventOf({ user_id: 7 as never }), 'user_id'],
    ['an empty user', eventOf({ user_id: '' }), 'user_id'],
    ['NUL in its user', eventOf({ user_id: 'a\0b' }), 'user_id'],
    ['half a character', eventOf({ user_id: '\ud800' }), 'user_id'],
    ['a user of 256 characters', eventOf({ user_id: 'x'.repeat(256) }), 'user_id'],
    ['no assessment', eventOf({ assessment_id: undefined as never }), 'assessment_id'],
    ['a line break in its assessment', eventOf({ assessment_id: 'a\n1' }), 'assessment_id'],
    [
      'NUL in its results',
      eventOf({ results: { ...results, persona_profile: { summary: 'a\0' } } }),
      'results',
    ],
    ['a score of 101', eventOf({ results: { ...results, riasec: { R: 101 } } }), 'results'],
    [
      'results of another assessment',
      eventOf({ results: { ...results, assessment_id: 'a2' } }),
      'results.assessment_id',
    ],
    ['results that are a text', eventOf({ results: 'R85' }), 'results'],
    ['a time that is none', eventOf({ occurred_at: 'soon' }), 'occurred_at'],
    ['a time in the year 9999', eventOf({ occurred_at: '9999-01-01T00:00:00Z' }), 'occurred_at'],
    ['a type that nobody knows', eventOf({ type: 'analysis_paused' }), 'type'],
    ['a type of Object', eventOf({ type: 'constructor' }), 'type'],
  ])('is not what is %s', (_name, wrong, path) => {
    const parsed = parseEvent(wrong)
    expect('why' in parsed && parsed.path).toBe(path)
    expect('why' in parsed && parsed.why).toBe(path === 'type' ? 'unknown_type' : 'invalid_event')
  })
})

it.each([
  ['no JSON', '{"type":'],
  ['nothing', ''],
  ['no UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ['a prototype', '{"user_id":"ann","results":{"__proto__":{"isAdmin":true}}}'],
])('a message that is %s is not read', (_name, body) => {
  expect(() => readJson(Buffer.from(body))).toThrow()
})
