/** The wire shapes of conversations, as the contract names them. */
import { z } from 'zod'
import { optionalBody } from '../http/body.ts'
import { jsonObject, text } from '../http/text.ts'
import { activeGenerationSchema } from '../messages/schemas.ts'

export const contextTypeSchema = z.enum(['general', 'assessment', 'career_guidance'])
export type ContextType = z.infer<typeof contextTypeSchema>

export const conversationSchema = z
  .object({
    id: z.uuid(),
    title: z.string(),
    context_type: contextTypeSchema,
    context_data: z.record(z.string(), z.unknown()),
    status: z.enum(['active', 'archived']),
    metadata: z.record(z.string(), z.unknown()),
    model: z.string().nullable(),
    current_message_id: z.uuid().nullable(),
    message_count: z.int(),
    active_generation: activeGenerationSchema.nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    last_message_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Conversation' })
export type Conversation = z.infer<typeof conversationSchema>

/** What is told of a conversation that has changed: `conversation.updated`. */
export const conversationChangeSchema = z
  .object({
    id: z.uuid(),
    reason: z.enum([
      'created',
      'forked',
      'renamed',
      'status',
      'branch',
      'metadata',
      'deleted',
      'message',
      'answer',
      'title',
    ]),
    title: z.string(),
    status: z.enum(['active', 'archived', 'deleted']),
    current_message_id: z.uuid().nullable(),
    message_count: z.int(),
    updated_at: z.iso.datetime(),
  })
  .meta({
    id: 'ConversationChange',
    description:
      'How it stands now. `message`: a turn has begun, and current_message_id is the answer being generated; `answer`: it has ended; `title`: a model has named it.',
  })
export type ConversationChange = z.infer<typeof conversationChangeSchema>

const title = text(1, 255)

export const createBody = optionalBody(
  z.strictObject({
    title: title.optional(),
    context_type: contextTypeSchema.default('general'),
    context_data: jsonObject.default({}),
    metadata: jsonObject.default({}),
    model: text(1, 200).optional(),
  }),
)
export type CreateBody = z.infer<typeof createBody>

export const updateBody = z.strictObject({
  title: title.optional(),
  status: z.enum(['active', 'archived']).optional(),
  metadata: jsonObject.optional(),
  current_message_id: z.uuid().optional(),
})
export type UpdateBody = z.infer<typeof updateBody>

export const forkBody = z.strictObject({ message_id: z.uuid(), title: title.optional() })
