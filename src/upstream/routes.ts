/** HTTP of the models: what this caller may ask for, and what answers unless they do. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import type { ModelChain } from './chain.ts'
import type { Catalogue } from './models.ts'

const modelSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    is_free: z.boolean(),
    context_length: z.int().nullable().meta({ description: 'Tokens read and written; null: not known.' }),
    pricing: z
      .object({ prompt: z.string(), completion: z.string() })
      .nullable()
      .meta({ description: 'Credits a token, as exact decimals; null: not known.' }),
    default: z.boolean(),
  })
  .meta({ id: 'Model' })

export async function modelRoutes(
  instance: FastifyInstance,
  { chain, models }: { chain: ModelChain; models: Catalogue },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()

  app.get(
    '/models',
    {
      onRequest: app.requireUser,
      schema: {
        summary: 'The models that you may ask for',
        description:
          '`chain` is who answers when no model is asked for: the first one, and where it fails before its first word, the next.',
        tags: ['Models'],
        response: { 200: z.object({ models: z.array(modelSchema), chain: z.array(z.string()) }) },
      },
    },
    async (request) => {
      const offered = chain.offered(userOf(request).tier)
      const described = offered.models.map((id) => {
        const model = models.find(id)
        const is_free = models.isFree(id)
        const free = is_free ? { prompt: '0', completion: '0' } : null
        return {
          id,
          name: model?.name ?? id,
          is_free,
          context_length: model?.contextLength ?? null,
          pricing: model?.pricing
            ? { prompt: model.pricing.prompt, completion: model.pricing.completion }
            : free,
          default: id === offered.chain[0],
        }
      })
      return { models: described, chain: [...offered.chain] }
    },
  )
}
