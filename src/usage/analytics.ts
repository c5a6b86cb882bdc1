/**
 * SQL of analytics: how one conversation went, and how a user's all did in a period. As their user. A deleted conversation
 * is in none of it but for what it took, which stays in the sums of usage.
 *
 * Response times are of answers that a model gave, from their start to their end, as their messages say.
 */
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { ConversationAnalytics, UserAnalytics } from './analytics-schemas.ts'

/** Of `chat.messages m`; null: a question, or an answer that has not ended, or that nobody timed. */
const responseMs = sql`
  case when m.sender_type = 'assistant' and m.status <> 'streaming'
    and jsonb_typeof(m.metadata -> 'processing_time_ms') = 'number'
    then (m.metadata ->> 'processing_time_ms')::float8 end`

const p95 = (values: SQL) => sql`percentile_disc(0.95) within group (order by ${values})`

interface AnalyticsRow extends Record<string, unknown> {
  messages: ConversationAnalytics['message_statistics']
  total_tokens: string
  total_cost: string
  requests: string
  average: number | null
  p95: number | null
  reactions: Record<string, number> | null
  seconds: number
  last_activity: string
}

/** Undefined: there is no such conversation. */
export async function readConversationAnalytics(
  tx: Tx,
  conversationId: string,
): Promise<ConversationAnalytics | undefined> {
  const [row] = await tx.execute<AnalyticsRow>(sql`
    with message as materialized (
      select m.sender_type, length(m.content) as length, m.created_at, ${responseMs} as response_ms
      from chat.messages m where m.conversation_id = ${conversationId}
    )
    select
      (select coalesce(json_agg(json_build_object('sender_type', s.sender_type, 'count', s.count,
          'avg_length', s.average) order by s.sender_type), '[]')
        from (select sender_type, count(*), round(avg(length), 1)::float8 as average from message group by 1) s) as messages,
      u.tokens as total_tokens, u.cost as total_cost, u.requests, t.average, t.p95,
      (select json_object_agg(r.reaction, r.count) from (
        select reaction, count(*) from chat.message_reactions where conversation_id = ${conversationId} group by 1) r)
        as reactions,
      greatest(extract(epoch from c.activity_at - c.created_at), 0)::float8 as seconds,
      c.activity_at as last_activity
    from chat.conversations c
      cross join (select coalesce(sum(total_tokens), 0) as tokens, trim_scale(coalesce(sum(cost), 0))::text as cost,
        count(*) as requests from chat.usage_tracking where conversation_id = ${conversationId}) u
      cross join (select avg(response_ms) as average, ${p95(sql`response_ms`)} as p95 from message) t
    where c.id = ${conversationId} and c.status <> 'deleted'`)
  if (row === undefined) return undefined
  return {
    conversation_id: conversationId,
    message_statistics: row.messages,
    usage_statistics: {
      total_tokens: Number(row.total_tokens),
      total_cost: row.total_cost,
      avg_processing_time: rounded(row.average),
      p95_processing_time: rounded(row.p95),
      total_requests: Number(row.requests),
    },
    reactions: reactionsOf(row.reactions),
    conversation_duration_seconds: Math.round(row.seconds),
    last_activity: row.last_activity,
  }
}

const rounded = (ms: number | null) => (ms === null ? null : Math.round(ms))

const reactionsOf = (counted: Record<string, number> | null) => ({
  like: 0,
  dislike: 0,
  helpful: 0,
  not_helpful: 0,
  ...counted,
})

interface PeriodRow extends Record<string, unknown> {
  messages: Record<string, number> | null
  conversations: string
  average: number | null
  p95: number | null
  hours: { hour: number; messages: number }[] | null
  reactions: Record<string, number> | null
}

/** What the sums of usage (queries.ts) do not say of the same period. */
export async function readUserAnalytics(
  tx: Tx,
  userId: string,
  from: Date | undefined,
  to: Date,
): Promise<Omit<UserAnalytics, 'period' | 'from' | 'to' | 'usage'>> {
  const within = (time: SQL) =>
    from === undefined
      ? sql`true`
      : sql`${time} >= ${from.toISOString()}::timestamptz and ${time} < ${to.toISOString()}::timestamptz`
  const [row] = await tx.execute<PeriodRow>(sql`
    with message as materialized (
      select m.conversation_id, m.sender_type, m.created_at, ${responseMs} as response_ms
      from chat.messages m join chat.conversations c on c.id = m.conversation_id and c.status <> 'deleted'
      where c.user_id = ${userId} and ${within(sql`m.created_at`)}
    )
    select
      (select json_object_agg(s.sender_type, s.count)
        from (select sender_type, count(*) from message group by 1) s) as messages,
      (select count(distinct conversation_id) from message) as conversations,
      (select avg(response_ms) from message) as average,
      (select ${p95(sql`response_ms`)} from message) as p95,
      (select json_agg(json_build_object('hour', h.hour, 'messages', h.count) order by h.count desc, h.hour)
        from (select extract(hour from created_at at time zone 'UTC')::int as hour, count(*)
          from message where sender_type = 'user' group by 1) h) as hours,
      (select json_object_agg(r.reaction, r.count) from (
        select r.reaction, count(*) from chat.message_reactions r
        join chat.conversations c on c.id = r.conversation_id and c.status <> 'deleted'
        where r.user_id = ${userId} and ${within(sql`r.updated_at`)} group by 1) r) as reactions`)
  if (row === undefined) throw new Error('a sum of nothing is a row too')
  const { user = 0, assistant = 0, system = 0 } = row.messages ?? {}
  return {
    conversations_count: Number(row.conversations),
    messages: { user, assistant, system },
    response_time: { avg_ms: rounded(row.average), p95_ms: rounded(row.p95) },
    reactions: reactionsOf(row.reactions),
    busiest_hours: row.hours ?? [],
  }
}
