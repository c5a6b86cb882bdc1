/**
 * Deleting: gone from every answer with the first commit, so that no new turn can begin; then the answer that is
 * being generated in it is stopped; where it runs here it has settled when this returns. What it cost is recorded.
 */
import { sql } from '../db/sql.ts'
import type { Caller, Database } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine } from '../generation/engine.ts'
import { within } from '../messages/claim.ts'
import type { TellDevices } from './changes.ts'
import { lockConversation, updateConversation } from './queries.ts'

/** With the database away in between, it settles later: the conversation is gone already, ms. */
const settlePatienceMs = 1_000

/** @throws AppError conversation_not_found. */
export async function deleteConversation(
  { db, engine, tellDevices }: { db: Database; engine: Engine; tellDevices: TellDevices },
  caller: Caller,
  id: string,
): Promise<void> {
  const { listed, running } = await db.asCaller(caller, async (tx) => {
    if ((await lockConversation(tx, id)) === undefined) throw new AppError('conversation_not_found')
    const listed = await updateConversation(tx, id, { status: 'deleted' })
    // Its process may be another one, or never hear of this commit: it reads this with its next flush.
    const running = await tx.execute<{ id: string }>(sql`
      update chat.generations set stop_requested_at = coalesce(stop_requested_at, now())
      where conversation_id = ${id} and status = 'running' returning id`)
    return { listed, running }
  })
  if (listed !== undefined) tellDevices(caller.userId, { ...listed, reason: 'deleted' })
  for (const { id: generationId } of running) {
    const generation = engine.find(generationId)
    generation?.stop('stopped')
    if (generation === undefined) engine.tellStop(generationId)
    else await within(settlePatienceMs, generation.settled)
  }
}
