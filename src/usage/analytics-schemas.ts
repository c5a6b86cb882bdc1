/** The wire shapes of analytics. Types are inferred. */
import { z } from 'zod'
import { summarySchema } from './schemas.ts'

const ms = z.int().nullable().meta({ description: 'Milliseconds; null where nothing was timed.' })
const reactions = z.object({ like: z.int(), dislike: z.int(), helpful: z.int(), not_helpful: z.int() })

export const conversationAnalyticsSchema = z
  .object({
    conversation_id: z.uuid(),
    message_statistics: z.array(
      z.object({
        sender_type: z.enum(['user', 'assistant', 'system']),
        count: z.int(),
        avg_length: z.number().meta({ description: 'Characters.' }),
      }),
    ),
    usage_statistics: z.object({
      total_tokens: z.int(),
      total_cost: z.string().meta({ description: 'Credits, an exact decimal: the sum of the known ones.' }),
      avg_processing_time: ms,
      p95_processing_time: ms,
      total_requests: z.int().meta({ description: 'Answers of an upstream, repeated attempts too.' }),
    }),
    reactions,
    conversation_duration_seconds: z.int(),
    last_activity: z.iso.datetime(),
  })
  .meta({ id: 'ConversationAnalytics' })
export type ConversationAnalytics = z.infer<typeof conversationAnalyticsSchema>

export const userAnalyticsSchema = z
  .object({
    period: z.enum(['day', 'week', 'month', 'year', 'all']),
    from: z.iso.datetime().nullable(),
    to: z.iso.datetime(),
    conversations_count: z.int(),
    messages: z.object({ user: z.int(), assistant: z.int(), system: z.int() }),
    response_time: z.object({ avg_ms: ms, p95_ms: ms }),
    reactions,
    busiest_hours: z.array(z.object({ hour: z.int().min(0).max(23), messages: z.int() })).meta({
      description: 'Of the day in UTC, by the messages that were written in them, the busiest first.',
    }),
    usage: summarySchema.pick({
      total_tokens: true,
      prompt_tokens: true,
      completion_tokens: true,
      total_cost: true,
      unpriced_answers: true,
      by_model: true,
    }),
  })
  .meta({ id: 'UserAnalytics' })
export type UserAnalytics = z.infer<typeof userAnalyticsSchema>
