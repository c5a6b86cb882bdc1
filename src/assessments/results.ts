/**
 * Door of assessments: the shape of results, and the one place where they are read, whether an event brought them, the
 * archive answered them, or a conversation carries them.
 *
 * Promises: whatever comes in, what comes out has one spelling, can be stored as JSON (no NUL, no half of a surrogate
 * pair, `depthMax`, `bytesMax`), holds scores of 0 to 100 only, and no key that means something to JavaScript. What is
 * refused is told by its place, never by its value. Nothing here calls itself without a bound.
 */
import { z } from 'zod'
import {
  isObject,
  neverKeys,
  oceanLetters,
  readDate,
  readId,
  readOcean,
  readRiasec,
  readStrengths,
  riasecLetters,
  sections,
  take,
} from './spellings.ts'

export { oceanLetters, resultKeys, riasecLetters, type OceanLetter, type RiasecLetter } from './spellings.ts'

/** Levels of lists and objects in a persona's details: a report has five or six. */
const depthMax = 16
/** Of all results as JSON, UTF-8: they are stored with a conversation, and read at each of its turns. */
const bytesMax = 64 * 1024
/** Texts, numbers, lists and objects of all that comes in, dropped parts included: real ones have a few hundred. */
const nodesMax = 20_000
/** Of all texts that come in, UTF-16 units: to look for NUL in them takes time at each turn of a conversation. */
const charsMax = 1024 * 1024
/** VIA knows 24. */
const strengthsMax = 100
const nameCharsMax = 100
const idCharsMax = 200

const score = z.number('must be a number from 0 to 100').min(0, 'is below 0').max(100, 'is above 100')
const id = z
  .string('must be a text')
  .min(1, 'is empty')
  .max(idCharsMax, `is longer than ${idCharsMax} characters`)

/** Results as they are kept and told. */
export const assessmentResultsSchema = z
  .object({
    assessment_id: id.nullable(),
    user_id: id.nullable(),
    assessment_date: z.iso.datetime('is no date and time of RFC 3339').nullable(),
    riasec: z.partialRecord(z.enum(riasecLetters), score),
    ocean: z.partialRecord(z.enum(oceanLetters), score),
    /** By name: spelled with small letters and `_` where the name has letters of ASCII only. */
    via_is: z.record(
      z.string().min(1, 'has an empty name').max(nameCharsMax, 'has a name that is too long'),
      score,
    ),
    persona_profile: z
      .object({ summary: z.string(), details: z.unknown(), career_recommendations: z.array(z.unknown()) })
      .nullable(),
  })
  .meta({ id: 'AssessmentResults' })
export type AssessmentResults = z.infer<typeof assessmentResultsSchema>

/** Parses any of the spellings that are known into one. */
export const resultsSchema = z
  .unknown()
  .transform(read)
  .pipe(assessmentResultsSchema)
  .superRefine((results, context) => {
    const { riasec, ocean, via_is: strengths, persona_profile: persona } = results
    if (Object.keys(strengths).length > strengthsMax)
      context.addIssue({ code: 'custom', path: ['via_is'], message: `has more than ${strengthsMax} names` })
    if (persona === null && [riasec, ocean, strengths].every((scores) => Object.keys(scores).length === 0))
      context.addIssue({ code: 'custom', message: 'say nothing: no scores and no persona profile' })
    else if (Buffer.byteLength(JSON.stringify(results)) > bytesMax)
      context.addIssue({ code: 'custom', message: `are more than ${bytesMax} bytes` })
  })

/** @returns the results, or a short sentence of ours that says where they are wrong. */
export function parseResults(value: unknown): { results: AssessmentResults } | { problem: string } {
  const parsed = resultsSchema.safeParse(value)
  if (parsed.success) return { results: parsed.data }
  const [issue] = parsed.error.issues
  return { problem: `${placeOf(issue?.path ?? [])} ${issue?.message ?? 'are wrong'}` }
}

/** Names are the sender's: one that is no plain word is not repeated. */
function placeOf(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'The results'
  return path.map((part) => (/^\w{1,40}$/.test(String(part)) ? String(part) : '…')).join('.')
}

const mayBeResults = (value: unknown): value is Record<string, unknown> =>
  isObject(value) && sections.some((key) => Object.hasOwn(value, key) && value[key] != null)

/** Into our own spelling; what is no score, id or date yet is left to the schema behind. */
function read(value: unknown, context: z.RefinementCtx): unknown {
  const refuse = (message: string, ...path: string[]) => {
    context.addIssue({ code: 'custom', path, message })
    return z.NEVER
  }
  const from = unwrapResults(value)
  if (from === undefined) return refuse('hold no section that is known')
  const flaw = flawOf(from)
  if (flaw !== undefined) return refuse(flaw)
  for (const key of ['riasec', 'ocean', 'via_is'] as const) {
    const section = take(from, key)
    if (section !== null && !isObject(section)) return refuse('must be an object of scores', key)
  }
  const persona = readPersona(take(from, 'persona_profile'), take(from, 'career_recommendations'))
  if ('problem' in persona) return refuse(persona.problem, 'persona_profile')
  return {
    assessment_id: readId(take(from, 'assessment_id')),
    user_id: readId(take(from, 'user_id')),
    assessment_date: readDate(take(from, 'assessment_date')),
    riasec: readRiasec(take(from, 'riasec')),
    ocean: readOcean(take(from, 'ocean')),
    via_is: readStrengths(take(from, 'via_is')),
    persona_profile: persona.profile,
  }
}

/**
 * An answer of the archive is wrapped in `data`, at times twice.
 *
 * @returns what `parseResults` would read, unread; undefined where that is nothing.
 */
export function unwrapResults(value: unknown): Record<string, unknown> | undefined {
  let inner = value
  for (let wraps = 0; wraps < 3; wraps++) {
    if (mayBeResults(inner)) return inner
    if (!isObject(inner) || !Object.hasOwn(inner, 'data')) return undefined
    inner = inner['data']
  }
  return undefined
}

/** Without recursion: the value comes from outside, and may be nested 100,000 levels deep. */
function flawOf(root: unknown): string | undefined {
  const waiting: unknown[] = [root]
  let nodes = 0
  let chars = 0
  for (let value = waiting.pop(); value !== undefined; value = waiting.pop()) {
    if (++nodes > nodesMax) return `have more than ${nodesMax} parts`
    if (typeof value === 'string') {
      if ((chars += value.length) > charsMax) return `have more than ${charsMax} characters`
      if (value.includes('\0')) return 'hold NUL'
    }
    if (typeof value === 'number' && !Number.isFinite(value)) return 'hold a number that is not finite'
    if (typeof value !== 'object' || value === null) continue
    if (Array.isArray(value)) {
      // Before a list of a million is gone through.
      if (nodes + value.length > nodesMax) return `have more than ${nodesMax} parts`
      for (const item of value) waiting.push(item ?? null)
      continue
    }
    for (const key in value) {
      if (key.includes('\0')) return 'hold NUL'
      if (waiting.push((value as Record<string, unknown>)[key] ?? null) > nodesMax)
        return `have more than ${nodesMax} parts`
    }
  }
  return undefined
}

type Persona = AssessmentResults['persona_profile']

function readPersona(value: unknown, recommended: unknown): { profile: Persona } | { problem: string } {
  const from: unknown = typeof value === 'string' ? { summary: value } : (value ?? {})
  if (!isObject(from)) return { problem: 'must be an object' }
  const summary = from['summary'] ?? ''
  if (typeof summary !== 'string') return { problem: 'must have a text for its summary' }
  const details = keep(from['details'] ?? null)
  const recommendations = keep(take(from, 'career_recommendations') ?? recommended)
  if (details === tooDeep || recommendations === tooDeep)
    return { problem: `is nested more than ${depthMax} levels deep` }
  const profile = {
    summary: summary.toWellFormed().trim(),
    details,
    career_recommendations: listOf(recommendations),
  }
  const isSilent =
    profile.summary === '' && isEmpty(profile.details) && profile.career_recommendations.length === 0
  return { profile: isSilent ? null : profile }
}

const isEmpty = (value: unknown): boolean =>
  value === null || value === '' || (typeof value === 'object' && Object.keys(value).length === 0)

const tooDeep = Symbol('too deep')

/** A copy that can be stored. The walk before has bounded how much there is of it. */
function keep(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (typeof value !== 'object' || value === null)
    return typeof value === 'number' || typeof value === 'boolean' ? value : null
  if (depth >= depthMax) return tooDeep
  if (Array.isArray(value)) {
    const items = value.map((item) => keep(item, depth + 1))
    return items.includes(tooDeep) ? tooDeep : items
  }
  const entries = new Map<string, unknown>()
  for (const [key, item] of Object.entries(value)) {
    const kept = keep(item, depth + 1)
    if (kept === tooDeep) return tooDeep
    if (!neverKeys.has(key)) entries.set(key.toWellFormed(), kept)
  }
  return Object.fromEntries(entries)
}

/** One career, or an object that describes some, is a list of one. */
function listOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value
  return value === null || value === '' ? [] : [value]
}
