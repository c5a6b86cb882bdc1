/**
 * Door: the right to write to a conversation: it is locked, active, and nobody is answering in it; and its user has not
 * too many answers running elsewhere.
 */
import { sql } from '../db/sql.ts'
import { lockConversation, type LockedConversation } from '../conversations/queries.ts'
import type { Caller, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Links } from '../http/links.ts'
import type { ActiveGeneration } from './schemas.ts'

/**
 * Locks the conversation, and looks whether one more generation may run: in it, and for this user. The refusal is the
 * caller's to throw, when everything else about the request has been found right: only then is anything interrupted.
 */
export async function claim(
  { limits, links }: { limits: { runningGenerationsMax: number }; links: Links },
  tx: Tx,
  caller: Caller,
  conversationId: string,
): Promise<{ conversation: LockedConversation; refusal: AppError | undefined }> {
  const [conversation, , running] = await Promise.all([
    lockConversation(tx, conversationId),
    tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`running:${caller.userId}`}, 0))`),
    readRunning(tx, caller.userId),
  ])
  if (conversation === undefined) throw new AppError('conversation_not_found')
  if (conversation.status === 'archived')
    throw new AppError('conversation_archived', {
      detail: 'Set its status to active before you write to it again.',
    })
  const here = running.find((generation) => generation.conversation_id === conversationId)
  return { conversation, refusal: here === undefined ? tooMany() : inProgress(activeGeneration(here, links)) }

  function tooMany(): AppError | undefined {
    // What an assistant begins with nobody has asked for.
    const asked = running.filter(({ is_opening }) => !is_opening).length
    if (asked < limits.runningGenerationsMax) return undefined
    return new AppError('rate_limited', {
      detail: `You have ${asked} answers being generated: wait for one to finish, or stop one.`,
      retryAfter: 5,
    })
  }
}

interface RunningRow extends Record<string, unknown> {
  id: string
  conversation_id: string
  message_id: string
  started_at: string
  /** It answers nobody. */
  is_opening: boolean
}

async function readRunning(tx: Tx, userId: string): Promise<RunningRow[]> {
  return tx.execute<RunningRow>(sql`
    select g.id, g.conversation_id, g.message_id, g.started_at, m.parent_message_id is null as is_opening
    from chat.generations g
    join chat.messages m on m.conversation_id = g.conversation_id and m.id = g.message_id
    where g.user_id = ${userId} and g.status = 'running'`)
}

const activeGeneration = (row: RunningRow, links: Links): ActiveGeneration => ({
  generation_id: row.id,
  message_id: row.message_id,
  stream_url: links.stream(row.conversation_id, row.message_id),
  started_at: row.started_at,
})

const inProgress = (active: ActiveGeneration) =>
  new AppError('generation_in_progress', {
    detail: 'Watch it at active_generation.stream_url, or stop it first.',
    members: { active_generation: active },
  })

/** Waits for a promise, but no longer than this. */
export async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([promise, tooLong])
  clearTimeout(timer)
}
