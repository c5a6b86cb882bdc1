/**
 * An event of an assessment, as other services tell it: over a queue, or over HTTP. Parsed here, once, in both spellings;
 * what it has besides is left alone.
 */
import { z } from 'zod'
import { userId } from '../http/text.ts'
import { parseResults, unwrapResults, type AssessmentResults } from './results.ts'

export const eventTypes = [
  'assessment_submitted',
  'analysis_started',
  'analysis_complete',
  'analysis_failed',
] as const
export type EventType = (typeof eventTypes)[number]

export interface AssessmentEvent {
  /** The teller's; where it gives none, one made of type, user, assessment and version. */
  id: string
  type: EventType
  userId: string
  assessmentId: string
  /** By the teller's clock, RFC 3339; null: not told. */
  occurredAt: string | null
  /** A decimal; null: its teller counts none. */
  version: string | null
  results: AssessmentResults | null
}

export type ParsedEvent =
  | { event: AssessmentEvent }
  /** `why` is a code; `path` and `message` never quote a value. */
  | { why: 'unknown_type' | 'invalid_event'; path: string; message: string }

/** With other words for the same. */
const types: ReadonlyMap<string, EventType> = new Map([
  ...eventTypes.map((type): [string, EventType] => [type, type]),
  ['assessment_complete', 'analysis_complete'],
  ['assessment_started', 'analysis_started'],
])

const idCharsMax = 128

/** Ids are taken as they are: whoever trims one makes another. */
export const assessmentId = z
  .string()
  .min(1)
  .max(idCharsMax)
  .refine((id) => !/\p{Cc}/u.test(id) && id.isWellFormed(), 'must not contain control characters')
  .refine((id) => id.trim() === id, 'must not begin or end with a blank')

const eventId = z
  .string()
  .min(1)
  .max(255)
  .refine((id) => !id.includes('\0') && id.isWellFormed(), 'must not contain NUL or half of a surrogate pair')

/** Digits that PostgreSQL's numeric takes, before and behind the point. What is no number does not say which of two is newer: their times do. */
const version = z.unknown().transform((told) => {
  const printed = typeof told === 'number' ? String(told) : told
  return typeof printed === 'string' && /^\d{1,30}(\.\d{1,10})?$/.test(printed) ? printed : null
})

/** Without a zone it is UTC, as our own times are; small numbers are seconds. Within what anybody means, and PostgreSQL takes. */
const moment = z
  .union([
    z.string().max(64).transform(parseTime),
    z.number().transform((told) => (told < 1e11 ? told * 1000 : told)),
  ])
  .refine((ms) => Number.isFinite(ms) && ms > Date.UTC(1990) && ms < Date.UTC(2200), 'must be a time')
  .transform((ms) => new Date(ms).toISOString())

function parseTime(told: string): number {
  const [, day, time] = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)$/.exec(told.trim()) ?? []
  return Date.parse(day === undefined || time === undefined ? told : `${day}T${time}Z`)
}

const eventSchema = z.object({
  event_id: eventId.nullish(),
  type: z.string().max(100),
  user_id: userId,
  assessment_id: assessmentId,
  occurred_at: moment.nullish(),
  version: version.optional(),
  results: z.record(z.string(), z.unknown()).nullish(),
})

const spellings: Readonly<Record<string, string>> = {
  eventId: 'event_id',
  userId: 'user_id',
  assessmentId: 'assessment_id',
  occurredAt: 'occurred_at',
}

export function parseEvent(value: unknown): ParsedEvent {
  const read = eventSchema.safeParse(spelled(value))
  if (!read.success) {
    const [issue] = read.error.issues
    return invalid(issue?.path.join('.') ?? '', issue?.message ?? 'is no event')
  }
  const { event_id, user_id, assessment_id, occurred_at = null, version: told = null, ...rest } = read.data
  const type = types.get(rest.type)
  if (type === undefined)
    return { why: 'unknown_type', path: 'type', message: `must be one of ${eventTypes.join(', ')}` }
  let results: AssessmentResults | null = null
  // An object without any section that we know, such as where they are kept, is none: then the archive is asked.
  if (rest.results != null && unwrapResults(rest.results) !== undefined) {
    const parsed = parseResults(rest.results)
    if ('problem' in parsed) return invalid('results', parsed.problem)
    results = parsed.results
    if ((results.assessment_id ?? assessment_id) !== assessment_id)
      return invalid('results.assessment_id', 'is not the assessment of the event')
  }
  // With its user: what is told of an assessment under another's name is not the same once more.
  const id = event_id ?? JSON.stringify([type, user_id, assessment_id, told])
  return {
    event: {
      id,
      type,
      userId: user_id,
      assessmentId: assessment_id,
      occurredAt: occurred_at,
      version: told,
      results,
    },
  }
}

const invalid = (path: string, message: string): ParsedEvent => ({ why: 'invalid_event', path, message })

/** Whichever spelling it has, the contract's first. */
function spelled(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const named: Record<string, unknown> = { ...value }
  for (const [other, name] of Object.entries(spellings)) named[name] ??= named[other]
  return named
}

/**
 * The bytes of a queue's message. `__proto__` is no key of anybody's event.
 *
 * @throws SyntaxError where it is no JSON in UTF-8.
 */
export function readJson(body: Buffer): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body), (key, value: unknown) => {
    if (key === '__proto__') throw new SyntaxError('__proto__ is no key')
    return value
  }) as unknown
}
