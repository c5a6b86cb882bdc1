/** Results of an assessment that nobody took, made from its id: the same each time, plausible, and of many kinds. */
import { ENGLISH_PERSONA, INDONESIAN_PERSONA, STRENGTHS, type Letter } from './demo-results-texts.ts'

/** As the archive tells them. */
export interface DemoResults {
  assessment_id: string
  /** Nobody's: whoever asks for them. */
  user_id: null
  /** RFC 3339. */
  assessment_date: string
  riasec: Record<Letter, number>
  ocean: Record<'O' | 'C' | 'E' | 'A' | 'N', number>
  via_is: Record<string, number>
  persona_profile: { summary: string; details: Record<string, string>; career_recommendations: string[] }
}

const LETTERS = ['R', 'I', 'A', 'S', 'E', 'C'] as const
const FIRST_DATE_MS = Date.UTC(2026, 0, 5, 8)
const DAYS = 180
const DAY_MS = 86_400_000

/** In Indonesian where the id ends in `-id`, else in English. */
export function demoResults(assessmentId: string): DemoResults {
  const random = createRandom(assessmentId)
  const between = (low: number, high: number) => low + Math.floor(random() * (high - low + 1))

  const letters = shuffled(LETTERS, random)
  const [first = 'R', second = 'I'] = letters
  // Two stand out, as they do in people who are to be told something.
  const bounds = [
    [86, 96],
    [76, 85],
    [62, 75],
    [48, 61],
    [34, 47],
    [18, 33],
  ] as const
  const scores = new Map(bounds.map(([low, high], place) => [letters[place], between(low, high)]))
  const score = (letter: Letter) => scores.get(letter) ?? 0

  const persona = assessmentId.endsWith('-id') ? INDONESIAN_PERSONA : ENGLISH_PERSONA
  const [one, other] = [persona.types[first], persona.types[second]]
  return {
    assessment_id: assessmentId,
    user_id: null,
    assessment_date: new Date(FIRST_DATE_MS + between(0, DAYS - 1) * DAY_MS).toISOString(),
    riasec: { R: score('R'), I: score('I'), A: score('A'), S: score('S'), E: score('E'), C: score('C') },
    ocean: {
      O: between(45, 95),
      C: between(40, 95),
      E: between(25, 90),
      A: between(40, 95),
      N: between(15, 65),
    },
    via_is: Object.fromEntries(STRENGTHS.map((strength) => [strength, between(40, 97)])),
    persona_profile: {
      summary: persona.summary(one.kind, one.likes, other.likes),
      details: { style: one.style, environment: other.place, growth: one.growth },
      career_recommendations: [...one.careers, ...other.careers.slice(0, 2)],
    },
  }
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const left = [...items]
  const drawn: T[] = []
  while (left.length > 0) drawn.push(...left.splice(Math.floor(random() * left.length), 1))
  return drawn
}

/** From 0 to below 1; mulberry32, seeded by FNV-1a of the text. */
function createRandom(text: string): () => number {
  let seed = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    seed = Math.imul(seed ^ text.charCodeAt(index), 0x01000193)
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let value = Math.imul(seed ^ (seed >>> 15), seed | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}
