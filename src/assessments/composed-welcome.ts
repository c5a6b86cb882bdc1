/**
 * Door of assessments: the welcome where no model could write one, from the scores alone. Markdown.
 *
 * It says what scores say and no more: two or three insights, and three questions to begin with. What is not known is
 * left out, and names are plain text.
 */
import { welcomeTexts, type WelcomeTexts } from './composed-welcome-texts.ts'
import type { Language } from './language.ts'
import type { AssessmentResults } from './results.ts'
import { plainName } from './strengths.ts'
import { suggestionTexts } from './suggestion-texts.ts'
import { careersIn, suggest } from './suggestions.ts'
import { strengthsIn, topOcean, topRiasec } from './summary.ts'

export interface WelcomeOptions {
  /** Null: none are known. */
  results: AssessmentResults | null
  language: Language
  name?: string | undefined
}

/** More are a report, and no welcome. */
const insightsMax = 3
const questionsMax = 3

export function composeWelcome({ results, language, name }: WelcomeOptions): string {
  const texts = welcomeTexts[language]
  const called = plainName(name ?? '')
  const questions = suggest({ results, language, contextType: results === null ? 'general' : 'assessment' })
  const list = (lines: readonly string[]) => lines.map((line) => `- ${line}`).join('\n')
  const asked = [texts.questions, list(questions.slice(0, questionsMax))]
  const greeting = `**${texts.greeting(called === '' ? undefined : called)}**`
  return (
    results === null
      ? [greeting, texts.general, ...asked, texts.generalClosing]
      : [greeting, texts.introduction, list(insightsOf(results, texts, language)), ...asked, texts.closing]
  ).join('\n\n')
}

function insightsOf(results: AssessmentResults, texts: WelcomeTexts, language: Language): string[] {
  const labelled = (label: string, insight: string | undefined) =>
    insight === undefined ? [] : [`**${label}:** ${insight}`]
  const { ocean, via_is: strengths, persona_profile: persona } = results
  const others = persona === null ? Object.keys(ocean).length + Object.keys(strengths).length : 1
  return [
    ...(others === 0
      ? interestsAlone(results, texts, language)
      : labelled(texts.interests.label, interestsOf(results, texts, language))),
    ...labelled(texts.personality, personalityOf(results, texts)),
    ...labelled(texts.strengths.label, strengthsOf(results, texts, language)),
    ...labelled(texts.profile.label, profileOf(results, texts, language)),
  ].slice(0, insightsMax)
}

/** Interests that lie closer together than this are told as even: which one is first is chance, points. */
const evenPoints = 5

/** Each of the two highest is an insight of its own, where nothing else is known. */
function interestsAlone(results: AssessmentResults, texts: WelcomeTexts, language: Language): string[] {
  const names = suggestionTexts[language].side
  return topRiasec(results, 2).map(({ letter }) => {
    const name = names[letter]
    return `**${name.charAt(0).toUpperCase()}${name.slice(1)}:** ${texts.likes[letter]}`
  })
}

function interestsOf(
  results: AssessmentResults,
  { interests, likes }: WelcomeTexts,
  language: Language,
): string | undefined {
  const scores = topRiasec(results, Infinity)
  const [first, second] = scores
  if (first === undefined) return undefined
  const { side, and } = suggestionTexts[language]
  if (second === undefined) return `${interests.one(side[first.letter])} ${likes[first.letter]}`
  const isEven = scores.length > 2 && first.score - (scores.at(-1)?.score ?? 0) < evenPoints
  const lead = isEven
    ? interests.even(and([side[first.letter], side[second.letter]]))
    : interests.two(side[first.letter], side[second.letter])
  return `${lead} ${likes[first.letter]} ${likes[second.letter]}`
}

/** Nearer to the middle than this, a score says little, points. */
const middlePoints = 10

/** By the score that is farthest from the middle. */
function personalityOf(results: AssessmentResults, { trait, balanced }: WelcomeTexts): string | undefined {
  const scores = topOcean(results, Infinity)
  const [farthest] = scores.toSorted((a, b) => Math.abs(b.score - 50) - Math.abs(a.score - 50))
  if (farthest === undefined) return undefined
  const { letter, score } = farthest
  if (Math.abs(score - 50) >= middlePoints) return score > 50 ? trait[letter].high : trait[letter].low
  return scores.length > 2 ? balanced : undefined
}

function strengthsOf(
  results: AssessmentResults,
  { strengths: texts }: WelcomeTexts,
  language: Language,
): string | undefined {
  const names = strengthsIn(results, language, 3)
  const [name] = names
  if (name === undefined) return undefined
  return names.length === 1 ? texts.one(name) : texts.several(suggestionTexts[language].and(names))
}

function profileOf(
  results: AssessmentResults,
  { profile }: WelcomeTexts,
  language: Language,
): string | undefined {
  if (results.persona_profile === null) return undefined
  const careers = careersIn(results).slice(0, 3)
  return careers.length === 0 ? profile.text : profile.careers(suggestionTexts[language].and(careers))
}
