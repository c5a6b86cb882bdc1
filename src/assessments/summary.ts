/** Door of assessments: results in one line, and what stands out of them. */
import type { Language } from './language.ts'
import {
  oceanLetters,
  riasecLetters,
  type AssessmentResults,
  type OceanLetter,
  type RiasecLetter,
} from './results.ts'
import { plainName, strengthName } from './strengths.ts'

/** Such as `RIASEC (I: 92, R: 85, A: 78), Big Five (O: 88, E: 82, C: 75), Top strengths (…), Career profile: available`. */
export function summarize(results: AssessmentResults, language: Language = 'en'): string {
  const say = words[language]
  const parts: string[] = []
  const print = (scores: readonly { letter: string; score: number }[]) =>
    scores.map(({ letter, score }) => `${letter}: ${Math.round(score)}`).join(', ')
  const [riasec, ocean] = [topRiasec(results), topOcean(results)]
  if (riasec.length > 0) parts.push(`RIASEC (${print(riasec)})`)
  if (ocean.length > 0) parts.push(`Big Five (${print(ocean)})`)
  const strengths = strengthsIn(results, language)
  if (strengths.length > 0) parts.push(`${say.strengths} (${strengths.join(', ')})`)
  if (results.persona_profile !== null) parts.push(say.profile)
  return parts.join(', ')
}

const words: Record<Language, { strengths: string; profile: string }> = {
  en: { strengths: 'Top strengths', profile: 'Career profile: available' },
  id: { strengths: 'Kekuatan utama', profile: 'Profil karier: tersedia' },
}

export interface Scored<Letter extends string> {
  letter: Letter
  score: number
}

/** Highest first; of the same score in the order of the model's name. */
export const topRiasec = ({ riasec }: Pick<AssessmentResults, 'riasec'>, count = 3): Scored<RiasecLetter>[] =>
  highest(riasecLetters, riasec).slice(0, count)

export const topOcean = ({ ocean }: Pick<AssessmentResults, 'ocean'>, count = 3): Scored<OceanLetter>[] =>
  highest(oceanLetters, ocean).slice(0, count)

function highest<Letter extends string>(
  letters: readonly Letter[],
  scores: Partial<Record<Letter, number>>,
): Scored<Letter>[] {
  return letters
    .flatMap((letter) => {
      const score = scores[letter]
      return score === undefined ? [] : [{ letter, score }]
    })
    .sort((a, b) => b.score - a.score)
}

/** Names as results have them, highest first, of the same score by name; without those that cannot be printed. */
export const topStrengths = ({ via_is: strengths }: Pick<AssessmentResults, 'via_is'>, count = 5): string[] =>
  Object.entries(strengths)
    .filter(([name]) => plainName(name) !== '')
    // By code units: the same on every machine.
    .sort(([a, scoreA], [b, scoreB]) => scoreB - scoreA || (a < b ? -1 : 1))
    .slice(0, count)
    .map(([name]) => name)

/** The same as they are called in a language, each once. */
export const strengthsIn = (
  results: Pick<AssessmentResults, 'via_is'>,
  language: Language,
  count = 5,
): string[] =>
  [...new Set(topStrengths(results, Infinity).map((name) => strengthName(name, language)))].slice(0, count)
