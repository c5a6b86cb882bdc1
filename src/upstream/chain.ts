/**
 * Door of upstream, for policy: which models may answer, in the order of trying.
 *
 * What was asked for, else the conversation's, else what its kind begins with; then the default, the fallback, and the
 * emergency one. Tier `free` and `freeOnly` never reach a model that costs; a model whose price nobody tells (a server of
 * one's own) counts as free where the operator named it for everybody, and as paid where it is asked for.
 */
import type { ContextType } from '../conversations/schemas.ts'
import { AppError } from '../errors.ts'
import type { Catalogue } from './models.ts'

export type Tier = 'free' | 'premium'

export interface Wish {
  requested?: string | undefined
  conversationModel?: string | null
  contextType?: ContextType
  tier: Tier
}

export type Chain = readonly [first: string, ...others: string[]]

export interface ModelChain {
  /** @throws AppError `model_not_allowed`, before anything is stored. */
  choose(wish: Wish): Chain
  /** @throws AppError `model_not_allowed`. */
  assertAllowed(model: string, tier: Tier): void
  /** What this tier may ask for, and what it is answered by unless it does. */
  offered(tier: Tier): { models: readonly string[]; chain: readonly string[] }
  /** All that are ever asked. */
  readonly known: ReadonlySet<string>
}

export interface ChainOptions {
  defaultModel: string
  fallbackModel?: string | undefined
  /** Paid as a rule: the last one, for who may have it. */
  emergencyModel?: string | undefined
  /** Where premium's conversations about careers and assessments begin. */
  premiumModel?: string | undefined
  /** Further models that may be asked for. */
  allowed: readonly string[]
  freeOnly: boolean
  catalogue: Pick<Catalogue, 'isFree' | 'isPaid'>
}

export function createModelChain(options: ChainOptions): ModelChain {
  const { defaultModel, fallbackModel, emergencyModel, premiumModel, freeOnly, catalogue } = options
  const forAll = [defaultModel, fallbackModel].filter((model) => model !== undefined)
  const all = [...forAll, emergencyModel, premiumModel, ...options.allowed]
  const known = new Set(all.filter((model) => model !== undefined))

  const mayHave = (model: string, tier: Tier) => {
    if (tier === 'premium' && !freeOnly) return true
    return forAll.includes(model) ? !catalogue.isPaid(model) : catalogue.isFree(model)
  }
  const isAllowed = (model: string, tier: Tier) => known.has(model) && mayHave(model, tier)

  function usual(tier: Tier, contextType: ContextType): string[] {
    const special = tier === 'premium' && contextType !== 'general' ? premiumModel : undefined
    const models = [special, ...forAll, emergencyModel].filter((model) => model !== undefined)
    return models.filter((model) => mayHave(model, tier))
  }

  function assertAllowed(model: string, tier: Tier): void {
    if (!isAllowed(model, tier)) throw notAllowed('This model is not one that you may ask for.')
  }

  return {
    known,
    assertAllowed,
    offered: (tier) => ({
      models: [...known].filter((model) => mayHave(model, tier)),
      chain: [...new Set(usual(tier, 'general'))],
    }),
    choose({ requested, conversationModel, contextType = 'general', tier }) {
      if (requested !== undefined) assertAllowed(requested, tier)
      // A conversation may remember a model that has been taken off the list since, or that its owner no longer pays for.
      const remembered = conversationModel ?? undefined
      const wished =
        requested ?? (remembered !== undefined && isAllowed(remembered, tier) ? remembered : undefined)
      const models = new Set([...(wished === undefined ? [] : [wished]), ...usual(tier, contextType)])
      const [first, ...others] = models
      if (first === undefined) throw notAllowed('No model is configured that you may use.')
      return [first, ...others]
    },
  }
}

const notAllowed = (detail: string) => new AppError('model_not_allowed', { detail })
