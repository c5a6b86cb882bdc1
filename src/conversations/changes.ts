/** Door of conversations: what a user's devices are told when one has changed: how it stands now, as lists show it. */
import { sql } from '../db/sql.ts'
import type { Conversation, ConversationChange } from './schemas.ts'

/**
 * Tells all devices of a user, on every instance; the one that made the change is among them. It neither waits nor
 * throws, and may be lost. Only of what is committed.
 */
export type TellDevices = (userId: string, change: ConversationChange) => void

/** Each says everything that the one before it did: of several that wait to be told, the last is enough. */
export type ListedConversation = Omit<ConversationChange, 'reason'>

/** Of `chat.conversations`, to be returned by whatever changes a row: it costs no statement of its own. */
export const listedColumns = sql`id, title, status, current_message_id, message_count, updated_at`

export const changeOf = (
  { id, title, status, current_message_id, message_count, updated_at }: Conversation,
  reason: ConversationChange['reason'],
): ConversationChange => ({ id, title, status, current_message_id, message_count, updated_at, reason })
