/**
 * Mirrors: logs of generations whose run is another process's, or over. The same log, fed from the journal's chunks.
 *
 * All mirrors of this process are read in one statement every `pollMs`, while somebody watches them. A mirror ends on
 * the terminal chunk, never on the generation's status alone: only then is everything before it known. It is dropped
 * when nobody has watched it since the last look.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from '../db/sql.ts'
import type { Caller, Transactions } from '../db/database.ts'
import { readMessage } from '../messages/queries.ts'
import type { FrameError, LogEvent } from './events.ts'
import { createLog, type Log } from './log.ts'

export interface Mirrored {
  id: string
  caller: Caller
  conversationId: string
  messageId: string
}

export interface Mirrors {
  /** The log as far as it is stored now, and growing while it is watched. Undefined where it is over and gone. */
  open(generation: Mirrored, state: { running: boolean }): Promise<Log | undefined>
  close(): void
}

/** The terminal event as a chunk keeps it: the message itself is in its own table. */
export type StoredTerminal = { type: 'complete' } | { type: 'error'; error: FrameError }

interface ChunkRow {
  generation_id: string
  first_seq: string
  last_seq: string
  events: (Exclude<LogEvent, { type: 'complete' | 'error' | 'snapshot' }> | StoredTerminal)[]
}

interface Mirror extends Mirrored {
  log: Log
  /** Nobody watched at the last look: once more and it is dropped. */
  idle: boolean
}

export function createMirrors(options: {
  transactions: Transactions
  pollMs: number
  onError: (error: unknown) => void
}): Mirrors {
  const { transactions, pollMs, onError } = options
  const mirrors = new Map<string, Mirror>()
  const closing = new AbortController()
  let polling = false

  async function read(wanted: readonly Mirror[]): Promise<void> {
    const rows = await transactions.asSystem('mirror', (tx) =>
      tx.commit(() =>
        tx.execute<ChunkRow>(sql`
          select c.generation_id, c.first_seq, c.last_seq, c.events
          from unnest(${wanted.map(({ id }) => id)}::uuid[],
            ${wanted.map(({ log }) => log.head())}::bigint[]) as mirror (id, head)
          join chat.generation_chunks c on c.generation_id = mirror.id and c.last_seq > mirror.head
          order by c.generation_id, c.first_seq`),
      ),
    )
    const byId = new Map(wanted.map((mirror) => [mirror.id, mirror]))
    for (const row of rows) {
      const mirror = byId.get(row.generation_id)
      if (mirror !== undefined) await take(mirror, row)
    }
    for (const { log } of wanted) log.wake()
  }

  async function take({ log, caller, conversationId, messageId }: Mirror, row: ChunkRow): Promise<void> {
    const firstSeq = Number(row.first_seq)
    for (const [index, event] of row.events.entries()) {
      if (event.type === 'complete' || event.type === 'error') {
        const message = await transactions.asCaller(caller, (tx) =>
          readMessage(tx, conversationId, messageId),
        )
        if (message === undefined) return
        const seq = Number(row.last_seq)
        log.append(
          event.type === 'complete'
            ? { type: 'complete', message, usage: message.usage }
            : { type: 'error', error: event.error, message },
          seq,
        )
      } else if (firstSeq + index > log.head()) log.append(event)
    }
  }

  async function poll(): Promise<void> {
    if (polling) return
    polling = true
    while (mirrors.size > 0 && !closing.signal.aborted) {
      await delay(pollMs, undefined, { signal: closing.signal }).catch(() => undefined)
      for (const mirror of mirrors.values()) {
        const unwatched = mirror.log.watchers() === 0
        if (mirror.log.terminal() !== undefined || (unwatched && mirror.idle)) mirrors.delete(mirror.id)
        mirror.idle = unwatched
      }
      if (mirrors.size > 0) await read([...mirrors.values()]).catch(onError)
    }
    polling = false
  }

  return {
    async open(generation, { running }) {
      const known = mirrors.get(generation.id)
      if (known !== undefined) {
        known.idle = false
        return known.log
      }
      const mirror: Mirror = { ...generation, log: createLog(generation.id), idle: false }
      await read([mirror])
      if (mirror.log.head() === 0 && !running) return undefined
      // Two viewers may have come at once: one mirror serves both.
      const raced = mirrors.get(generation.id)
      if (raced !== undefined) return raced.log
      if (mirror.log.terminal() === undefined) {
        mirrors.set(generation.id, mirror)
        void poll()
      }
      return mirror.log
    },
    close: () => closing.abort(),
  }
}
