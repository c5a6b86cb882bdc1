/**
 * SQL of messages, as functions of a transaction. Every function names the conversation; row level security keeps
 * out whoever does not own it, and a message of another conversation is never found.
 *
 * A path is walked from a leaf upwards by its parents, which never change: what lies above a message is the same
 * for ever, whatever arrives below it or beside it.
 */
import { sql, type SQL } from '../db/sql.ts'
import { messageOverheadTokens, pathBytesPerToken } from '../context/build.ts'
import type { Tx } from '../db/database.ts'
import { messageUsage } from '../usage/queries.ts'
import type { Message, Usage } from './schemas.ts'

interface MessageRow extends Record<string, unknown> {
  id: string
  conversation_id: string
  parent_message_id: string | null
  sender_type: Message['sender_type']
  sender_id: string
  content: string
  content_type: Message['content_type']
  status: Message['status']
  metadata: Record<string, unknown>
  usage: Usage | null
  reaction: Message['reaction']
  sibling_ids: string[]
  created_at: string
}

const toMessage = (row: MessageRow): Message => ({
  id: row.id,
  conversation_id: row.conversation_id,
  parent_message_id: row.parent_message_id,
  sender_type: row.sender_type,
  sender_id: row.sender_id,
  content: row.content,
  content_type: row.content_type,
  status: row.status,
  metadata: row.metadata,
  usage: row.usage,
  reaction: row.reaction,
  sibling_ids: row.sibling_ids,
  created_at: row.created_at,
})

/** Of `chat.messages m`. */
const columns = sql`
  m.id, m.conversation_id, m.parent_message_id, m.sender_type, m.sender_id, m.content, m.content_type, m.status,
  m.metadata, m.created_at,
  case when m.sender_type = 'assistant' then (
    select ${messageUsage}
    from chat.usage_tracking u where u.conversation_id = m.conversation_id and u.message_id = m.id having count(*) > 0
  ) end as usage,
  (select r.reaction from chat.message_reactions r
    where r.conversation_id = m.conversation_id and r.message_id = m.id and r.user_id = m.user_id) as reaction,
  to_json(case when m.parent_message_id is null
    then array(select s.id from chat.messages s
      where s.conversation_id = m.conversation_id and s.parent_message_id is null order by s.id)
    else array(select s.id from chat.messages s
      where s.conversation_id = m.conversation_id and s.parent_message_id = m.parent_message_id order by s.id)
    end) as sibling_ids`

async function select(tx: Tx, query: SQL): Promise<Message[]> {
  const rows = await tx.execute<MessageRow>(query)
  return rows.map(toMessage)
}

export async function readMessage(tx: Tx, conversationId: string, id: string): Promise<Message | undefined> {
  const [message] = await select(
    tx,
    sql`select ${columns} from chat.messages m where m.conversation_id = ${conversationId} and m.id = ${id}`,
  )
  return message
}

/** One or two messages of a turn just stored, oldest first. */
export async function readTurn(
  tx: Tx,
  conversationId: string,
  question: string,
  answer: string,
): Promise<Message[]> {
  return select(
    tx,
    sql`select ${columns} from chat.messages m
      where m.conversation_id = ${conversationId} and m.id in (${question}, ${answer}) order by m.id`,
  )
}

/** Steps from `leaf` to its root as `path (id, parent_message_id, step)`, the leaf being step 1. */
const upwards = (conversationId: string, leaf: string, stepsMax: number): SQL => sql`
  path as (
    select id, parent_message_id, 1 as step from chat.messages where conversation_id = ${conversationId} and id = ${leaf}
    union all
    select m.id, m.parent_message_id, path.step + 1 from path
    join chat.messages m on m.conversation_id = ${conversationId} and m.id = path.parent_message_id
    where path.step < ${stepsMax}
  )`

/** Messages of a path that are read for a context at most: its weight bounds the text, this the rows. */
const contextStepsMax = 1_000

/** Longest path that is walked: a bound against a table gone wrong, far beyond any conversation. */
const pathStepsMax = 1_000_000

export interface PathPage {
  /** In reading order, root to leaf. */
  messages: Message[]
  /** Is there more in the direction of paging? */
  hasMore: boolean
}

/** The newest `limit` messages of the path that ends in `leaf`. */
export async function readPathUpTo(
  tx: Tx,
  conversationId: string,
  leaf: string,
  limit: number,
): Promise<PathPage> {
  const messages = await select(
    tx,
    sql`with recursive ${upwards(conversationId, leaf, limit + 1)}
      select ${columns} from path join chat.messages m on m.conversation_id = ${conversationId} and m.id = path.id
      order by path.step`,
  )
  return { messages: messages.slice(0, limit).reverse(), hasMore: messages.length > limit }
}

/**
 * The first `limit` messages below `after` on the path that ends in `leaf`; undefined where `after` is not on it.
 */
export async function readPathAfter(
  tx: Tx,
  conversationId: string,
  after: string,
  leaf: string,
  limit: number,
): Promise<PathPage | undefined> {
  const messages = await select(
    tx,
    sql`with recursive ${upwards(conversationId, leaf, pathStepsMax)},
      below as (select id, step from path where step < (select step from path where id = ${after}))
      select ${columns} from below join chat.messages m on m.conversation_id = ${conversationId} and m.id = below.id
      order by below.step desc limit ${limit + 1}`,
  )
  if (messages.length === 0 && after !== leaf) return undefined
  return { messages: messages.slice(0, limit), hasMore: messages.length > limit }
}

/** Where the newest branch below a message ends. */
export async function readNewestLeafBelow(tx: Tx, conversationId: string, id: string): Promise<string> {
  const [leaf] = await tx.execute<{ id: string }>(sql`
    with recursive down as (
      select ${id}::uuid as id, 1 as step
      union all
      select child.id, down.step + 1 from down cross join lateral (
        select m.id from chat.messages m where m.conversation_id = ${conversationId} and m.parent_message_id = down.id
        order by m.id desc limit 1) child
      where down.step < ${pathStepsMax}
    )
    select id from down order by step desc limit 1`)
  return leaf?.id ?? id
}

/** Every message, in the order of making: a parent always comes before its children. */
export async function readTree(tx: Tx, conversationId: string): Promise<Message[]> {
  return select(
    tx,
    sql`select ${columns} from chat.messages m where m.conversation_id = ${conversationId} order by m.id`,
  )
}

/** A message of a path, as far as a context needs it. */
export interface PathText {
  id: string
  role: Message['sender_type']
  content: string
  /** As counted; null: not yet. */
  tokens: number | null
  createdAt: string
  isRoot: boolean
}

/**
 * The newest messages of a path, newest first: the first, and what follows it up to a weight of `bytesMax` in all, so
 * that no more is read than a budget can take (`pathBytesMax`), however long the path is.
 *
 * A counted message weighs by its tokens. One that is not counted yet weighs its bytes, which is less than its tokens
 * would in nearly every language: whoever has read it decides. The size of a text is known without reading it.
 */
export async function readPathTexts(
  tx: Tx,
  conversationId: string,
  leaf: string,
  bytesMax: number,
): Promise<PathText[]> {
  const weight = sql`coalesce(m.token_count * ${sql.raw(String(pathBytesPerToken))}, octet_length(m.content))
    + ${sql.raw(String(pathBytesPerToken * messageOverheadTokens))}`
  const read = sql`m.id, m.parent_message_id, m.sender_type, m.content, m.token_count, m.created_at`
  return tx.execute<PathText & Record<string, unknown>>(sql`
    with recursive path as (
      select ${read}, 1 as step, (${weight})::bigint as bytes
      from chat.messages m where m.conversation_id = ${conversationId} and m.id = ${leaf}
      union all
      select ${read}, path.step + 1, path.bytes + ${weight}
      from path join chat.messages m on m.conversation_id = ${conversationId} and m.id = path.parent_message_id
      where path.bytes + ${weight} <= ${bytesMax}::bigint and path.step < ${contextStepsMax}
    )
    select id, sender_type as role, content, token_count as tokens, created_at as "createdAt",
      parent_message_id is null as "isRoot"
    from path order by step`)
}

/** The ids of a whole path, root first. */
export async function readPathIds(tx: Tx, conversationId: string, leaf: string): Promise<string[]> {
  const rows = await tx.execute<{ id: string }>(
    sql`with recursive ${upwards(conversationId, leaf, pathStepsMax)} select id from path order by step desc`,
  )
  return rows.map(({ id }) => id)
}

export interface NewMessage {
  id: string
  parentId: string | null
  senderType: Message['sender_type']
  senderId: string
  content: string
  contentType: Message['content_type']
  status: Message['status']
  metadata: Record<string, unknown>
}

/** A row to insert into `chat.messages`, in the order of `messageColumns`. */
export const messageColumns = sql`
  conversation_id, id, user_id, parent_message_id, sender_type, sender_id, content, content_type, status, metadata`

export const messageValues = (conversationId: string, userId: string, message: NewMessage): SQL => sql`
  (${conversationId}, ${message.id}, ${userId}, ${message.parentId}, ${message.senderType}, ${message.senderId},
    ${message.content}, ${message.contentType}, ${message.status}, ${JSON.stringify(message.metadata)}::jsonb)`

/** The end of an answer: its text, its status, and what is known about how it came to be. */
export async function settleMessage(
  tx: Tx,
  conversationId: string,
  id: string,
  end: {
    content: string
    status: Message['status']
    /** Who wrote it, where that is known better by now. */
    sender?: string | undefined
    /** Of the content; undefined: to be counted. */
    tokens?: number | undefined
    metadata: Record<string, unknown>
  },
): Promise<void> {
  await tx.execute(sql`
    update chat.messages set content = ${end.content}, status = ${end.status},
      sender_id = coalesce(${end.sender ?? null}, sender_id), token_count = ${end.tokens ?? null},
      metadata = metadata || ${JSON.stringify(end.metadata)}::jsonb
    where conversation_id = ${conversationId} and id = ${id}`)
}

/** Copies a path into another conversation of the same owner, under new ids. Usage is not copied: it was paid once. */
export async function copyPath(
  tx: Tx,
  from: string,
  to: string,
  copies: readonly { id: string; newId: string; newParentId: string | null }[],
): Promise<void> {
  await tx.execute(sql`
    insert into chat.messages (conversation_id, id, user_id, parent_message_id, sender_type, sender_id, content,
      content_type, status, metadata, token_count, created_at)
    select ${to}, copy."newId", m.user_id, copy."newParentId", m.sender_type, m.sender_id, m.content, m.content_type,
      m.status, m.metadata - 'regenerated_from', m.token_count, m.created_at
    from json_to_recordset(${JSON.stringify(copies)}::json) as copy ("id" uuid, "newId" uuid, "newParentId" uuid)
    join chat.messages m on m.conversation_id = ${from} and m.id = copy.id`)
}
