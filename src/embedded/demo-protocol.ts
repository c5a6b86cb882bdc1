/**
 * The part of OpenRouter's chat-completions protocol that the demo model speaks: requests, chunks, usage, models.
 * https://openrouter.ai/docs/api-reference/overview
 */
import { z } from 'zod'

export const DEMO_MODEL_ID = 'rivulet/demo:free'
export const PAID_MODEL_ID = 'rivulet/demo-pro'

const chatMessage = z.looseObject({
  role: z.string(),
  content: z
    .union([z.string(), z.array(z.looseObject({ type: z.string(), text: z.string().optional() }))])
    .nullish(),
})

export const chatRequest = z.looseObject({
  model: z.string().optional(),
  messages: z.array(chatMessage).min(1),
  stream: z.boolean().nullish(),
  temperature: z.number().nullish(),
  max_tokens: z.int().positive().nullish(),
  max_completion_tokens: z.int().positive().nullish(),
  reasoning: z
    .looseObject({
      exclude: z.boolean().nullish(),
      effort: z.string().nullish(),
      enabled: z.boolean().nullish(),
    })
    .nullish(),
})
export type ChatRequest = z.infer<typeof chatRequest>
export type ChatMessage = z.infer<typeof chatMessage>

export function textOf(message: ChatMessage): string {
  const { content } = message
  if (typeof content === 'string') return content
  return (content ?? []).map((part) => part.text ?? '').join('')
}

/** Tokens are counted (`prompt` by estimate), prices are USD per token, `cost` is in credits (= USD). */
export interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  cost: number
  cost_details: { upstream_inference_cost: number | null }
  prompt_tokens_details: { cached_tokens: number }
  completion_tokens_details: { reasoning_tokens: number }
}

export interface TokenCounts {
  prompt: number
  content: number
  reasoning: number
}

/** A prompt token is 4 UTF-16 units, rounded up, and a message adds 4; a completion token is a delta that was sent. */
export function promptTokens(request: ChatRequest): number {
  return request.messages.reduce((sum, message) => sum + 4 + Math.ceil(textOf(message).length / 4), 0)
}

export function usageOf(model: string, counts: TokenCounts): Usage {
  const completion = counts.content + counts.reasoning
  const price = priceOf(model)
  return {
    prompt_tokens: counts.prompt,
    completion_tokens: completion,
    total_tokens: counts.prompt + completion,
    cost: Number((counts.prompt * price.prompt + completion * price.completion).toPrecision(8)),
    cost_details: { upstream_inference_cost: null },
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: counts.reasoning },
  }
}

const PAID = { prompt: 0.000_000_15, completion: 0.000_000_6 }

/** A model outside the catalogue costs what the paid one costs, unless it is named `:free`. */
function priceOf(model: string) {
  return model.endsWith(':free') ? { prompt: 0, completion: 0 } : PAID
}

/** `GET /models`. Prices are strings there. */
export const catalogue = [
  catalogueEntry(DEMO_MODEL_ID, 'Rivulet: Demo (free)', 32_768),
  catalogueEntry('rivulet/demo-small:free', 'Rivulet: Demo Small (free)', 8_192),
  catalogueEntry(PAID_MODEL_ID, 'Rivulet: Demo Pro', 131_072),
]

function catalogueEntry(id: string, name: string, contextLength: number) {
  const price = priceOf(id)
  return {
    id,
    canonical_slug: id.replace(/:free$/, ''),
    name,
    created: 1_750_000_000,
    description: 'Built into Rivulet: prepared answers, no network.',
    context_length: contextLength,
    architecture: {
      modality: 'text->text',
      input_modalities: ['text'],
      output_modalities: ['text'],
      tokenizer: 'Other',
      instruct_type: null,
    },
    pricing: {
      prompt: decimal(price.prompt),
      completion: decimal(price.completion),
      request: '0',
      image: '0',
      web_search: '0',
      internal_reasoning: '0',
    },
    top_provider: { context_length: contextLength, max_completion_tokens: 4_096, is_moderated: false },
    per_request_limits: null,
    supported_parameters: ['max_tokens', 'temperature', 'reasoning', 'include_reasoning'],
    expiration_date: null,
  }
}

function decimal(price: number): string {
  return price === 0 ? '0' : price.toFixed(10).replace(/0+$/, '')
}

export interface UpstreamError {
  code: number | string
  message: string
  metadata?: Record<string, unknown>
}

export const PROCESSING = ': OPENROUTER PROCESSING\n\n'
export const DONE = 'data: [DONE]\n\n'

export interface GenerationHead {
  id: string
  model: string
  /** seconds since the epoch */
  created: number
}

/** Frames of one streamed answer. The constant part is serialized once: benchmarks send millions of them. */
export function createFrames(head: GenerationHead) {
  const { id, model, created } = head
  const opening = JSON.stringify({ id, provider: 'Rivulet', model, object: 'chat.completion.chunk', created })
  const start = `data: ${opening.slice(0, -1)},`
  const contentStart = `${start}"choices":[{"index":0,"delta":{"role":"assistant","content":`
  const contentEnd = '},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}\n\n'

  return {
    contentStart,
    content: (text: string) => `${contentStart}${JSON.stringify(text)}${contentEnd}`,
    reasoning(text: string) {
      const details = [{ type: 'reasoning.text', text, format: 'unknown', index: 0 }]
      return `${contentStart}"","reasoning":${JSON.stringify(text)},"reasoning_details":${JSON.stringify(details)}${contentEnd}`
    },
    finish: (reason: string) => `${start}"choices":[${JSON.stringify(finishChoice(reason))}]}\n\n`,
    usage: (usage: Usage) => `${start}"choices":[],"usage":${JSON.stringify(usage)}}\n\n`,
    error(error: UpstreamError, withChoice: boolean) {
      const choices = withChoice ? [finishChoice('error')] : []
      return `${start}"error":${JSON.stringify(error)},"choices":${JSON.stringify(choices)}}\n\n`
    },
  }
}

function finishChoice(reason: string) {
  return {
    index: 0,
    delta: { role: 'assistant', content: '' },
    finish_reason: reason,
    native_finish_reason: reason,
    logprobs: null,
  }
}

export interface CompletedAnswer {
  content: string
  reasoning: string
  finishReason: string | null
  /** absent: the body has no usage */
  usage: Usage | undefined
}

/** The body of an answer that was not streamed. */
export function completion(head: GenerationHead, answer: CompletedAnswer) {
  return {
    id: head.id,
    provider: 'Rivulet',
    model: head.model,
    object: 'chat.completion',
    created: head.created,
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: answer.content,
          refusal: null,
          reasoning: answer.reasoning === '' ? null : answer.reasoning,
        },
        finish_reason: answer.finishReason,
        native_finish_reason: answer.finishReason,
        logprobs: null,
      },
    ],
    ...(answer.usage && { usage: answer.usage }),
  }
}
