/** Stores paths of messages as they are after their turns, and looks at their counts. */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../../src/db/sql.ts'
import type { Transactions, Tx } from '../../src/db/database.ts'
import type { StoredMessage } from '../../src/context/counts.ts'

/** A conversation of ann's: questions and answers in turn, each the child of the one before it. Oldest first. */
export async function storePath(
  transactions: Transactions,
  contents: readonly string[],
  { counted = false } = {},
): Promise<StoredMessage[]> {
  const conversationId = uuidv7()
  const messages = contents.map((content) => ({ id: uuidv7(), conversation_id: conversationId, content }))
  const rows = messages.map(({ id, content }, index) => ({
    id,
    content,
    parent: messages[index - 1]?.id ?? null,
    sender: index % 2 === 0 ? 'user' : 'assistant',
    tokens: counted ? Math.ceil(content.length / 4) : null,
  }))
  await transactions.asCaller({ userId: 'ann' }, async (tx) => {
    // The check of a parent is planned while the table is empty: without an index it would be quadratic.
    await tx.execute(sql`set local enable_seqscan = off`)
    await tx.execute(sql`
      insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
      values (${conversationId}, 'ann', 't', 'user', 'general', '{}', '{}')`)
    await tx.execute(sql`
      insert into chat.messages (conversation_id, id, user_id, parent_message_id, sender_type, sender_id, content,
        content_type, status, metadata, token_count)
      select ${conversationId}, r.id, 'ann', r.parent, r.sender, 'x', r.content, 'text', 'complete', '{}', r.tokens
      from json_to_recordset(${JSON.stringify(rows)}::json)
        as r (id uuid, parent uuid, sender text, content text, tokens int)`)
  })
  return messages
}

const named = ({ conversation_id, id }: StoredMessage) =>
  sql`conversation_id = ${conversation_id} and id = ${id}`

storePath.read = async (tx: Tx, messages: readonly StoredMessage[]) =>
  tx.execute<{ token_count: number | null }>(
    sql`select token_count from chat.messages where id = any(${messages.map(({ id }) => id)}::uuid[]) order by id`,
  )

storePath.setStreaming = (tx: Tx, message: StoredMessage) =>
  tx.execute(sql`update chat.messages set status = 'streaming' where ${named(message)}`)

storePath.lock = (tx: Tx, message: StoredMessage) =>
  tx.execute(sql`select 1 from chat.messages where ${named(message)} for update`)
