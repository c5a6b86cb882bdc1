/** The wire shapes of messages, as the contract names them. Types are inferred; queries.ts makes the values. */
import { z } from 'zod'
import { optionalBody } from '../http/body.ts'
import { text } from '../http/text.ts'

export const usageSchema = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  cost: z.string().nullable().meta({ description: 'Credits as an exact decimal; null while not known yet.' }),
  is_free_model: z.boolean(),
  source: z.enum(['reported', 'estimated', 'reconciled']),
})
export type Usage = z.infer<typeof usageSchema>

export const reactionSchema = z.enum(['like', 'dislike', 'helpful', 'not_helpful'])
export type Reaction = z.infer<typeof reactionSchema>

export const messageSchema = z
  .object({
    id: z.uuid(),
    conversation_id: z.uuid(),
    parent_message_id: z.uuid().nullable(),
    sender_type: z.enum(['user', 'assistant', 'system']),
    sender_id: z.string().meta({ description: "The user's id, or the model's." }),
    content: z.string(),
    content_type: z.enum(['text', 'image', 'file']),
    status: z.enum(['complete', 'streaming', 'stopped', 'failed', 'interrupted']),
    metadata: z.record(z.string(), z.unknown()),
    usage: usageSchema.nullable(),
    reaction: reactionSchema.nullable(),
    sibling_ids: z.array(z.uuid()).meta({
      description:
        'All messages under the same parent, oldest first, this one included: "2 of 3" is its position.',
    }),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'Message' })
export type Message = z.infer<typeof messageSchema>

export const activeGenerationSchema = z
  .object({
    generation_id: z.uuid(),
    message_id: z.uuid(),
    stream_url: z.string(),
    started_at: z.iso.datetime(),
  })
  .meta({ id: 'ActiveGeneration' })
export type ActiveGeneration = z.infer<typeof activeGenerationSchema>

const generationParams = {
  model: text(1, 200).optional(),
  temperature: z.number().min(0).max(2).optional(),
  max_tokens: z.int().min(1).max(1_000_000).optional().meta({ description: 'At most MAX_TOKENS is used.' }),
  stream: z.boolean().optional(),
}

export const sendBody = (contentCharsMax: number) =>
  z.strictObject({
    content: text(1, contentCharsMax),
    content_type: z.enum(['text', 'image', 'file']).default('text'),
    parent_message_id: z.uuid().nullable().optional().meta({
      description: 'Absent: the current leaf. An id: a branch from there. null: a new root.',
    }),
    client_message_id: z
      .string()
      .optional()
      .meta({ description: 'An idempotency key, where a header cannot be sent.' }),
    if_generating: z.enum(['reject', 'interrupt', 'wait']).default('reject'),
    ...generationParams,
  })
export type SendBody = z.infer<ReturnType<typeof sendBody>>

export const regenerateBody = optionalBody(z.strictObject(generationParams))
export type RegenerateBody = z.infer<typeof regenerateBody>
