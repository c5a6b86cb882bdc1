/**
 * Door of generation, for the inbox: the news that an answer's end is, as jobs of the transaction that settles it.
 *
 * Its user is told a little later, unless somebody has watched it to its end by then (watched.ts takes the news back,
 * on whichever instance); a stop is no news to who asked for it, and what the assistant begins with answers nobody. Other members of the conversation are told of a
 * complete one.
 */
import { v7 as uuidv7 } from 'uuid'
import { membersJob } from '../conversations/members.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Outcome } from './events.ts'

/** Keyed by the generation. */
export const unwatchedKind = 'tell_unwatched'

/** A tab that was reloaded, or a phone that changed its network, is back by then and sees the end, ms. */
export const unwatchedAfterMs = 10_000

/**
 * One statement for a packet that has locked the conversation; of a deleted one there are no news.
 *
 * @returns whether there is something to do at once.
 */
export async function leaveNews(
  tx: Tx,
  end: {
    userId: string
    conversationId: string
    messageId: string
    generationId: string
    outcome: Outcome
  },
): Promise<boolean> {
  const { userId, conversationId, messageId, generationId, outcome } = end
  if (outcome === 'stopped') return false
  const { kind, key, payload } = membersJob({ id: messageId, conversationId, askedBy: userId })
  const added = await tx.execute(sql`
    insert into chat.jobs (id, kind, key, user_id, payload, run_at)
    select j.id, j.kind, j.key, ${userId}, j.payload, now() + j.after_ms * interval '1 ms'
    from chat.conversations c join chat.messages m on m.conversation_id = c.id and m.id = ${messageId} cross join (values
      (${uuidv7()}::uuid, ${unwatchedKind}, ${generationId}, '{}'::jsonb, ${unwatchedAfterMs}::float8, true),
      (${uuidv7()}::uuid, ${kind}, ${key}, ${JSON.stringify(payload)}::jsonb, 0, false)
    ) as j (id, kind, key, payload, after_ms, always)
    where c.id = ${conversationId} and c.status <> 'deleted'
      and ((j.always and m.parent_message_id is not null) or (not j.always and c.shared and ${outcome === 'complete'}))
    on conflict do nothing returning 1`)
  return added.length > 1
}

/**
 * These were watched to their ends. One that somebody else is just taking back, or that is just being told, is left to
 * them: nobody waits here for anybody.
 */
export async function takeBackNews(tx: Tx, generationIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    with known as (
      select id from chat.jobs
      where kind = ${unwatchedKind} and key = any(${generationIds}::text[]) and status = 'queued'
      for update skip locked
    )
    delete from chat.jobs j using known where j.id = known.id`)
}
