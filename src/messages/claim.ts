/**
 * The right to write to a conversation: it is locked, active, and nobody is answering in it; and its user has not
 * too many answers running elsewhere.
 */
import { sql } from 'drizzle-orm'
import { lockConversation, type LockedConversation } from '../conversations/queries.ts'
import type { Caller, Database, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Engine } from '../generation/engine.ts'
import type { Links } from '../http/links.ts'
import type { ActiveGeneration } from './schemas.ts'

/** How long an interrupted generation may take to settle before the new turn gives up, ms. */
const interruptPatienceMs = 10_000

/** Locks the conversation, and sees to it that one more generation may run: in it, and for this user. */
export async function claim(
  { limits, links }: { limits: { runningGenerationsMax: number }; links: Links },
  tx: Tx,
  caller: Caller,
  conversationId: string,
): Promise<LockedConversation> {
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
  if (here !== undefined) throw inProgress(activeGeneration(here, links))
  if (running.length >= limits.runningGenerationsMax)
    throw new AppError('rate_limited', {
      detail: `You have ${running.length} answers being generated: wait for one to finish, or stop one.`,
      retryAfter: 5,
    })
  return conversation
}

interface RunningRow extends Record<string, unknown> {
  id: string
  conversation_id: string
  message_id: string
  started_at: string
}

async function readRunning(tx: Tx, userId: string): Promise<RunningRow[]> {
  return tx.execute<RunningRow>(sql`
    select id, conversation_id, message_id, started_at from chat.generations
    where user_id = ${userId} and status = 'running'`)
}

const activeGeneration = (row: RunningRow, links: Links): ActiveGeneration => ({
  generation_id: row.id,
  message_id: row.message_id,
  stream_url: links.stream(row.conversation_id, row.message_id),
  started_at: row.started_at,
})

const inProgress = (active: ActiveGeneration) =>
  new AppError('generation_in_progress', {
    detail: 'Watch it at active_generation.stream_url, or send with "if_generating": "interrupt" or "wait".',
    members: { active_generation: active },
  })

/** Ends the generation that runs in this conversation, keeping its text; nothing to do where none does. */
export async function interrupt(
  deps: { db: Database; engine: Engine },
  caller: Caller,
  conversationId: string,
): Promise<void> {
  const running = await deps.db.asCaller(caller, (tx) => readRunning(tx, caller.userId))
  const here = running.find((generation) => generation.conversation_id === conversationId)
  const generation = here && deps.engine.find(here.id)
  if (generation === undefined) return
  generation.stop('stopped')
  await within(interruptPatienceMs, generation.settled)
}

/** Waits for a promise, but no longer than this. */
export async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([promise, tooLong])
  clearTimeout(timer)
}
