/**
 * The conversation about an assessment, its adviser: what it is called, what it knows, how it begins, and what may be
 * asked in it. Pure: the same results, the same adviser.
 */
import type { Opening } from '../messages/opening.ts'
import { composeWelcome } from './composed-welcome.ts'
import { languageOf, type Language } from './language.ts'
import { readBeginning, welcomeType } from './queries.ts'
import type { AssessmentResults } from './results.ts'
import { questionsIn, suggest } from './suggestions.ts'
import { welcomeInstruction } from './welcome-prompt.ts'

const titles: Readonly<Record<Language, string>> = {
  en: 'Your assessment results',
  id: 'Hasil asesmen Anda',
}

export const titleOf = (results: AssessmentResults) => titles[writtenIn(results)]

/** What its conversation knows of an assessment. */
export const contextOf = (assessmentId: string, results: AssessmentResults): Record<string, unknown> => ({
  assessment_id: assessmentId,
  assessment_date: results.assessment_date,
  riasec: results.riasec,
  ocean: results.ocean,
  via_is: results.via_is,
  persona_profile: results.persona_profile,
})

/** A persona is written in its person's language; English where nothing tells. */
export function writtenIn(results: AssessmentResults | null): Language {
  const persona = results?.persona_profile
  const texts = [persona?.summary, persona?.details].filter((text) => typeof text === 'string')
  return languageOf(texts) ?? 'en'
}

/** After as many that were cut off by dying processes nobody asks a model again. */
export const begunMax = 3

export const welcomeOf = (
  assessmentId: string,
  results: AssessmentResults,
  tiers: Opening['tiers'],
): Opening => {
  const language = writtenIn(results)
  return {
    tiers,
    metadata: { type: welcomeType, assessment_id: assessmentId },
    instruction: () => welcomeInstruction(language),
    standIn: () => composeWelcome({ results, language }),
    async isWanted(tx, conversationId) {
      const { welcomes, hasSpoken } = await readBeginning(tx, conversationId)
      return !hasSpoken && welcomes.every(({ status }) => status === 'interrupted' || status === 'failed')
    },
  }
}

/** @param welcome its text: the questions that a model has put into it come first. */
export const questionsFor = (results: AssessmentResults, welcome: string | undefined): string[] =>
  suggest({
    results,
    language: writtenIn(results),
    asked: welcome === undefined ? [] : questionsIn(welcome),
    contextType: 'assessment',
  })
