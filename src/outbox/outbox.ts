/**
 * Door of outbox: events for other services, stored in the transaction that they tell of, and sent by relay.ts when it
 * is committed.
 *
 * An event is `{event_id, type, occurred_at, user_id, data}`, all of it as of the moment at which it was stored. Each
 * receiver gets it at least once, and knows by `event_id` what it has had already. Nothing is stored that nobody is to
 * be sent: without a receiver there is not one statement more.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql, type SQL } from '../db/sql.ts'
import type { Tx } from '../db/database.ts'
import type { Notification } from '../notifications/schemas.ts'
import type { SinkName } from './sink.ts'

/** Their routing keys are also their types. */
export type OutEvent =
  /** One that is new, has changed, or was scheduled and appears: as its user sees it, so that nobody need ask back. */
  | { routingKey: 'notification.events'; userId: string; data: Notification }
  | {
      routingKey: 'chat.conversation_ready'
      userId: string
      data: { conversation_id: string; assessment_id: string; title: string }
    }
  /** A question that was stored, or an answer that has ended: never what it says. `appendMessage` knows the rest. */
  | { routingKey: 'chat.message_created'; userId: string; data: MessageCreated }

export interface MessageCreated {
  conversation_id: string
  message_id: string
  parent_message_id: string | null
  sender_type: 'user' | 'assistant' | 'system'
  status: string
  content_type: string
  /** RFC 3339. */
  created_at: string
  /** Of an answer. */
  model?: string | null
}

export interface DeadLetter {
  /** As it came. */
  routingKey: string
  /** What came, as far as it could be read. */
  payload: unknown
  /** A code or a short sentence of ours. */
  reason: string
}

export interface Outbox {
  /** Whether such events are stored at all: ask before anything is read for them. */
  on(kind: OutEvent['routingKey']): boolean
  /**
   * One statement for any number, for a transaction as the system or as the user whom all of them are about. Call
   * `wake` after the commit.
   */
  append(tx: Tx, events: readonly OutEvent[]): Promise<void>
  /** `chat.message_created` of a message that this transaction has stored, in one statement; of a deleted conversation none. */
  appendMessage(tx: Tx, message: { conversationId: string; messageId: string }): Promise<void>
  /** Back to the broker, where the redrive command finds it. As the system. */
  deadLetter(tx: Tx, letter: DeadLetter): Promise<void>
  /** What was appended is committed. @param kind of it; undefined: of every kind. */
  wake(kind?: OutEvent['routingKey']): void
}

export interface OutboxOptions {
  /** Who is there to send to. */
  sinks: { exchange: boolean; bridge: boolean }
  /** The relay's, where this process has one: another one's looks every few seconds. */
  wake?: (sink?: SinkName) => void
}

export function createOutbox({ sinks, wake = () => undefined }: OutboxOptions): Outbox {
  /** The bridge is of notifications alone. */
  const sinksOf = (kind: OutEvent['routingKey']): SinkName[] => [
    ...(sinks.exchange ? (['exchange'] as const) : []),
    ...(sinks.bridge && kind === 'notification.events' ? (['bridge'] as const) : []),
  ]
  const isOn = (kind: OutEvent['routingKey']) => sinksOf(kind).length > 0

  return {
    on: isOn,
    async append(tx, events) {
      const rows = events.flatMap(({ routingKey, userId, data }) =>
        sinksOf(routingKey).map((sink) => ({
          id: uuidv7(),
          sink,
          routing_key: routingKey,
          user_id: userId,
          data,
        })),
      )
      if (rows.length > 0) await insert(tx, sql`select * from ${recordset(rows)}`)
    },
    async appendMessage(tx, message) {
      if (isOn('chat.message_created')) await insert(tx, messageRow(message))
    },
    async deadLetter(tx, { routingKey, payload, reason }) {
      if (!sinks.exchange) return
      await tx.execute(sql`
        insert into chat.outbox (id, sink, routing_key, user_id, payload)
        values (${uuidv7()}, 'dead_letters', ${storable(routingKey)}, null,
          ${storableJson({ body: payload, reason })}::jsonb)`)
    },
    wake(kind) {
      if (kind === undefined) wake()
      else for (const sink of sinksOf(kind)) wake(sink)
    },
  }
}

/**
 * Rows are due in the order in which they were written, by the clock behind all locks: a user's notifications go out in
 * the order of their numbers. Cut to the column's milliseconds: rounded up, they would not be due yet.
 *
 * @param rows id, sink, routing_key, user_id, data. Nothing is returned: a caller may not read what it adds.
 */
async function insert(tx: Tx, rows: SQL): Promise<void> {
  await tx.execute(sql`
    with t as materialized (select date_trunc('milliseconds', clock_timestamp()) as at), e as (${rows})
    insert into chat.outbox (id, sink, routing_key, user_id, payload, created_at, due_at)
    select e.id, e.sink, e.routing_key, e.user_id,
      jsonb_build_object('event_id', e.id, 'type', e.routing_key, 'occurred_at', ${rfc3339(sql`t.at`)},
        'user_id', e.user_id, 'data', e.data),
      t.at, t.at
    from e cross join t`)
}

const recordset = (rows: readonly object[]) => sql`
  json_to_recordset(${storableJson(rows)}::json) as r (id uuid, sink text, routing_key text, user_id text, data jsonb)`

const messageRow = ({ conversationId, messageId }: { conversationId: string; messageId: string }) => sql`
  select ${uuidv7()}::uuid as id, 'exchange' as sink, 'chat.message_created' as routing_key, m.user_id,
    jsonb_build_object('conversation_id', m.conversation_id, 'message_id', m.id, 'parent_message_id', m.parent_message_id,
      'sender_type', m.sender_type, 'status', m.status, 'content_type', m.content_type,
      'created_at', ${rfc3339(sql`m.created_at`)})
    || case when m.sender_type = 'assistant' then jsonb_build_object('model', m.metadata -> 'model') else '{}' end as data
  from chat.messages m join chat.conversations c on c.id = m.conversation_id and c.status <> 'deleted'
  where m.conversation_id = ${conversationId} and m.id = ${messageId}`

/** As the API prints times. */
const rfc3339 = (time: SQL) => sql`to_char(${time} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

/** What came over a queue may hold what PostgreSQL takes in no text. */
const storable = (text: string) => text.toWellFormed().replaceAll('\0', '')

/** The same inside of JSON, in keys and in values: a NUL goes, half of a surrogate pair becomes U+FFFD. */
function storableJson(value: unknown): string {
  const json = JSON.stringify(value)
  if (!json.includes('\\u')) return json
  return json.replaceAll(/\\(?:u([0-9a-f]{4})|.)/g, (escape: string, code?: string) =>
    code === '0000' ? '' : code !== undefined && /^d[89a-f]/.test(code) ? '\ufffd' : escape,
  )
}
