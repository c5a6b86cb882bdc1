/** Who gets events of ours, as a test scripts it, and the table that they wait in. */
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { createOutbox, type OutEvent } from '../../src/outbox/outbox.ts'
import {
  createRelay,
  type EventToSend,
  type Relay,
  type RelayOptions,
  type SendOutcome,
  type Sink,
} from '../../src/outbox/relay.ts'
import { cloneDatabase } from './service.ts'

export interface ScriptedSink extends Sink {
  /** What it was sent, in the order of its coming. */
  got: EventToSend[]
  setUp: (isUp: boolean) => void
  /** From now on; at first `sent`. */
  answer: (how: (event: EventToSend) => Promise<SendOutcome>) => void
}

export function scriptedSink(more: Partial<Pick<Sink, 'atOnceMax'>> = {}): ScriptedSink {
  const got: EventToSend[] = []
  let isUp = true
  let how: (event: EventToSend) => Promise<SendOutcome> = () => Promise.resolve('sent')
  return {
    ...more,
    got,
    isUp: () => isUp,
    setUp(up) {
      isUp = up
    },
    answer(next) {
      how = next
    },
    send(event) {
      got.push(event)
      return how(event)
    },
  }
}

export interface OutboxRow {
  id: string
  sink: string
  routing_key: string
  user_id: string | null
  payload: Record<string, unknown> & { data?: Record<string, unknown> }
  attempts: number
  leased: boolean
  /** Until it is due, ms. */
  due_ms: number
}

export interface OutboxBench {
  url: string
  database: Database
  /** As the database's superuser: no wall. */
  sql: Sql
  logs: Record<string, unknown>[]
  rows: () => Promise<OutboxRow[]>
  /** `count` of them in one transaction, each told apart by its title. */
  add: (count: number) => Promise<void>
  /** As a process of its own would; it looks every 30 ms. */
  relay: (sinks: RelayOptions['sinks'], more?: Partial<RelayOptions>) => Relay
  /** Another instance's connections. */
  open: (url?: string) => Promise<Database>
  close: () => Promise<void>
}

export const quickTimes = {
  pollMs: 30,
  backoff: { firstMs: 20, maxMs: 40 },
  awayBackoff: { firstMs: 20, maxMs: 40 },
}

export async function startOutboxBench(): Promise<OutboxBench> {
  const { url, drop } = await cloneDatabase()
  const sql = postgres(url, { max: 2, onnotice: () => undefined })
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'trace' },
    { write: (line: string) => logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const databases: Database[] = []
  const relays: Relay[] = []
  const open = async (at = url) => {
    const database = createDatabase({ url: at, poolMax: 6, log: pino({ level: 'silent' }) })
    databases.push(database)
    await database.prepare(new AbortController().signal)
    return database
  }
  const database = await open()

  return {
    url,
    database,
    sql,
    logs,
    open,
    rows: () =>
      sql<OutboxRow[]>`
        select id, sink, routing_key, user_id, payload, attempts, leased_until > now() as leased,
          (extract(epoch from due_at - now()) * 1000)::float8 as due_ms
        from chat.outbox order by due_at, id`,
    async add(count) {
      const outbox = createOutbox({ sinks: { exchange: true, bridge: false } })
      const events = Array.from({ length: count }, (_, n) => readyEvent(String(n)))
      await database.asSystem('test', (tx) => outbox.append(tx, events))
    },
    relay(sinks, more = {}) {
      const relay = createRelay({
        transactions: database,
        log,
        ready: () => database.state() === 'ready',
        sinks,
        times: quickTimes,
        ...more,
      })
      relays.push(relay)
      return relay
    },
    async close() {
      await Promise.all(relays.map((relay) => relay.close()))
      await Promise.all(databases.map((one) => one.close()))
      await sql.end()
      await drop()
    },
  }
}

export const readyEvent = (title: string, userId = 'ann'): OutEvent => ({
  routingKey: 'chat.conversation_ready',
  userId,
  data: { conversation_id: 'c', assessment_id: 'a', title },
})

/** What tells events of `add` apart. */
export const titlesOf = (events: readonly EventToSend[]) =>
  events.map(({ payload }) => (payload['data'] as { title: string }).title)
