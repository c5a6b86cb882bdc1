/**
 * A conversation's context data in the order in which a model should read it: where it holds the results of an
 * assessment, first what they say in short, last what is long, so that a cut takes that.
 *
 * Results that cannot be read are printed as they came. Whose they are is not told: a model needs no user's id.
 */
import { parseResults, resultKeys, unwrapResults, type AssessmentResults } from '../assessments/results.ts'
import { summarize } from '../assessments/summary.ts'

type Data = Readonly<Record<string, unknown>>

/** Under which keys results stand where they are not the context data itself. */
const nestings = ['assessment', 'assessment_data', 'assessmentData']

/** A longer text waits until the scores are told, UTF-16 units. */
const plainCharsMax = 500

/** @returns the data itself, or a map of it, for `printData`. */
export function orderData(data: Data): object {
  const flat = read(data)
  if (flat !== undefined) return order(flat, [])
  for (const place of nestings) {
    const nested = Object.hasOwn(data, place) ? read(data[place]) : undefined
    if (nested !== undefined) return order(nested, entriesBut(data, new Set([place])))
  }
  return data
}

interface Read {
  results: AssessmentResults
  /** What they were read from. */
  source: Data
}

function read(value: unknown): Read | undefined {
  const source = unwrapResults(value)
  const parsed = source && parseResults(source)
  return source === undefined || parsed === undefined || 'problem' in parsed
    ? undefined
    : { results: parsed.results, source }
}

type Entries = readonly (readonly [key: string, value: unknown])[]

function order({ results, source }: Read, beside: Entries): Map<string, unknown> {
  const { persona_profile: persona, riasec, ocean, via_is, assessment_date, assessment_id } = results
  const others: Entries = [...beside, ...entriesBut(source, resultKeys)]
  const isPlain = ([, value]: Entries[number]) =>
    typeof value === 'string' ? value.length <= plainCharsMax : typeof value !== 'object'
  const personaSource = source['persona_profile'] ?? source['personaProfile']
  return new Map<string, unknown>(
    firstOfEach([
      ['assessment_summary', summarize(results)],
      ['persona_summary', persona?.summary],
      ...others.filter(isPlain),
      ['assessment_id', assessment_id],
      ['assessment_date', assessment_date],
      ['riasec', riasec],
      ['ocean', ocean],
      ['via_is', via_is],
      ['career_recommendations', persona?.career_recommendations],
      ...others.filter((entry) => !isPlain(entry)),
      ['persona_details', persona?.details],
      ['persona_more', Object.fromEntries(entriesBut(personaSource, personaKeys))],
    ]),
  )
}

const personaKeys = new Set(['summary', 'details', 'career_recommendations', 'careerRecommendations'])

const entriesBut = (data: unknown, keys: ReadonlySet<string>): Entries =>
  typeof data !== 'object' || data === null || Array.isArray(data)
    ? []
    : Object.entries(data).filter(([key]) => !keys.has(key))

/** Without those that say nothing; ours come before a sender's of the same name. */
function firstOfEach(entries: Entries): Entries {
  const seen = new Set<string>()
  return entries.filter(([key, value]) => {
    const says = value != null && value !== '' && (typeof value !== 'object' || Object.keys(value).length > 0)
    return says && !seen.has(key) && seen.add(key)
  })
}
