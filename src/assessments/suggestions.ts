/**
 * Door of assessments: questions that a person could ask next, made from what their results say.
 *
 * Promises, for any results and any questions of a model's: six to eight, no two of which differ by case and punctuation
 * only, each one line of at most `questionCharsMax` that ends in a question mark; careers, strengths, development and
 * next steps are among them; the same results give the same questions.
 */
import type { ContextType } from '../conversations/schemas.ts'
import { languageOf, type Language } from './language.ts'
import type { AssessmentResults } from './results.ts'
import { plainName } from './strengths.ts'
import { strengthsIn, topOcean, topRiasec } from './summary.ts'
import { suggestionTexts, type SuggestionTexts } from './suggestion-texts.ts'

export interface SuggestOptions {
  /** Null: none are known. */
  results: AssessmentResults | null
  language: Language
  /** What a model has suggested, put first where it makes sense. */
  asked?: readonly string[]
  contextType: ContextType
}

/** Six to eight are promised; more is a wall of buttons. */
const suggestionsMin = 6
const suggestionsMax = 8
/** UTF-16 units: two lines on a phone. */
const questionCharsMax = 160
/** With fewer it is no question that says something. */
const questionCharsMin = 8
/** Of a model's: more would push out what is promised. */
const askedMax = 3

export function suggest({ results, language, asked = [], contextType }: SuggestOptions): string[] {
  const texts = suggestionTexts[language]
  const made =
    results === null ? texts.general[contextType] : fromResults(results, texts, language, contextType)
  const sensible = asked.flatMap(cleanQuestion).filter((question) => {
    const spoken = languageOf([question])
    return spoken === undefined || spoken === language
  })
  const first = distinct(sensible).slice(0, askedMax)
  const fresh = distinct([
    ...first,
    ...made.filter((question) => !first.some((other) => isMuchTheSame(other, question))),
  ])
  const count = Math.min(Math.max(fresh.length, suggestionsMin), suggestionsMax)
  return distinct([...fresh, ...made]).slice(0, count)
}

/** Most of the words that carry the shorter one are in the other, too. */
function isMuchTheSame(one: string, other: string): boolean {
  const [fewer, more] = [stemsOf(one), stemsOf(other)].toSorted((a, b) => a.size - b.size)
  if (fewer === undefined || more === undefined || fewer.size < 2) return false
  return fewer.intersection(more).size / fewer.size >= sameShare
}

const sameShare = 0.75

/** Roughly: short words say little, and endings nothing. */
const stemsOf = (question: string): Set<string> =>
  new Set((question.toLowerCase().match(/\p{L}{4,}/gu) ?? []).map((word) => word.slice(0, 6)))

/** The first five say what every list must: three of a model's may come before them. */
function fromResults(
  results: AssessmentResults,
  texts: SuggestionTexts,
  language: Language,
  contextType: ContextType,
): string[] {
  const letters = topRiasec(results, 2).map(({ letter }) => letter)
  const [first, second] = letters
  const sides = letters.map((letter) => texts.side[letter])
  const [firstSide, secondSide] = sides
  const strengths = strengthsIn(results, language)
  const trait = topOcean(results, 1)[0]?.letter
  const [career, otherCareer] = careersIn(results)
  const atWork = strengths.slice(0, 2)
  return [
    firstSide === undefined ? texts.careersForResults : texts.careersForSides(sides),
    atWork.length === 0 ? texts.strengthsInResults : texts.strengthsAtWork(texts.and(atWork)),
    secondSide === undefined ? texts.develop : texts.growIn(secondSide),
    texts.nextSteps[contextType],
    ...(career === undefined
      ? []
      : otherCareer === undefined
        ? [texts.careerFits(career)]
        : [texts.careersCompared(career, otherCareer)]),
    ...(strengths.length > 2 ? [whichFirst(strengths, texts)] : []),
    ...(first === undefined ? [] : [texts.workWith[first]]),
    ...(trait === undefined ? [] : [texts.traitAtWork(texts.trait[trait])]),
    ...(second === undefined ? [] : [texts.workWith[second]]),
    ...(firstSide === undefined ? [] : [texts.tryOut(firstSide)]),
    // Where results say little.
    ...texts.general.assessment.slice(-3),
  ]
}

/** As many of them as the question has room for. */
function whichFirst(strengths: readonly string[], texts: SuggestionTexts): string {
  const question = texts.strengthFirst(texts.or(strengths))
  return question.length <= questionCharsMax ? question : whichFirst(strengths.slice(0, -1), texts)
}

/** How far a list of recommendations is read: people look at the first ones. */
const careersMax = 5
/** A longer text explains a career rather than names it, UTF-16 units. */
const careerCharsMax = 40

/** Names of recommended careers, as far as they are short plain texts. */
export function careersIn({ persona_profile: persona }: AssessmentResults): string[] {
  const names: string[] = []
  for (const item of persona?.career_recommendations ?? []) {
    if (names.length === careersMax) break
    const name = nameIn(item)?.trim() ?? ''
    const plain = plainName(name)
    if (plain !== '' && name.length <= careerCharsMax && !names.includes(plain)) names.push(plain)
  }
  return names
}

const careerKeys = ['career', 'career_name', 'careerName', 'title', 'name', 'role']

function nameIn(item: unknown): string | undefined {
  if (typeof item === 'string') return item
  if (typeof item !== 'object' || item === null) return undefined
  const fields = new Map(Object.entries(item))
  return careerKeys.map((key): unknown => fields.get(key)).find((value) => typeof value === 'string')
}

function distinct(questions: readonly string[]): string[] {
  const seen = new Set<string>()
  return questions.filter((question) => {
    const bare = question
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, ' ')
      .trim()
    return !seen.has(bare) && seen.add(bare)
  })
}

/** Of a welcome's end, UTF-16 units: enough for a long list of questions. */
const endChars = 4_000
/** A longer line is a paragraph. */
const lineCharsMax = 400

/** What a welcome ends with: its last lines that are a question each, at most three, without their Markdown. */
export function questionsIn(text: string): string[] {
  const lines = text.slice(-endChars).split(/[\r\n\u2028\u2029]+/)
  return distinct(lines.flatMap(cleanQuestion)).slice(-askedMax)
}

/** “What would you like to explore?” is the assistant's question. */
const asksThePerson = /\b(?:you|your|anda|kamu|kalian)\b/i
const isThePersons = /\b(?:I|me|my|mine|myself|saya|aku)\b|\p{L}ku\b/iu

/** None or one. */
function cleanQuestion(line: string): string[] {
  if (line.length > lineCharsMax) return []
  const plain = line
    .toWellFormed()
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\u200b\ufeff]+/gu, ' ')
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/[*_`~]+(?=\S)|(?<=\S)[*_`~]+/g, '')
    .replace(/^(?:\s|[-–—•·+*>#]|\d{1,2}[.)])+/, '')
    .replace(/^["'“”‘’„«»]+|["'“”‘’„«»]+$/g, '')
    .replace(/？$/, '?')
    .replace(/\s+/g, ' ')
    .trim()
  const isQuestion = plain.endsWith('?') && /\p{L}{2}/u.test(plain) && !/[<>[\]{}|\\]|https?:/.test(plain)
  if (asksThePerson.test(plain) && !isThePersons.test(plain)) return []
  return isQuestion && plain.length >= questionCharsMin && plain.length <= questionCharsMax ? [plain] : []
}
