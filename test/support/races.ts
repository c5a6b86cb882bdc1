/** Making an interleaving happen: locks held from outside, who waits for them, and what is stored in the end. */
import type { ReservedSql, Sql } from 'postgres'
import { expect, onTestFinished } from 'vitest'
import type { LogEvent } from '../../src/generation/events.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client, type Frame, type OpenStream } from './client.ts'

/** Does something in a transaction of its own, which ends when the returned function is called, or with the test. */
export async function hold(
  sql: Sql,
  work: (session: ReservedSql) => Promise<unknown>,
): Promise<(how?: 'rollback' | 'commit') => Promise<void>> {
  const session = await sql.reserve()
  await session`begin`
  await work(session)
  let held = true
  const release = async (how: 'rollback' | 'commit' = 'rollback') => {
    if (!held) return
    held = false
    await session.unsafe(how)
    session.release()
  }
  onTestFinished(() => release())
  return release
}

/**
 * Statements that wait for a lock in this database at the moment, in the order in which they came. A reaper's
 * tidying, which comes every five seconds, is nobody's race.
 */
export async function blocked(sql: Sql): Promise<string[]> {
  const rows = await sql<{ query: string }[]>`
    select query from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
      and query not like '%delete from chat.generation_chunks%' order by query_start`
  return rows.map(({ query }) => query.trim())
}

/** Resolves when exactly these wait, each named by a part of its statement. */
export async function untilBlocked(sql: Sql, ...parts: string[]): Promise<void> {
  await expect
    .poll(() => blocked(sql), { interval: 10, timeout: 4_000 })
    .toEqual(parts.map((part) => expect.stringContaining(part) as string))
}

/** How the statements begin that these tests hold up. */
export const statements = {
  flush: 'with ours as',
  settle: 'update chat.generations set status',
  lockConversation: 'from chat.conversations where id',
  requestStop: 'update chat.generations set stop_requested_at',
}

type StoredEvent = { seq: number } & LogEvent

/** A generation's log as it is stored. Fails where an event is missing or stored twice; the end may be far off. */
export async function storedLog(sql: Sql, generationId: string): Promise<StoredEvent[]> {
  const rows = await sql<{ first: number; last: number; events: LogEvent[] }[]>`
    select first_seq::int as first, last_seq::int as last, events from chat.generation_chunks
    where generation_id = ${generationId} order by first_seq`
  const stored = rows.flatMap(({ first, last, events }) => {
    expect(events, `chunk ${first}–${last}`).toHaveLength(last - first + 1)
    return events.map((event, index) => ({ seq: first + index, ...event }))
  })
  const inner = stored.filter((event) => event.type !== 'complete' && event.type !== 'error')
  expect(inner.map(({ seq }) => seq)).toEqual(inner.map((_, index) => index + 1))
  expect(stored.length - inner.length, 'terminal events').toBeLessThanOrEqual(1)
  return stored
}

export const storedText = (log: readonly StoredEvent[]): string =>
  log.map((event) => (event.type === 'assistant_chunk' ? event.content : '')).join('')

export const terminals = (frames: readonly Frame[]): Frame[] =>
  frames.filter(({ data }) => data.type === 'complete' || data.type === 'error')

/** A stream whose answer has begun. */
export interface Begun {
  stream: OpenStream
  id: string
  generation: string
  message: string
  messagePath: string
  /** Of its stream. */
  url: string
}

/** Sends as `client`, and waits for `assistant_start`. */
export async function begin(client: Client, content = 'go'): Promise<Begun> {
  const id = await client.conversation()
  const stream = await client.stream(`/conversations/${id}/messages`, { content })
  const { data } = await stream.until((frame) => frame.data.type === 'assistant_start')
  const message = (data['message'] as Message).id
  const messagePath = `/conversations/${id}/messages/${message}`
  const generation = String(data['generation_id'])
  return { stream, id, generation, message, messagePath, url: `${messagePath}/stream` }
}

/** The message of a response's one terminal frame. Fails where it has none, or two, or something behind it. */
export async function endOf(stream: OpenStream): Promise<{ frame: Frame; message: Message }> {
  const frames = await stream.ended
  const [frame] = terminals(frames)
  expect(terminals(frames)).toHaveLength(1)
  if (frame === undefined || frames.at(-1) !== frame) throw new Error('the terminal frame is not the last')
  return { frame, message: frame.data['message'] as Message }
}

/** Goes on behind every frame of a stream that ended: exactly what came behind it, no more and no less. */
export async function expectExactResume(client: Client, url: string, whole: readonly Frame[]): Promise<void> {
  for (const cut of whole.slice(0, -1)) {
    const frames = await (await client.stream(`${url}?after=${cut.id}`, undefined)).ended
    const behind = whole.filter(({ seq }) => seq > cut.seq)
    expect(frames.every(({ seq }) => seq > cut.seq)).toBe(true)
    expect(textOf(frames), `behind ${cut.id}`).toBe(textOf(behind))
    expect(frames.at(-1)).toEqual(whole.at(-1))
  }
}
