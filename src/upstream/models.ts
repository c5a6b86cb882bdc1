/**
 * Door of upstream, for its catalogue: which models there are, what they cost, how much they read (`GET /models`).
 *
 * Read at the start and every hour, and sooner again where that failed; nothing waits for it, and nothing needs it:
 * without a catalogue, or on a server that has none, what the operator named is what is known.
 */
import { Agent, request } from 'undici'
import { z } from 'zod'
import type { Logger } from '../logging.ts'
import { cleanText } from './clean-text.ts'
import { plainDecimal } from './decode.ts'

export interface Model {
  id: string
  name: string
  /** Tokens that it reads and writes in all; null: not told. */
  contextLength: number | null
  /** USD a token, exact decimals; null: not told. */
  pricing: { prompt: string; completion: string; request?: string | undefined } | null
}

export interface Catalogue {
  find(id: string): Model | undefined
  /** By OpenRouter's convention (`:free`), or by a price of zero that is told. */
  isFree: (id: string) => boolean
  /** It has a price, or is unknown to a server that has prices. A server of one's own has none: neither free nor paid. */
  isPaid: (id: string) => boolean
  /** Reads it now. Never rejects. @returns whether it could be read. */
  refresh(): Promise<boolean>
  close(): Promise<void>
}

/** By OpenRouter's convention: free variants end in `:free`. All that is known where there is no catalogue at hand. */
export const isFreeModel = (model: string): boolean => model.endsWith(':free')

const refreshMs = 3_600_000
const retryMs = 60_000
const timeoutMs = 15_000
/** OpenRouter's is under a megabyte. */
const bodyBytesMax = 16 * 1024 * 1024
const modelsMax = 10_000

export interface CatalogueOptions {
  baseUrl: string
  apiKey: string
  log: Logger
  refreshMs?: number
}

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const { baseUrl, apiKey, log } = options
  const agent = new Agent({ connect: { timeout: timeoutMs }, allowH2: false })
  const url = `${baseUrl.replace(/\/$/, '')}/models`
  const closing = new AbortController()
  // Their users pay for every model but the free ones, listed or not.
  const sells = /(^|\.)(openrouter\.ai|openai\.com|azure\.com)$/.test(new URL(baseUrl).hostname)
  let models: ReadonlyMap<string, Model> = new Map()
  let tellsPrices = false
  let timer: NodeJS.Timeout | undefined
  let reading: Promise<boolean> | undefined

  const isFree = (id: string) => isFreeModel(id) || isZero(models.get(id)?.pricing)

  async function read(): Promise<boolean> {
    clearTimeout(timer)
    let delayMs = options.refreshMs ?? refreshMs
    try {
      const found = await fetchModels()
      models = new Map(found.map((model) => [model.id, model]))
      // Who has told prices once sells, also when it tells none this time.
      tellsPrices ||= found.some(({ pricing }) => pricing !== null)
      log.debug({ event: 'models_read', count: models.size }, 'the catalogue of models was read')
      return true
    } catch (error) {
      delayMs = Math.min(delayMs, retryMs)
      if (!closing.signal.aborted)
        log.debug({ event: 'models_unread', err: error }, 'the catalogue of models cannot be read')
      return false
    } finally {
      reading = undefined
      if (!closing.signal.aborted) timer = setTimeout(() => void refresh(), delayMs).unref()
    }
  }

  async function fetchModels(): Promise<Model[]> {
    const { statusCode, body } = await request(url, {
      dispatcher: agent,
      headers: { authorization: `Bearer ${apiKey}`, accept: 'application/json' },
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]),
    })
    const parts: Buffer[] = []
    let bytes = 0
    for await (const part of body as AsyncIterable<Buffer>) {
      bytes += part.length
      if (bytes > bodyBytesMax) throw new Error('the catalogue is too long')
      parts.push(part)
    }
    if (statusCode !== 200) throw new Error(`status ${statusCode}`)
    return readModels(JSON.parse(Buffer.concat(parts).toString('utf8')))
  }

  function refresh(): Promise<boolean> {
    reading ??= read()
    return reading
  }

  return {
    find: (id) => models.get(id),
    isFree,
    isPaid: (id) => !isFree(id) && (sells || tellsPrices),
    refresh,
    async close() {
      closing.abort()
      clearTimeout(timer)
      await reading
      await agent.destroy()
    },
  }
}

const price = z
  .union([z.string(), z.number()])
  // An empty one is no price: read as zero it would make a model free.
  .transform((told) => (typeof told === 'string' && told.trim() === '' ? NaN : Number(told)))
  .pipe(z.number().min(0))
  .transform(plainDecimal)
const tokens = z.int().min(1).max(1_000_000_000)
const entry = z.object({
  id: z.string().min(1).max(200),
  name: z.string().max(300).optional().catch(undefined),
  context_length: tokens.nullish().catch(null),
  top_provider: z
    .object({ context_length: tokens.nullish().catch(null) })
    .nullish()
    .catch(null),
  pricing: z.object({ prompt: price, completion: price, request: price.optional() }).nullish().catch(null),
})
const list = z.object({ data: z.array(z.unknown()) })

/** What cannot be read of a list is left out: one odd entry is no reason to know none. */
function readModels(body: unknown): Model[] {
  const models: Model[] = []
  for (const told of list.parse(body).data.slice(0, modelsMax)) {
    const read = entry.safeParse(told)
    if (!read.success) continue
    const { id, name, context_length, top_provider, pricing } = read.data
    models.push({
      id: cleanText(id),
      name: cleanText(name ?? id),
      // The provider that answers may read less than the model could.
      contextLength: top_provider?.context_length ?? context_length ?? null,
      pricing: pricing ?? null,
    })
  }
  return models
}

const isZero = (pricing: Model['pricing'] | undefined) =>
  pricing != null &&
  [pricing.prompt, pricing.completion, pricing.request ?? '0'].every((told) => told === '0')
