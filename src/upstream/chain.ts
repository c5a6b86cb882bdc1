/**
 * Door of upstream, for policy: which model answers. One model for now: what was asked for, else the conversation's, else the default.
 *
 * `free` callers get free models, and the default one, which the operator chose for everybody; `premium` callers
 * any model of the allowed list.
 */
import { AppError } from '../errors.ts'

export type Tier = 'free' | 'premium'

export interface ModelChain {
  /** @throws AppError `model_not_allowed`, before anything is stored. */
  choose(wish: { requested?: string | undefined; conversationModel?: string | null; tier: Tier }): string
  /** @throws AppError `model_not_allowed`. */
  assertAllowed(model: string, tier: Tier): void
}

/** By OpenRouter's convention: free variants end in `:free`. */
export const isFreeModel = (model: string): boolean => model.endsWith(':free')

export function createModelChain(options: {
  defaultModel: string
  /** Further models that may be asked for. */
  allowed: readonly string[]
  freeOnly: boolean
}): ModelChain {
  const { defaultModel, freeOnly } = options
  const allowed = new Set([defaultModel, ...options.allowed])

  function assertAllowed(model: string, tier: Tier): void {
    const affordable = model === defaultModel || isFreeModel(model) || (tier === 'premium' && !freeOnly)
    if (!allowed.has(model) || !affordable)
      throw new AppError('model_not_allowed', { detail: 'This model is not one that you may ask for.' })
  }

  return {
    assertAllowed,
    choose({ requested, conversationModel, tier }) {
      const wished = requested ?? conversationModel ?? undefined
      if (wished === undefined) return defaultModel
      // A conversation may remember a model that has been taken off the list since: then the default answers.
      if (requested === undefined && !allowed.has(wished)) return defaultModel
      assertAllowed(wished, tier)
      return wished
    },
  }
}
