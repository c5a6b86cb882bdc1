/** What may be asked in a conversation: what was found for its assessment, else what the rules make of what it knows. */
import type { Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { writtenIn } from './adviser.ts'
import { languageOf } from './language.ts'
import { readAssessment, readNewestWords, readOwn } from './queries.ts'
import { parseResults } from './results.ts'
import { suggest } from './suggestions.ts'

/** As the conversation's user, in the language that was written in it last. */
export async function conversationQuestions(tx: Tx, conversationId: string): Promise<string[]> {
  const conversation = await readOwn(tx, conversationId)
  if (conversation === undefined) throw new AppError('conversation_not_found')
  const { assessment_id, context_data, context_type: contextType } = conversation
  const [said, assessment] = await Promise.all([
    readNewestWords(tx, conversationId),
    assessment_id === null ? undefined : readAssessment(tx, assessment_id),
  ])
  const parsed = parseResults(context_data)
  const results = 'results' in parsed ? parsed.results : null
  const language = languageOf(said) ?? writtenIn(results)
  // Another assessment may have been added to it by hand.
  const isAbout = context_data['assessment_id'] === assessment_id
  const found = isAbout ? (assessment?.suggestions ?? null) : null
  if (found !== null && (languageOf(found) ?? language) === language) return found
  return suggest({ results, language, contextType })
}
