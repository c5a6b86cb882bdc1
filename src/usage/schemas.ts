/** The wire shapes of usage. Sums of costs are over the known ones; how many are not known yet stands beside them. */
import { z } from 'zod'
import { wholeNumber } from '../http/pagination.ts'
import { usageSchema } from '../messages/schemas.ts'
import type { Wish } from './periods.ts'

/** Nobody asked a language model before; and years of four digits print as RFC 3339. */
const yearMin = 2000
const yearMax = 2999

export const summaryQuery = z
  .object({
    period: z.enum(['day', 'week', 'month', 'year', 'all']).default('month'),
    year: wholeNumber(yearMin, yearMax).optional(),
    month: wholeNumber(1, 12).optional(),
  })
  .superRefine(({ period, year, month }, context) => {
    const refuse = (path: 'year' | 'month', message: string) =>
      context.addIssue({ code: 'custom', path: [path], message })
    if (year !== undefined && period !== 'month' && period !== 'year')
      refuse('year', 'names a month or a year only: this period is the current one')
    if (month !== undefined && period !== 'month') refuse('month', 'goes with period=month only')
    if (period === 'month' && month !== undefined && year === undefined)
      refuse('year', 'is missing: of which year is this month?')
    if (period === 'month' && year !== undefined && month === undefined)
      refuse('month', 'is missing; period=year is the whole year')
  })

/** As `summaryQuery` lets it through: a month has its year, and the others have neither. */
export function wishOf({ period, year, month }: z.output<typeof summaryQuery>): Wish {
  switch (period) {
    case 'month':
      return { period, named: year === undefined || month === undefined ? undefined : { year, month } }
    case 'year':
      return { period, named: year === undefined ? undefined : { year } }
    default:
      return { period }
  }
}

const cost = z.string().meta({ description: 'Credits, an exact decimal: the sum of the known ones.' })
const sums = {
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  cost,
  answers: z.int().meta({
    description: 'Answers of an upstream: a message that took several attempts has several.',
  }),
  unpriced_answers: z.int().meta({ description: 'Those of them whose cost is not known yet.' }),
}

const modelUsageSchema = z.object({ model: z.string(), ...sums, is_free: z.boolean() })
export type ModelUsage = z.infer<typeof modelUsageSchema>

const dayUsageSchema = z.object({ date: z.iso.date(), ...sums })
export type DayUsage = z.infer<typeof dayUsageSchema>

export const summarySchema = z
  .object({
    period: z.enum(['day', 'week', 'month', 'year', 'all']),
    from: z.iso.datetime().nullable(),
    to: z.iso.datetime(),
    total_tokens: z.int(),
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_cost: cost,
    unpriced_answers: sums.unpriced_answers,
    conversations_count: z.int(),
    messages_count: z.int(),
    by_model: z.array(modelUsageSchema),
    by_day: z.array(dayUsageSchema),
    free_share: z.number().min(0).max(1).nullable(),
  })
  .meta({ id: 'UsageSummary' })
export type UsageSummary = z.infer<typeof summarySchema>

const messageUsageSchema = z.object({
  message_id: z.uuid(),
  ...usageSchema.shape,
  answers: sums.answers,
  unpriced_answers: sums.unpriced_answers,
})
export type MessageUsage = z.infer<typeof messageUsageSchema>

export const conversationUsageSchema = z
  .object({
    total_tokens: z.int(),
    total_cost: cost,
    unpriced_answers: sums.unpriced_answers,
    messages_count: z.int(),
    cost_breakdown: z.array(messageUsageSchema),
    model_usage: z.array(modelUsageSchema),
  })
  .meta({ id: 'ConversationUsage' })
export type ConversationUsage = z.infer<typeof conversationUsageSchema>
