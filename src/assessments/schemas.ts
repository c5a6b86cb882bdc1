/** The wire shapes of assessments. Types are inferred. */
import { z } from 'zod'
import { conversationSchema } from '../conversations/schemas.ts'
import { optionalBody } from '../http/body.ts'
import { text, userId } from '../http/text.ts'
import { messageSchema } from '../messages/schemas.ts'
import { assessmentId } from './event.ts'
import { assessmentResultsSchema } from './results.ts'

const trigger = text(1, 100).meta({
  description: "Who or what asked for it: kept in the conversation's metadata.",
})

export const suggestionsSchema = z
  .array(z.string())
  .meta({ description: '6 to 8 questions that the person may ask.' })

export const fromAssessmentBody = optionalBody(
  z.strictObject({
    assessment_id: assessmentId
      .optional()
      .meta({ description: 'Without it: the newest one that we know of.' }),
    title: text(1, 255).optional(),
    auto_start_message: z.boolean().default(true).meta({ description: 'Whether the assistant begins.' }),
  }),
)
export const fromAssessmentAnswer = z.object({
  conversation: conversationSchema,
  initial_message: messageSchema.nullable(),
  suggestions: suggestionsSchema,
})

export const contextBody = z.strictObject({ assessment_id: assessmentId })
export const contextAnswer = z.object({
  context_added: z.literal(true),
  assessment_data: assessmentResultsSchema,
})

export const readyAnswer = z.object({
  has_assessment: z.boolean(),
  assessment_date: z.string().nullable(),
  assessment_id: z.string().nullable(),
  conversation_exists: z.boolean(),
  conversation_id: z.uuid().nullable(),
  ready_for_chatbot: z.boolean(),
})
export type Readiness = z.infer<typeof readyAnswer>

export const adviserAnswer = z.object({
  exists: z.boolean(),
  conversation: conversationSchema.optional(),
  messages: z.array(messageSchema).optional(),
})

export const initializeBody = optionalBody(z.strictObject({ trigger_source: trigger.optional() }))
export const initializeAnswer = z.object({
  success: z.literal(true),
  message: z.string(),
  conversation_id: z.uuid(),
})

export const autoInitializeBody = z.strictObject({
  user_id: userId,
  assessment_id: assessmentId,
  trigger_source: trigger.optional(),
})
export const autoInitializeAnswer = z.object({
  conversation_id: z.uuid(),
  ready: z
    .boolean()
    .meta({ description: 'The welcome and the suggestions are there; else they are on their way.' }),
  initial_suggestions: suggestionsSchema,
})

export const receivedAnswer = z.object({
  accepted: z.literal(true),
  event_id: z.string(),
  duplicate: z.boolean().meta({ description: 'It was received before: nothing was done.' }),
})
