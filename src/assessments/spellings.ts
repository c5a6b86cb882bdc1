/**
 * How others spell results, and how we do. What is read here is checked behind it, by the schema in `results.ts`: a
 * value that is no score, id or date comes back as it is.
 */

export const riasecLetters = ['R', 'I', 'A', 'S', 'E', 'C'] as const
export type RiasecLetter = (typeof riasecLetters)[number]
export const oceanLetters = ['O', 'C', 'E', 'A', 'N'] as const
export type OceanLetter = (typeof oceanLetters)[number]

/** What is said under several names; the first one that says something counts. */
const spellings = {
  riasec: ['riasec'],
  ocean: ['ocean'],
  via_is: ['via_is', 'viaIs', 'via'],
  persona_profile: ['persona_profile', 'personaProfile'],
  assessment_id: ['assessment_id', 'assessmentId'],
  user_id: ['user_id', 'userId'],
  assessment_date: ['assessment_date', 'assessmentDate'],
  career_recommendations: ['career_recommendations', 'careerRecommendations'],
} as const

/** Without one of these there are no results. */
export const sections: readonly string[] = [
  ...spellings.riasec,
  ...spellings.ocean,
  ...spellings.via_is,
  ...spellings.persona_profile,
]

/** The keys that `parseResults` reads: whoever prints results knows by them what is left. */
export const resultKeys: ReadonlySet<string> = new Set(Object.values(spellings).flat())

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Null where none says something. */
export function take(from: Record<string, unknown>, key: keyof typeof spellings): unknown {
  for (const name of spellings[key]) if (Object.hasOwn(from, name) && from[name] != null) return from[name]
  return null
}

export const readId = (value: unknown): unknown => {
  if (typeof value === 'string') return value.toWellFormed().trim()
  return Number.isSafeInteger(value) ? String(value) : value
}

/** Times without a zone are taken for UTC; a day is its beginning. */
export function readDate(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const [, day, time = '00:00', zone = 'Z'] =
    /^([12]\d{3}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?) ?([Zz]|[+-]\d\d(?::?\d\d)?)?)?$/.exec(
      value.trim(),
    ) ?? []
  if (day === undefined) return value
  const offset = zone
    .toUpperCase()
    .replace(/^([+-]\d\d):?(\d\d)?$/, (_, hours, minutes = '00') => `${hours}:${minutes}`)
  // The engine takes February 30 for a day of March.
  if (!isDay(day)) return value
  const at = new Date(`${day}T${time}${offset}`)
  return Number.isNaN(at.getTime()) ? value : at.toISOString()
}

function isDay(day: string): boolean {
  const at = new Date(`${day}T00:00Z`)
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(day)
}

export const readRiasec = (section: unknown) => readScores(section, (name) => riasecByName.get(name))

export const readOcean = (section: unknown) => readScores(section, (name) => oceanByName.get(name))

export const readStrengths = (section: unknown) =>
  readScores(section, (name, raw) => (/^[a-z_]+$/.test(name) ? name : raw))

const riasecByName = byName(riasecLetters, {
  R: ['realistic'],
  I: ['investigative'],
  A: ['artistic'],
  S: ['social'],
  E: ['enterprising'],
  C: ['conventional'],
})
const oceanByName = byName(oceanLetters, {
  O: ['openness', 'openness_to_experience'],
  C: ['conscientiousness'],
  E: ['extraversion', 'extroversion'],
  A: ['agreeableness'],
  N: ['neuroticism'],
})

function byName<Letter extends string>(
  letters: readonly Letter[],
  names: Record<Letter, readonly string[]>,
): Map<string, Letter> {
  return new Map(
    letters.flatMap((letter) =>
      [letter.toLowerCase(), ...names[letter]].map((name): [string, Letter] => [name, letter]),
    ),
  )
}

/** They reach what every object inherits, in whoever copies them carelessly. */
export const neverKeys: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype'])

/** @param keyOf of a name in small letters with `_`; undefined: not a score that we know. */
function readScores(
  section: unknown,
  keyOf: (name: string, raw: string) => string | undefined,
): Record<string, unknown> {
  const scores = new Map<string, unknown>()
  for (const [raw, value] of Object.entries(isObject(section) ? section : {})) {
    const name = raw.toWellFormed().trim()
    const key = neverKeys.has(name) ? undefined : keyOf(spelledPlainly(name), name)
    if (key !== undefined && !neverKeys.has(key) && !scores.has(key)) scores.set(key, value)
  }
  return Object.fromEntries(scores)
}

/** `loveOfLearning`, `Love of Learning` and `love-of-learning` are one name. */
const spelledPlainly = (name: string): string =>
  name
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .replaceAll('&', ' and ')
    .replace(/[\s_-]+/g, '_')
    .toLowerCase()
