/** HTTP of usage: what my answers took and cost, by period, and in one conversation. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { userOf } from '../auth/authenticate.ts'
import type { Database } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { conversationParams, idOrMissing } from '../http/params.ts'
import { readConversationAnalytics, readUserAnalytics } from './analytics.ts'
import { conversationAnalyticsSchema, userAnalyticsSchema } from './analytics-schemas.ts'
import { spanOf } from './periods.ts'
import { breakdownMessagesMax, readConversationUsage, readSummary } from './queries.ts'
import { conversationUsageSchema, summaryQuery, summarySchema, wishOf } from './schemas.ts'

export async function usageRoutes(
  instance: FastifyInstance,
  { db, now }: { db: Database; now: () => Date },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const common = { onRequest: app.requireUser }

  app.get(
    '/usage/summary',
    {
      ...common,
      schema: {
        summary: 'What my answers took and cost in a period',
        description: [
          'Periods are of the UTC calendar: `day` is today, `week` begins on Monday, `month` (the default) and `year`',
          'are the current ones, or the one that `year` and `month` name together, or `year` alone.',
          '`year` or `month` with another period, or one of a month without the other, is refused.',
          '`from` is inclusive, `to` exclusive. `all` begins with the first answer (`from` is null where there is none)',
          'and ends with today. An answer belongs to the moment at which it was recorded, which is its end as a rule.',
          '',
          'Costs are exact sums of what is known; `unpriced_answers` are the answers of paid models that were cut, and',
          'whose price is not told yet, or never will be. What deleted conversations took stays counted.',
          '`messages_count` are the messages that were answered, `answers` what it took: stopped, failed and repeated',
          'attempts too. `free_share` is the share of answers by free models, null where there are no answers.',
          'A model that was free for one answer and paid for another stands twice in `by_model`, which begins with',
          'the dearest; `by_day` has the days with answers, oldest first.',
        ].join('\n'),
        tags: ['Usage'],
        querystring: summaryQuery,
        response: { 200: summarySchema },
      },
    },
    async (request) => {
      const caller = userOf(request)
      const { from, to } = spanOf(wishOf(request.query), now())
      const { first, ...sums } = await db.asCaller(caller, (tx) => readSummary(tx, caller.userId, from, to))
      return {
        period: request.query.period,
        from: from?.toISOString() ?? first,
        to: to.toISOString(),
        ...sums,
      }
    },
  )

  app.get(
    '/conversations/:id/usage',
    {
      ...common,
      schema: {
        summary: 'What the answers of a conversation took and cost',
        description: [
          `Totals are over all answers, on every branch. \`cost_breakdown\` has the newest ${breakdownMessagesMax}`,
          'answered messages, oldest first; `messages_count` says how many there are. A cost in it is null where',
          'nothing of it is known yet. What a fork was copied from is not counted again.',
        ].join('\n'),
        tags: ['Usage'],
        params: conversationParams,
        response: { 200: conversationUsageSchema },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const usage = await db.asCaller(userOf(request), (tx) => readConversationUsage(tx, id))
      if (usage === undefined) throw new AppError('conversation_not_found')
      return usage
    },
  )

  app.get(
    '/conversations/:id/analytics',
    {
      ...common,
      schema: {
        summary: 'How a conversation went',
        description:
          'All branches of it. Times are of the answers that were timed, from their start to their end.',
        tags: ['Usage'],
        params: conversationParams,
        response: { 200: conversationAnalyticsSchema },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'conversation_not_found')
      const analytics = await db.asCaller(userOf(request), (tx) => readConversationAnalytics(tx, id))
      if (analytics === undefined) throw new AppError('conversation_not_found')
      return analytics
    },
  )

  app.get(
    '/usage/analytics',
    {
      ...common,
      schema: {
        summary: 'How my conversations went in a period',
        description: [
          'Periods are those of the summary. What deleted conversations took stays in `usage`; nothing else of them is here.',
        ].join('\n'),
        tags: ['Usage'],
        querystring: summaryQuery,
        response: { 200: userAnalyticsSchema },
      },
    },
    async (request) => {
      const caller = userOf(request)
      const { from, to } = spanOf(wishOf(request.query), now())
      return db.asCaller(caller, async (tx) => {
        const [{ first, ...usage }, analytics] = await Promise.all([
          readSummary(tx, caller.userId, from, to),
          readUserAnalytics(tx, caller.userId, from, to),
        ])
        return {
          period: request.query.period,
          from: from?.toISOString() ?? first,
          to: to.toISOString(),
          ...analytics,
          usage,
        }
      })
    },
  )
}
