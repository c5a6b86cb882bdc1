/** Results come in many spellings and out in one; what is wrong is refused by its place, and never repeated. */
import { describe, expect, it } from 'vitest'
import { parseResults, resultKeys, unwrapResults } from '../../src/assessments/results.ts'
import { problemOf, resultsOf, typical } from './read-results.ts'

const nothingElse = {
  assessment_id: null,
  user_id: null,
  assessment_date: null,
  riasec: {},
  ocean: {},
  via_is: {},
  persona_profile: null,
}

describe('spellings', () => {
  it('leaves what is spelled our way as it is', () => {
    expect(resultsOf(typical)).toEqual(typical)
    expect(resultsOf(resultsOf(typical))).toEqual(typical)
  })

  it('reads camelCase, long names in any case, and names of strengths in any form, as the same', () => {
    const { riasec, ocean, persona_profile: persona } = typical
    expect(
      resultsOf({
        assessmentId: 'a1',
        userId: 'ann',
        assessmentDate: '2026-03-04T05:06:07Z',
        riasec: {
          realistic: riasec.R,
          Investigative: riasec.I,
          ARTISTIC: riasec.A,
          s: riasec.S,
          ' E ': riasec.E,
          Conventional: riasec.C,
        },
        ocean: {
          openness_to_experience: ocean.O,
          Conscientiousness: ocean.C,
          extroversion: ocean.E,
          agreeableness: ocean.A,
          Neuroticism: ocean.N,
        },
        viaIs: typical.via_is,
        personaProfile: {
          summary: persona.summary,
          details: persona.details,
          careerRecommendations: persona.career_recommendations,
        },
      }),
    ).toEqual(typical)
    const forms = ['loveOfLearning', 'Love of Learning', 'love-of-learning', 'LOVE_OF_LEARNING']
    for (const form of forms)
      expect(resultsOf({ via: { [form]: 5 } }).via_is).toEqual({ love_of_learning: 5 })
  })

  it.each([
    ['in data', { success: true, data: typical }],
    ['in data of data', { data: { data: typical } }],
  ])('unwraps an answer %s', (_name, answer) => {
    expect(resultsOf(answer)).toEqual(typical)
    expect(unwrapResults(answer)).toBe(typical)
  })

  it.each([
    ['2026-03-04', '2026-03-04T00:00:00.000Z'],
    ['2026-03-04T05:06:07.123456', '2026-03-04T05:06:07.123Z'],
    ['2026-03-04 05:06:07+07', '2026-03-03T22:06:07.000Z'],
    ['2026-03-04t05:06:07-0130', '2026-03-04T06:36:07.000Z'],
  ])('reads the date %s as UTC', (date, utc) => {
    expect(resultsOf({ riasec: { R: 1 }, assessment_date: date }).assessment_date).toBe(utc)
  })

  it('looks for another spelling where the first one says nothing', () => {
    expect(
      resultsOf({ via_is: null, viaIs: { zest: 1 }, persona_profile: null, personaProfile: 's' }),
    ).toMatchObject({
      via_is: { zest: 1 },
      persona_profile: { summary: 's' },
    })
  })

  it('takes numbers for ids, and the first one of a score that is told twice', () => {
    expect(resultsOf({ riasec: { R: 1, realistic: 2 }, assessment_id: 7, userId: 8 })).toMatchObject({
      assessment_id: '7',
      user_id: '8',
      riasec: { R: 1 },
    })
  })
})

describe('what is not there', () => {
  it.each([
    ['riasec', { riasec: { R: 0 } }, { riasec: { R: 0 } }],
    ['ocean', { ocean: { N: 100 } }, { ocean: { N: 100 } }],
    ['via_is', { via_is: { zest: 33.3 } }, { via_is: { zest: 33.3 } }],
    [
      'a persona that is a text',
      { persona_profile: ' hi ', riasec: null },
      { persona_profile: { summary: 'hi', details: null, career_recommendations: [] } },
    ],
  ])('is left empty where only %s is told', (_name, value, told) => {
    expect(resultsOf(value)).toEqual({ ...nothingElse, ...told })
  })

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['a text', 'riasec'],
    ['a list', [typical]],
    ['other keys', { scores: { R: 5 } }],
    ['a refusal', { success: false, error: 'no' }],
    ['data without end', JSON.parse('{"data":'.repeat(1_000) + '{}' + '}'.repeat(1_000))],
    ['empty sections', { riasec: {}, ocean: { code: 'x' }, via_is: {}, persona_profile: {} }],
    ['a persona of nothing', { persona_profile: { summary: ' ', details: {}, career_recommendations: [] } }],
  ])('is told of %s', (_name, value) => {
    expect(problemOf(value)).toMatch(/^The results (hold no section that is known|say nothing)/)
  })

  it('drops keys that nobody knows', () => {
    const more = { ...typical, riasec: { ...typical.riasec, code: 'IRA' }, raw_answers: [1, 2] }
    expect(resultsOf(more)).toEqual(typical)
  })
})

describe('what is wrong', () => {
  const secret = 'SECRET'
  it.each<[place: string, value: unknown]>([
    ['riasec.R', { riasec: { R: 100.1 } }],
    ['riasec.I', { riasec: { investigative: -1 } }],
    ['riasec.I', { riasec: { I: secret } }],
    ['riasec.A', { riasec: { A: null } }],
    ['riasec', { riasec: [1, 2] }],
    ['riasec', { riasec: secret }],
    ['ocean.N', { ocean: { N: '50' } }],
    ['via_is.zest', { viaIs: { zest: { score: 5 } } }],
    ['via_is.…', { via_is: { [`${secret} </x>`]: secret } }],
    ['via_is.…', { via_is: { [`${secret}!`.repeat(20)]: 5 } }],
    ['via_is', { via_is: Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`s ${index}`, 1])) }],
    ['persona_profile', { persona_profile: 5 }],
    ['persona_profile', { persona_profile: { summary: { secret } } }],
    ['assessment_id', { riasec: { R: 1 }, assessment_id: { secret } }],
    ['assessment_id', { riasec: { R: 1 }, assessment_id: ' ' }],
    ['user_id', { riasec: { R: 1 }, user_id: secret.repeat(50) }],
    ['assessment_date', { riasec: { R: 1 }, assessment_date: secret }],
    ['assessment_date', { riasec: { R: 1 }, assessment_date: '2026-13-01' }],
    ['assessment_date', { riasec: { R: 1 }, assessment_date: '2026-02-30' }],
    ['assessment_date', { riasec: { R: 1 }, assessment_date: 1_700_000_000_000 }],
    ['The results', { riasec: { R: Infinity } }],
    ['The results', { riasec: { R: NaN } }],
  ])('is told by its place, %s, and never by its value', (place, value) => {
    const problem = problemOf(value) ?? ''
    expect(problem.startsWith(`${place} `), problem).toBe(true)
    expect(problem).not.toContain(secret)
    expect(problem.length).toBeLessThan(120)
  })
})

describe('what cannot be stored', () => {
  it.each([
    ['a summary', { persona_profile: { summary: 'a\0b' } }],
    ['details', { persona_profile: { details: [{ a: ['\0'] }] } }],
    ['a key of details', { persona_profile: { details: { 'a\0': 1 } } }],
    ['a strength’s name', { via_is: { 'ze\0st': 1 } }],
    ['an id', { riasec: { R: 1 }, assessment_id: 'a\0' }],
    ['what is dropped', { riasec: { R: 1 }, more: [{ a: '\0' }] }],
  ])('NUL in %s is refused', (_name, value) => {
    expect(problemOf(value)).toBe('The results hold NUL')
  })

  it('half of a surrogate pair becomes U+FFFD, wherever it stands', () => {
    const results = resultsOf({
      assessment_id: 'a\ud800',
      via_is: { 'x\udc00': 1 },
      persona_profile: {
        summary: '\ud800s',
        details: { 'k\ud800': ['v\udc00'] },
        careerRecommendations: '\ud800',
      },
    })
    expect(JSON.stringify(results).isWellFormed()).toBe(true)
    expect(results).toMatchObject({
      assessment_id: 'a\ufffd',
      via_is: { 'x\ufffd': 1 },
      persona_profile: {
        summary: '\ufffds',
        details: { 'k\ufffd': ['v\ufffd'] },
        career_recommendations: ['\ufffd'],
      },
    })
  })

  it.each(['__proto__', 'constructor', 'prototype'])('a key %s reaches nothing, and is gone', (key) => {
    const evil = `{"${key}":{"polluted":1}}`
    const read = parseResults(
      JSON.parse(
        `{"${key}":{"riasec":{"R":1}},"riasec":{"R":1,"${key}":5},"via_is":{"${key}":5,"zest":2},"persona_profile":{"summary":"s","details":${evil},"career_recommendations":[${evil}]}}`,
      ),
    )
    expect(read).toEqual({
      results: {
        ...nothingElse,
        riasec: { R: 1 },
        via_is: { zest: 2 },
        persona_profile: { summary: 's', details: {}, career_recommendations: [{}] },
      },
    })
    expect(JSON.stringify(read)).not.toContain(key)
    expect(Object.keys(Object.prototype)).toEqual([])
    expect('polluted' in {}).toBe(false)
  })

  it('a section of the prototype’s is none', () => {
    expect(problemOf(Object.create(typical))).toMatch(/no section/)
  })
})

describe('the persona', () => {
  it.each([
    ['a text', 'Nurse', ['Nurse']],
    ['a list', ['Nurse', { title: 'Pilot', fit: 0.9 }], ['Nurse', { title: 'Pilot', fit: 0.9 }]],
    ['an object', { first: 'Nurse' }, [{ first: 'Nurse' }]],
    ['nothing', null, []],
  ])('recommends %s as a list', (_name, told, list) => {
    const persona = { summary: 's', details: null, career_recommendations: list }
    expect(
      resultsOf({ persona_profile: { summary: 's', careerRecommendations: told } }).persona_profile,
    ).toEqual(persona)
    expect(resultsOf({ persona_profile: 's', career_recommendations: told }).persona_profile).toEqual(persona)
  })

  it.each([
    ['text', 'Likes to build.'],
    ['list', ['a', 1, true, null]],
    ['object', { strong: ['a'], n: 1.5 }],
  ])('keeps details that are a %s', (_name, details) => {
    expect(resultsOf({ persona_profile: { details } }).persona_profile?.details).toEqual(details)
  })

  const nested = (levels: number): unknown => JSON.parse('['.repeat(levels) + '1' + ']'.repeat(levels))

  it('keeps 16 levels, and refuses 17 or 20,000', () => {
    expect(resultsOf({ persona_profile: { details: nested(16) } }).persona_profile?.details).toEqual(
      nested(16),
    )
    expect(problemOf({ persona_profile: { details: nested(17) } })).toBe(
      'persona_profile is nested more than 16 levels deep',
    )
    let deep: unknown = 1
    for (let level = 0; level < 20_000; level++) deep = { deep }
    expect(problemOf({ persona_profile: { career_recommendations: deep } })).toMatch(/more than/)
  })

  it('is refused with all results where they are over 64 KiB as JSON, in UTF-8', () => {
    const around = JSON.stringify(resultsOf({ persona_profile: ' .' })).length - 1
    const fits = 'é'.repeat((65_536 - around) / 2)
    expect(resultsOf({ persona_profile: fits }).persona_profile?.summary).toBe(fits)
    expect(problemOf({ persona_profile: `${fits}é` })).toBe('The results are more than 65536 bytes')
  })

  it.each<[name: string, value: () => unknown]>([
    ['a million numbers', () => ({ riasec: { R: 1 }, more: Array.from({ length: 1_000_000 }, () => 1) })],
    [
      '30,000 keys',
      () => ({
        riasec: { R: 1 },
        more: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`k${i}`, 1])),
      }),
    ],
    ['50 MB of text', () => ({ riasec: { R: 1 }, more: ['x'.repeat(50_000_000)] })],
    [
      '30,000 scores',
      () => ({ riasec: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`r${i}`, 1])) }),
    ],
  ])('of %s is refused before it is gone through', (_name, value) => {
    const made = value()
    problemOf(made)
    const startedAt = performance.now()
    expect(problemOf(made)).toMatch(/^The results have more than/)
    expect(performance.now() - startedAt).toBeLessThan(50)
  })
})

it('knows by which keys results are read', () => {
  for (const key of Object.keys(typical)) expect(resultKeys.has(key)).toBe(true)
  expect([...resultKeys]).toEqual(
    expect.arrayContaining(['viaIs', 'via', 'personaProfile', 'careerRecommendations']),
  )
})
