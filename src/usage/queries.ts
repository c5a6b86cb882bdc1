/** SQL of usage: what one upstream answer took and cost. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'

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
