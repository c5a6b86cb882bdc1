/**
 * Broadcasts: to everyone who ever connected, a chunk at a time in the order of their ids.
 *
 * A chunk is one job and one transaction, which stores its notifications, moves the place up to which everybody has it,
 * ends this job and adds the next: a killed process leaves it done or not begun, so nobody is missed and nobody gets it
 * twice. Between two chunks others have their turn.
 */
import { v7 as uuidv7 } from 'uuid'
import { enqueue, type JobHandler } from '../jobs/jobs.ts'
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Content, Inbox } from './notify.ts'

export const broadcastKind = 'broadcast'

export interface NewBroadcast {
  content: Content
  expiresAt: string | null
  /** Not before then. RFC 3339. */
  sendAt: string | null
}

/** @returns its id. */
export async function startBroadcast(tx: Tx, { content, expiresAt, sendAt }: NewBroadcast): Promise<string> {
  const id = uuidv7()
  const stored = JSON.stringify({ content, expires_at: expiresAt })
  await Promise.all([
    tx.execute(sql`insert into chat.broadcasts (id, content) values (${id}, ${stored}::jsonb)`),
    enqueue(tx, { ...jobFor(id), ...(sendAt !== null && { at: sendAt }) }),
  ])
  return id
}

const jobFor = (id: string) => ({ kind: broadcastKind, key: id, userId: null, payload: {} })

/** Users of one transaction: their heads are locked for about a tenth of a second. */
export const broadcastChunkUsers = 250

export function createBroadcastHandler({
  inbox,
  wakeJobs,
  chunkUsers = broadcastChunkUsers,
}: {
  inbox: Inbox
  wakeJobs: () => void
  chunkUsers?: number | undefined
}): JobHandler {
  return {
    attemptsMax: 20,
    backoff: { firstMs: 500, maxMs: 60_000 },
    run({ key: id }) {
      let told = (): void => undefined
      return Promise.resolve({
        kind: 'done',
        async write(tx) {
          const chunk = await readChunk(tx, id, chunkUsers)
          if (chunk === undefined) return
          const { content, expires_at, users } = chunk
          const entries = users.map((userId) => ({
            userId,
            content,
            dedupeKey: `broadcast:${id}`,
            expiresAt: expires_at,
          }))
          // Before the inbox's part, which is a transaction's last: heads stay locked from there on.
          await moveOn(tx, id, users, users.length === chunkUsers)
          ;({ told } = await inbox.notifyIn(tx, entries))
        },
        committed() {
          told()
          wakeJobs()
        },
      })
    },
  }
}

interface Chunk extends Record<string, unknown> {
  content: Content
  expires_at: string | null
  users: string[]
}

async function readChunk(tx: Tx, id: string, limit: number): Promise<Chunk | undefined> {
  const [row] = await tx.execute<Chunk>(sql`
    select b.content -> 'content' as content, b.content ->> 'expires_at' as expires_at, array(
      select user_id from chat.inbox_heads where connected_at is not null and user_id > b.after_user_id
      order by user_id limit ${limit}) as users
    from chat.broadcasts b where b.id = ${id} and b.finished_at is null`)
  return row
}

async function moveOn(tx: Tx, id: string, users: readonly string[], more: boolean): Promise<void> {
  await Promise.all([
    tx.execute(sql`
      update chat.broadcasts set after_user_id = coalesce(${users.at(-1) ?? null}, after_user_id),
        sent = sent + ${users.length}, finished_at = case when ${more} then null else now() end
      where id = ${id}`),
    more ? enqueue(tx, jobFor(id)) : undefined,
  ])
}
