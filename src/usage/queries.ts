/**
 * SQL of usage: what one upstream answer took and cost, and sums of it.
 *
 * Every sum is taken in one statement, so that its parts are of one moment: a cost that is reconciled meanwhile is in
 * all of them or in none. Costs are added by PostgreSQL, printed without trailing zeros, and never become a float.
 */
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { ConversationUsage, MessageUsage, ModelUsage, UsageSummary } from './schemas.ts'

export interface UsageRow {
  id: string
  userId: string
  conversationId: string
  messageId: string
  generationId: string
  model: string
  promptTokens: number
  completionTokens: number
  totalTokens: number
  /** An exact decimal, or null where the price is not known yet. */
  cost: string | null
  isFreeModel: boolean
  source: 'reported' | 'estimated' | 'reconciled'
}

export async function insertUsage(tx: Tx, usage: UsageRow): Promise<void> {
  await tx.execute(sql`
    insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
      completion_tokens, total_tokens, cost, is_free_model, source)
    values (${usage.id}, ${usage.userId}, ${usage.conversationId}, ${usage.messageId}, ${usage.generationId},
      ${usage.model}, ${usage.promptTokens}, ${usage.completionTokens}, ${usage.totalTokens}, ${usage.cost}::numeric,
      ${usage.isFreeModel}, ${usage.source})`)
}

export async function deleteUsage(tx: Tx, id: string): Promise<void> {
  await tx.execute(sql`delete from chat.usage_tracking where id = ${id}`)
}

/** What it took in the end. Only where that was a guess, or its cost not known; an unknown number stays the guess. */
export async function reconcileUsage(
  tx: Tx,
  id: string,
  bill: { promptTokens: number | undefined; completionTokens: number | undefined; cost: string },
): Promise<void> {
  const prompt = sql`coalesce(${bill.promptTokens ?? null}::int, prompt_tokens)`
  const completion = sql`coalesce(${bill.completionTokens ?? null}::int, completion_tokens)`
  await tx.execute(sql`
    update chat.usage_tracking set prompt_tokens = ${prompt}, completion_tokens = ${completion},
      total_tokens = least(${prompt}::bigint + ${completion}, 2147483647), cost = ${bill.cost}::numeric,
      source = 'reconciled'
    where id = ${id} and (source = 'estimated' or cost is null)`)
}

/**
 * A message's usage: the sum of the upstream answers that it took. Of `chat.usage_tracking u`, the rows of one message.
 *
 * The cost is null where none is known, or where what is known is nothing and something is not: never a silent zero.
 * `min` is the least certain source: estimated, reconciled, reported.
 */
export const messageUsage: SQL = sql`
  json_build_object('prompt_tokens', sum(u.prompt_tokens), 'completion_tokens', sum(u.completion_tokens),
    'total_tokens', sum(u.total_tokens),
    'cost', case when sum(u.cost) > 0 or bool_and(u.cost is not null) then trim_scale(sum(u.cost))::text end,
    'is_free_model', bool_and(u.is_free_model), 'source', min(u.source))`

/** Of rows of `chat.usage_tracking`. */
const rowSums = sql`
  count(*) as answers, count(*) - count(cost) as unpriced, sum(prompt_tokens) as prompt_tokens,
  sum(completion_tokens) as completion_tokens, sum(total_tokens) as total_tokens, sum(cost) as cost`

/** Of rows that are `rowSums` already; none is a sum too. */
const sumsOfSums = sql`
  coalesce(sum(answers), 0) as answers, coalesce(sum(unpriced), 0) as unpriced,
  coalesce(sum(prompt_tokens), 0) as prompt_tokens, coalesce(sum(completion_tokens), 0) as completion_tokens,
  coalesce(sum(total_tokens), 0) as total_tokens, trim_scale(coalesce(sum(cost), 0))::text as cost`

/** Counts come as text, as bigint and numeric do; they are far below 2^53. */
interface SumsRow extends Record<string, unknown> {
  answers: string
  unpriced: string
  prompt_tokens: string
  completion_tokens: string
  total_tokens: string
  cost: string
}

const toSums = (row: SumsRow) => ({
  prompt_tokens: Number(row.prompt_tokens),
  completion_tokens: Number(row.completion_tokens),
  total_tokens: Number(row.total_tokens),
  cost: row.cost,
  answers: Number(row.answers),
  unpriced_answers: Number(row.unpriced),
})

/** Of one model, as far as its answers were free, or were not. */
interface ModelRow extends SumsRow {
  model: string
  is_free_model: boolean
}

const toModelUsage = (row: ModelRow): ModelUsage => ({
  model: row.model,
  ...toSums(row),
  is_free: row.is_free_model,
})

type SummaryRow = SumsRow &
  (
    | { part: 'model'; model: string; is_free_model: boolean }
    | { part: 'day'; date: string }
    | { part: 'total'; first: string | null; free: string; messages: string; conversations: string }
  )

/** @returns also when the first answer was, null where there is none. */
export async function readSummary(
  tx: Tx,
  userId: string,
  from: Date | undefined,
  to: Date,
): Promise<Omit<UsageSummary, 'period' | 'from' | 'to'> & { first: string | null }> {
  // Without a beginning there is no end either: the clocks of this process and the database may differ.
  const mine =
    from === undefined
      ? sql`user_id = ${userId}`
      : sql`user_id = ${userId} and created_at >= ${from.toISOString()}::timestamptz
          and created_at < ${to.toISOString()}::timestamptz`
  // Behind `offset 0` the planner guesses that there are few dates, and hashes. Seeing where they come from it expects
  // as many as there are moments, and may sort all rows by them, which takes longer than the rest of this.
  const rows = await tx.execute<SummaryRow>(sql`
      with cells as materialized (
        select model, is_free_model, date, min(created_at) as first, ${rowSums}
        from (select *, (created_at at time zone 'UTC')::date as date from chat.usage_tracking where ${mine} offset 0)
          as used
        group by 1, 2, 3),
      answered as materialized (
        select count(*) as conversations, coalesce(sum(messages), 0) as messages from (
          select conversation_id, count(*) as messages from (
            select conversation_id, message_id from chat.usage_tracking where ${mine} group by 1, 2) as message
          group by 1) as conversation)
      select case when grouping(model) = 0 then 'model' when grouping(date) = 0 then 'day' else 'total' end as part,
        model, is_free_model, date::text, min(first) as first, ${sumsOfSums},
        coalesce(sum(answers) filter (where is_free_model), 0) as free,
        (select messages from answered), (select conversations from answered)
      from cells group by grouping sets ((), (model, is_free_model), (date))
      order by date, sum(cost) desc nulls last, sum(total_tokens) desc, model`)
  const total = rows.find((row) => row.part === 'total')
  if (total === undefined) throw new Error('a sum of nothing is a row too')
  const { cost, answers, ...sums } = toSums(total)
  return {
    first: total.first,
    ...sums,
    total_cost: cost,
    conversations_count: Number(total.conversations),
    messages_count: Number(total.messages),
    by_model: rows.filter((row) => row.part === 'model').map(toModelUsage),
    by_day: rows.filter((row) => row.part === 'day').map((row) => ({ date: row.date, ...toSums(row) })),
    free_share: answers === 0 ? null : Number(total.free) / answers,
  }
}

/** Messages that a conversation's breakdown names, the newest: some 200 KB. */
export const breakdownMessagesMax = 1_000

type ConversationRow =
  | (ModelRow & { part: 'model' })
  | (SumsRow & { part: 'total'; messages: string })
  | {
      part: 'message'
      message_id: string
      usage: Omit<MessageUsage, 'message_id' | 'answers' | 'unpriced_answers'>
      answers: string
      unpriced: string
    }

/** Undefined: there is no such conversation. */
export async function readConversationUsage(
  tx: Tx,
  conversationId: string,
): Promise<ConversationUsage | undefined> {
  const [found, rows] = await Promise.all([
    tx.execute(sql`select 1 from chat.conversations where id = ${conversationId} and status <> 'deleted'`),
    tx.execute<ConversationRow>(sql`
      with mine as not materialized (select * from chat.usage_tracking where conversation_id = ${conversationId}),
      models as materialized (select model, is_free_model, ${rowSums} from mine group by 1, 2)
      select case when grouping(model) = 0 then 'model' else 'total' end as part, null::uuid as message_id,
        null::json as usage, model, is_free_model, ${sumsOfSums}, sum(cost) as spent,
        (select count(*) from (select from mine group by message_id) as message) as messages
      from models group by grouping sets ((), (model, is_free_model))
      union all
      (select 'message', u.message_id, ${messageUsage}, null, null, count(*), count(*) - count(u.cost), null, null,
        null, null, null, null
      from mine u group by u.message_id order by u.message_id desc limit ${breakdownMessagesMax})
      order by message_id, spent desc nulls last, total_tokens desc, model`),
  ])
  const total = rows.find((row) => row.part === 'total')
  if (found.length === 0 || total === undefined) return undefined
  return {
    total_tokens: Number(total.total_tokens),
    total_cost: total.cost,
    unpriced_answers: Number(total.unpriced),
    messages_count: Number(total.messages),
    cost_breakdown: rows
      .filter((row) => row.part === 'message')
      .map(({ message_id, usage, answers, unpriced }) => ({
        message_id,
        ...usage,
        answers: Number(answers),
        unpriced_answers: Number(unpriced),
      })),
    model_usage: rows.filter((row) => row.part === 'model').map(toModelUsage),
  }
}
