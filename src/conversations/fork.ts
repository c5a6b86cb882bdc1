/** A fork: a new conversation that begins as the path up to one message of another. */
import { v7 as uuidv7 } from 'uuid'
import type { Caller, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Links } from '../http/links.ts'
import { copyPath, readMessage, readPathIds } from '../messages/queries.ts'
import { insertConversation, lockConversation, noteMessages, readConversation } from './queries.ts'

/** @throws AppError conversation_not_found, message_not_found, generation_in_progress. */
export async function forkConversation(
  tx: Tx,
  caller: Caller,
  { id, forkId, ...wish }: { id: string; messageId: string; forkId: string; title: string | undefined },
  links: Links,
): Promise<void> {
  // Locked: an answer on this path cannot settle between being looked at and being copied.
  const original = await lockConversation(tx, id)
  if (original === undefined) throw new AppError('conversation_not_found')
  const last = await readMessage(tx, id, wish.messageId)
  if (last === undefined) throw new AppError('message_not_found')
  if (last.status === 'streaming') {
    const { active_generation } = (await readConversation(tx, id, links)) ?? {}
    throw new AppError('generation_in_progress', {
      detail: 'This message is still being written: fork when it has ended.',
      members: { active_generation },
    })
  }
  const path = await readPathIds(tx, id, wish.messageId)
  const newIds = path.map(() => uuidv7())
  await insertConversation(tx, {
    id: forkId,
    userId: caller.userId,
    title: wish.title ?? original.title,
    titleSource: wish.title === undefined ? original.title_source : 'user',
    contextType: original.context_type,
    contextData: original.context_data,
    metadata: { ...original.metadata, forked_from: { conversation_id: id, message_id: wish.messageId } },
    model: original.model,
  })
  await copyPath(
    tx,
    id,
    forkId,
    path.map((oldId, index) => ({
      id: oldId,
      newId: newIds[index] ?? oldId,
      newParentId: newIds[index - 1] ?? null,
    })),
  )
  await noteMessages(tx, forkId, { count: path.length, leaf: newIds.at(-1) ?? wish.messageId })
}
