/** What each attempt at an answer took and may cost: as the upstream reported it, else as an estimate, else nothing. */
import { estimateTokens } from '../context/build.ts'
import type { Attempt } from '../upstream/attempts.ts'
import { UpstreamFailed } from '../upstream/openrouter.ts'
import type { Settlement } from './settle.ts'

/**
 * What the upstream reported; else an estimate, which is never a free one for a model that is not.
 *
 * @param written text and reasoning of this attempt. @param ended who ended the answer: `stopped` is its user.
 */
export function usageOf(
  { model: askedModel, answer, error, request }: Attempt,
  written: string,
  ended: 'by itself' | 'stopped' | 'by us',
  isFreeModel: (model: string) => boolean,
): Settlement['usages'][number] | undefined {
  const model = answer?.model ?? askedModel
  const isFree = isFreeModel(askedModel)
  const upstreamId = answer?.upstreamId
  const reported = answer?.usage
  if (reported !== undefined) {
    const { promptTokens, completionTokens, totalTokens } = reported
    const cost = reported.cost ?? (isFree ? '0' : null)
    return {
      model,
      promptTokens,
      completionTokens,
      totalTokens,
      cost,
      isFreeModel: isFree,
      source: 'reported',
      upstreamId,
    }
  }
  // Closed by us before its first word: its prompt had been read, and some providers charge for that.
  const silent = error instanceof UpstreamFailed && error.kind === 'silent'
  const closedByUs = ended !== 'by itself' || silent
  const mayBeBilled = ended === 'stopped' || (closedByUs && answer !== undefined)
  // Nothing was written and nothing reported: a refusal, a reset, an error page. Nobody charges for those.
  if (request === undefined || (written === '' && !mayBeBilled)) return undefined
  const { promptTokens } = request
  const completionTokens = estimateTokens(written)
  return {
    model,
    promptTokens,
    completionTokens,
    totalTokens: promptTokens + completionTokens,
    cost: isFree ? '0' : null,
    isFreeModel: isFree,
    source: 'estimated',
    upstreamId,
  }
}

/** How far what a model counted may be from our estimate: languages and vocabularies differ that much, and no more. */
const plausibleFactor = 3

/** An upstream's own count of an answer; undefined where it cannot be one, such as pieces counted as tokens. */
export function plausibleTokens(told: number | undefined, content: string): number | undefined {
  if (told === undefined) return undefined
  const estimate = estimateTokens(content)
  return told * plausibleFactor >= estimate && told <= estimate * plausibleFactor ? told : undefined
}
