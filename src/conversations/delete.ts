/**
 * Deleting: gone from every answer with the first commit, so that no new turn can begin; then the answer that is
 * being generated in it is stopped, and has settled when this returns. What it cost is still recorded.
 */
import { sql } from 'drizzle-orm'
import type { Caller, Database } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine } from '../generation/engine.ts'
import { within } from '../messages/claim.ts'
import { lockConversation, updateConversation } from './queries.ts'

/** With the database away in between, it settles later: the conversation is gone already, ms. */
const settlePatienceMs = 1_000

/** @throws AppError conversation_not_found. */
export async function deleteConversation(
  { db, engine }: { db: Database; engine: Engine },
  caller: Caller,
  id: string,
): Promise<void> {
  const running = await db.asCaller(caller, async (tx) => {
    if ((await lockConversation(tx, id)) === undefined) throw new AppError('conversation_not_found')
    await updateConversation(tx, id, { status: 'deleted' })
    return tx.execute<{ id: string }>(
      sql`select id from chat.generations where conversation_id = ${id} and status = 'running'`,
    )
  })
  for (const { id: generationId } of running) {
    const generation = engine.find(generationId)
    generation?.stop('stopped')
    if (generation !== undefined) await within(settlePatienceMs, generation.settled)
  }
}
