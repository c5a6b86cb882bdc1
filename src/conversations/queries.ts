/** SQL of conversations, as functions of a transaction. A deleted conversation is never found. */
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Links } from '../http/links.ts'
import { listedColumns, type ListedConversation } from './changes.ts'
import type { ContextType, Conversation } from './schemas.ts'
import { titleFrom } from './title.ts'

interface ConversationRow extends Record<string, unknown> {
  id: string
  title: string
  context_type: ContextType
  context_data: Record<string, unknown>
  status: 'active' | 'archived'
  metadata: Record<string, unknown>
  model: string | null
  current_message_id: string | null
  message_count: number
  created_at: string
  updated_at: string
  last_message_at: string | null
  activity_at: string
  generation_id: string | null
  generating_message_id: string | null
  generation_started_at: string | null
}

/** Of `chat.conversations c left join chat.generations g`, the running one. */
const columns = sql`
  c.id, c.title, c.context_type, c.context_data, c.status, c.metadata, c.model, c.current_message_id, c.message_count,
  c.created_at, c.updated_at, c.last_message_at, c.activity_at,
  g.id as generation_id, g.message_id as generating_message_id, g.started_at as generation_started_at`
const source = sql`chat.conversations c left join chat.generations g on g.conversation_id = c.id and g.status = 'running'`

function toConversation(row: ConversationRow, links: Links): Conversation {
  const generating =
    row.generation_id !== null && row.generating_message_id !== null && row.generation_started_at !== null
      ? {
          generation_id: row.generation_id,
          message_id: row.generating_message_id,
          stream_url: links.stream(row.id, row.generating_message_id),
          started_at: row.generation_started_at,
        }
      : null
  return {
    id: row.id,
    title: row.title,
    context_type: row.context_type,
    context_data: row.context_data,
    status: row.status,
    metadata: row.metadata,
    model: row.model,
    current_message_id: row.current_message_id,
    message_count: row.message_count,
    active_generation: generating,
    created_at: row.created_at,
    updated_at: row.updated_at,
    last_message_at: row.last_message_at,
  }
}

export async function readConversation(tx: Tx, id: string, links: Links): Promise<Conversation | undefined> {
  const [row] = await tx.execute<ConversationRow>(
    sql`select ${columns} from ${source} where c.id = ${id} and c.status <> 'deleted'`,
  )
  return row === undefined ? undefined : toConversation(row, links)
}

/** Where a page of the list ended: the sort key of its last row. */
export interface ListPosition {
  activityAt: string
  id: string
}

export async function listConversations(
  tx: Tx,
  userId: string,
  page: {
    status: 'active' | 'archived'
    contextType: ContextType | undefined
    limit: number
    from: { offset: number } | { after: ListPosition }
  },
  links: Links,
): Promise<{ conversations: Conversation[]; total: number; next: ListPosition | undefined }> {
  const { status, contextType, limit, from } = page
  const where: SQL = sql`c.user_id = ${userId} and c.status = ${status}
    ${contextType === undefined ? sql.empty() : sql`and c.context_type = ${contextType}`}`
  const after =
    'after' in from
      ? sql`and (c.activity_at, c.id) < (${from.after.activityAt}::timestamptz, ${from.after.id}::uuid)`
      : sql.empty()
  const offset = 'offset' in from ? from.offset : 0
  const [rows, [count]] = await Promise.all([
    tx.execute<ConversationRow>(sql`
      select ${columns} from ${source} where ${where} ${after}
      order by c.activity_at desc, c.id desc limit ${limit + 1} offset ${offset}`),
    tx.execute<{ total: number }>(
      sql`select count(*)::int as total from chat.conversations c where ${where}`,
    ),
  ])
  const shown = rows.slice(0, limit)
  const last = rows.length > limit ? shown.at(-1) : undefined
  return {
    conversations: shown.map((row) => toConversation(row, links)),
    total: count?.total ?? 0,
    next: last === undefined ? undefined : { activityAt: last.activity_at, id: last.id },
  }
}

export async function insertConversation(
  tx: Tx,
  row: {
    id: string
    userId: string
    title: string
    titleSource: 'default' | 'auto' | 'user'
    contextType: ContextType
    contextData: Record<string, unknown>
    metadata: Record<string, unknown>
    model: string | null
  },
): Promise<void> {
  await tx.execute(sql`
    insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata, model)
    values (${row.id}, ${row.userId}, ${row.title}, ${row.titleSource}, ${row.contextType},
      ${JSON.stringify(row.contextData)}::jsonb, ${JSON.stringify(row.metadata)}::jsonb, ${row.model})`)
}

export interface LockedConversation extends Record<string, unknown> {
  status: 'active' | 'archived'
  title: string
  title_source: 'default' | 'auto' | 'user'
  context_type: ContextType
  context_data: Record<string, unknown>
  metadata: Record<string, unknown>
  model: string | null
  current_message_id: string | null
  /** Others are members of it. */
  shared: boolean
}

/** First in every transaction that writes to a conversation: the order in which locks are taken. */
export async function lockConversation(tx: Tx, id: string): Promise<LockedConversation | undefined> {
  const [row] = await tx.execute<LockedConversation>(sql`
    select status, title, title_source, context_type, context_data, metadata, model, current_message_id, shared
    from chat.conversations where id = ${id} and status <> 'deleted' for update`)
  return row
}

export async function updateConversation(
  tx: Tx,
  id: string,
  change: {
    title?: string | undefined
    status?: 'active' | 'archived' | 'deleted' | undefined
    metadata?: Record<string, unknown> | undefined
    currentMessageId?: string | undefined
  },
): Promise<ListedConversation | undefined> {
  const sets: SQL[] = [sql`updated_at = now()`]
  if (change.title !== undefined) sets.push(sql`title = ${change.title}, title_source = 'user'`)
  if (change.status !== undefined) sets.push(sql`status = ${change.status}`)
  if (change.metadata !== undefined) sets.push(sql`metadata = ${JSON.stringify(change.metadata)}::jsonb`)
  if (change.currentMessageId !== undefined) sets.push(sql`current_message_id = ${change.currentMessageId}`)
  const [row] = await tx.execute<ListedConversation>(
    sql`update chat.conversations set ${sql.join(sets, sql`, `)} where id = ${id} returning ${listedColumns}`,
  )
  return row
}

/** New messages became part of it, the last of them being what is in view now. */
export async function noteMessages(
  tx: Tx,
  id: string,
  added: { count: number; leaf: string },
): Promise<void> {
  await tx.execute(sql`
    update chat.conversations set current_message_id = ${added.leaf}, message_count = message_count + ${added.count},
      last_message_at = now(), updated_at = now()
    where id = ${id}`)
}

/** An answer ended. A title that nobody chose is made from the first exchange, once. */
export async function noteAnswer(
  tx: Tx,
  id: string,
  exchange: { question: string; answer: string },
): Promise<ListedConversation | undefined> {
  const [row] = await tx.execute<ListedConversation>(sql`
    update chat.conversations set last_message_at = now(), updated_at = now(),
      title = case title_source when 'default' then ${titleFrom(exchange.question, exchange.answer)} else title end,
      title_source = case title_source when 'default' then 'auto' else title_source end
    where id = ${id} returning ${listedColumns}`)
  return row
}
