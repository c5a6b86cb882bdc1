/** SQL of generations for others: where one is watched. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Links } from '../http/links.ts'

/** @returns where a message's generation is watched; undefined where the transaction's user has none such. */
export async function findStream(tx: Tx, messageId: string, links: Links): Promise<string | undefined> {
  const [found] = await tx.execute<{ conversation_id: string }>(sql`
    select g.conversation_id from chat.generations g join chat.conversations c on c.id = g.conversation_id
    where g.message_id = ${messageId} and c.status <> 'deleted' limit 1`)
  return found === undefined ? undefined : links.stream(found.conversation_id, messageId)
}
