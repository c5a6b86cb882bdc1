/** SQL of titles that a model makes, as functions of a system's transaction. */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { listedColumns, type ListedConversation } from './changes.ts'
import { exchangeCharsMax, type Exchange } from './title-prompt.ts'

/** Undefined: it has a name from its user by now, or is deleted, or gone. */
export async function readExchange(
  tx: Tx,
  conversationId: string,
  answerId: string,
): Promise<(Exchange & { userId: string }) | undefined> {
  const [row] = await tx.execute<Exchange & { userId: string }>(sql`
    select c.user_id as "userId", left(question.content, ${exchangeCharsMax}) as question,
      left(answer.content, ${exchangeCharsMax}) as answer
    from chat.conversations c
    join chat.messages answer on answer.conversation_id = c.id and answer.id = ${answerId}
    join chat.messages question on question.conversation_id = c.id and question.id = answer.parent_message_id
    where c.id = ${conversationId} and c.status <> 'deleted' and c.title_source <> 'user'`)
  return row
}

/** Whoever renames or deletes it meanwhile is right: the row is looked at again where it was locked. */
export async function replaceTitle(
  tx: Tx,
  conversationId: string,
  title: string,
): Promise<ListedConversation | undefined> {
  const [row] = await tx.execute<ListedConversation>(sql`
    update chat.conversations set title = ${title}, title_source = 'auto', updated_at = now()
    where id = ${conversationId} and status <> 'deleted' and title_source <> 'user' returning ${listedColumns}`)
  return row
}
