/**
 * Door of conversations: others who are members of one, and are to be told what is said in it.
 *
 * Who they are stands in `chat.room_members`, which no caller may read; that there are any is noted on the conversation
 * itself. So whoever stores a message sees in a row that it has locked anyway whether there is anybody to tell, which is
 * nearly never: then a job tells them, as the system. The other ways cost more: a job for every message, or a table of
 * who knows whom that every caller may read.
 */
import { z } from 'zod'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { NewJob } from '../jobs/jobs.ts'

export const membersKind = 'tell_members'

export const membersPayload = z.object({
  conversationId: z.uuid(),
  /** Whose turn it was: they know. */
  askedBy: z.string(),
})

/** A message that the members of its conversation have not heard of. */
export const membersJob = (message: { id: string; conversationId: string; askedBy: string }): NewJob => {
  const { id, conversationId, askedBy } = message
  const payload: z.input<typeof membersPayload> = { conversationId, askedBy }
  return { kind: membersKind, key: id, userId: askedBy, payload }
}

export const roomOf = (conversationId: string) => `conversation:${conversationId}`

/**
 * Notes whether a conversation has members: for whoever changes them, behind the change and in its transaction, as the
 * system. Two who change them at once see each other, since the second waits before it looks.
 */
export async function noteMembers(tx: Tx, conversationId: string): Promise<void> {
  await Promise.all([
    tx.execute(sql`select 1 from chat.conversations where id = ${conversationId} for update`),
    tx.execute(sql`
      update chat.conversations set shared = not shared
      where id = ${conversationId}
        and shared <> exists (select from chat.room_members where room = ${roomOf(conversationId)})`),
  ])
}
