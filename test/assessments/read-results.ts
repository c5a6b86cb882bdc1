/** Results as tests write them, and a typical set of them. */
import { parseResults, type AssessmentResults } from '../../src/assessments/results.ts'

export function resultsOf(value: unknown): AssessmentResults {
  const read = parseResults(value)
  if ('problem' in read) throw new Error(read.problem)
  return read.results
}

export const problemOf = (value: unknown): string | undefined => {
  const read = parseResults(value)
  return 'problem' in read ? read.problem : undefined
}

/** As an archive answers it. */
export const typical = {
  assessment_id: 'a1',
  user_id: 'ann',
  assessment_date: '2026-03-04T05:06:07.000Z',
  riasec: { R: 85, I: 92, A: 78, S: 40, E: 35, C: 20 },
  ocean: { O: 88, C: 75, E: 82, A: 60, N: 30 },
  via_is: { kindness: 87, creativity: 95, curiosity: 90, fairness: 86, leadership: 93, humor: 12 },
  persona_profile: {
    summary: 'A thinker who builds.',
    details: { archetype: 'The Engineer' },
    career_recommendations: ['Data Scientist', 'Mechanical Engineer'],
  },
}
