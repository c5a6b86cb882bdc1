/**
 * Door of notifications: news of the chat, as jobs: an answer that nobody watched to its end, for who asked; what was
 * said in a conversation with other members, for them.
 *
 * A job reads what it is about when its time has come, and puts it into the inboxes in the transaction that ends it:
 * once, or not at all where it was taken back meanwhile. Of a deleted conversation nobody is told.
 */
import { sql } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import { membersKind, membersPayload, roomOf } from '../conversations/members.ts'
import { unwatchedKind } from '../generation/news.ts'
import type { JobHandler, JobOutcome } from '../jobs/jobs.ts'
import { cutChars, oneLine } from './cut.ts'
import type { Content, NewNotification } from './inbox.ts'
import { renderTemplate } from './templates.ts'

export interface ChatNewsDeps {
  /** Puts them into their inboxes. `told` is called when that is committed. */
  notifyIn: (tx: Tx, entries: readonly NewNotification[]) => Promise<{ told: () => void }>
}

/** A statement that waits for a lock too long, a process that is killed: nothing that lasts. */
const attemptsMax = 5
const backoff = { firstMs: 1_000, maxMs: 60_000 }

export function createChatNews({ notifyIn }: ChatNewsDeps): Readonly<Record<string, JobHandler>> {
  const done = (find: (tx: Tx) => Promise<readonly NewNotification[]>): JobOutcome => {
    let told: (() => void) | undefined
    return {
      kind: 'done',
      async write(tx) {
        const entries = await find(tx)
        if (entries.length > 0) told = (await notifyIn(tx, entries)).told
      },
      committed: () => told?.(),
    }
  }
  return {
    [unwatchedKind]: {
      attemptsMax,
      backoff,
      run: ({ key }) => Promise.resolve(done((tx) => unwatched(tx, key))),
    },
    [membersKind]: {
      attemptsMax,
      backoff,
      run: ({ key, payload }) => {
        const { conversationId, askedBy } = membersPayload.parse(payload)
        return Promise.resolve(done((tx) => forMembers(tx, conversationId, key, askedBy)))
      },
    },
  }
}

interface EndedRow {
  conversation_id: string
  message_id: string
  user_id: string
  title: string
  said: string
  status: 'complete' | 'stopped' | 'failed' | 'interrupted'
}

async function unwatched(tx: Tx, generationId: string): Promise<NewNotification[]> {
  const [row] = await tx.execute<EndedRow>(sql`
    select g.conversation_id, g.message_id, g.user_id, c.title, left(m.content, ${lookedAtChars}) as said, g.status
    from chat.generations g
    join chat.conversations c on c.id = g.conversation_id and c.status <> 'deleted'
    join chat.messages m on m.conversation_id = g.conversation_id and m.id = g.message_id
    where g.id = ${generationId} and g.status not in ('running', 'stopped')`)
  if (row === undefined) return []
  const { conversation_id, message_id, user_id, title, said, status } = row
  const name = status === 'complete' ? 'generation_finished' : 'generation_failed'
  const content: Content = {
    ...renderTemplate(name, { conversation_id, message_id, conversation_title: title }),
    data: {
      conversation_id,
      message_id,
      generation_id: generationId,
      message_preview: previewOf(said),
      status,
    },
  }
  return [{ userId: user_id, content, dedupeKey: `generation:${message_id}` }]
}

/** One statement puts it into so many inboxes within a second. Who is told of nothing comes last in their order. */
const membersMax = 10_000

interface SaidRow {
  title: string
  said: string
  sender_type: string
  sender_id: string
  told: string[]
}

async function forMembers(
  tx: Tx,
  conversationId: string,
  messageId: string,
  askedBy: string,
): Promise<NewNotification[]> {
  const [, [row]] = await Promise.all([
    // A conversation is one row of an inbox: two messages told at once must not leave the older one there.
    tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`members:${conversationId}`}, 0))`),
    tx.execute<SaidRow>(sql`
      select c.title, left(m.content, ${lookedAtChars}) as said, m.sender_type, m.sender_id,
        array(
          select user_id from (
            select c.user_id union select user_id from chat.room_members where room = ${roomOf(conversationId)}) p
          where user_id <> ${askedBy} order by user_id limit ${membersMax}) as told
      from chat.conversations c
      join chat.messages m on m.conversation_id = c.id and m.id = ${messageId} and m.status = 'complete'
      where c.id = ${conversationId} and c.status <> 'deleted' and c.shared
        and not exists (select from chat.messages later
          where later.conversation_id = c.id and later.id > m.id and later.status = 'complete')`),
  ])
  if (row === undefined) return []
  const { title, said, sender_type, sender_id, told } = row
  const message_preview = previewOf(said)
  const about = { conversation_id: conversationId, message_id: messageId, message_preview }
  const content: Content = {
    ...renderTemplate('conversation_message', { ...about, conversation_title: title }),
    data: { ...about, sender: { type: sender_type, id: sender_id }, title },
  }
  return told.map((userId) => ({ userId, content, dedupeKey: roomOf(conversationId) }))
}

/** In characters, as PostgreSQL counts them: what is read for a preview, of which white space takes some. */
const lookedAtChars = 400
const previewChars = 100

/** Something is shown where nothing was said. */
const previewOf = (said: string) => cutChars(oneLine(said), previewChars) || '…'
