/**
 * The journal: the logs' durable copy. All running generations of this process are flushed together, in one
 * statement, however many they are; it also renews their heartbeats and brings back who asked for a stop.
 *
 * A generation is open in the journal from its start until it settles. One flush is in flight at a time; one that
 * failed is sent again as it was, so that a lost acknowledgement cannot store an event twice. A batch that keeps
 * failing while the database answers is sent generation by generation: one bad row fails one generation. A generation
 * that is no longer running, or no longer ours, is not written, and its run is told; so is one whose unflushed events
 * are too many bytes or too old, since text that cannot be kept should not be paid for.
 */
import { sql } from 'drizzle-orm'
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { isTerminal, type LogEvent } from './events.ts'
import type { Log } from './log.ts'

export type JournalVerdict =
  /** Somebody asked for a stop. */
  | 'stop'
  /** Settled by somebody else: nothing more may be written. */
  | 'lost'
  /** What was said cannot be kept. */
  | 'stalled'

export interface Journal {
  /** @param tell called once, from a flush: the run ends itself. */
  open(generation: { id: string; log: Log; tell: (verdict: JournalVerdict) => void }): JournalEntry
}

export interface JournalEntry {
  /** Takes the generation out, after the flush in flight. @returns the last seq that is stored. */
  leave(): Promise<number>
}

export interface JournalOptions {
  transactions: Transactions
  log: Logger
  instanceId: string
  nowMs: () => number
  /** Between two flushes. */
  flushMs: number
  /** Unflushed events may become this old. */
  stallMs: number
}

/** Unflushed text of one generation, in UTF-16 units, before its run is ended. */
const unflushedCharsMax = 1024 * 1024
/** A flush without news, for heartbeats and stop requests. */
const controlMs = 1_000
/** Consecutive failures, the database being there, before a batch is split. */
const failuresBeforeSplit = 3
/** After this long without an acknowledged flush somebody may have settled our generations: then rows are locked. */
const doubtMs = 10_000

interface Entry {
  id: string
  log: Log
  tell: (verdict: JournalVerdict) => void
  storedSeq: number
  /** When the oldest event that is not stored was first seen by a flush. */
  waitingSinceMs: number | undefined
  told: boolean
}

/** What one generation adds to a flush. Kept until it is acknowledged: a retry sends the same. */
interface Piece {
  entry: Entry
  firstSeq: number
  lastSeq: number
  events: string
}

export function createJournal(options: JournalOptions): Journal {
  const { transactions, log, instanceId, nowMs, flushMs, stallMs } = options
  const entries = new Map<string, Entry>()
  let timer: NodeJS.Timeout | undefined
  let inFlight: Promise<void> | undefined
  let unacknowledged: Piece[] = []
  let failures = 0
  let controlledAtMs = 0
  let acknowledgedAtMs = nowMs()

  function schedule(): void {
    if (timer !== undefined || entries.size === 0) return
    timer = setTimeout(() => {
      timer = undefined
      inFlight = flush().finally(() => {
        inFlight = undefined
        schedule()
      })
    }, flushMs)
  }

  function tell(entry: Entry, verdict: JournalVerdict): void {
    if (entry.told) return
    entry.told = true
    entry.tell(verdict)
  }

  async function flush(): Promise<void> {
    const pieces = collect()
    const ids = [...entries.keys()]
    if (pieces.length === 0 && nowMs() - controlledAtMs < controlMs) return
    try {
      if (failures >= failuresBeforeSplit) await writeOneByOne(pieces)
      else await write(pieces, ids)
      failures = 0
      acknowledgedAtMs = nowMs()
      controlledAtMs = acknowledgedAtMs
    } catch (error) {
      unacknowledged = pieces
      // An absent database is nobody's bad row: splitting would only ask it more often.
      const away = error instanceof AppError && error.code === 'database_unavailable'
      if (!away) failures++
      log.error(
        { event: 'journal_flush_failed', err: error, generations: ids.length, failures },
        'a flush failed',
      )
    }
    judge()
  }

  /** The events since each generation's last stored one; for those in an unacknowledged batch, that batch again. */
  function collect(): Piece[] {
    const again = new Map(unacknowledged.map((piece) => [piece.entry.id, piece]))
    unacknowledged = []
    const pieces: Piece[] = []
    for (const entry of entries.values()) {
      const piece = again.get(entry.id) ?? cut(entry)
      if (piece === undefined) continue
      entry.waitingSinceMs ??= nowMs()
      pieces.push(piece)
    }
    return pieces
  }

  async function write(pieces: readonly Piece[], ids: readonly string[]): Promise<void> {
    const rows = await transactions.asSystem('journal', (tx) =>
      tx.commit(() =>
        tx.execute<FlushRow>(flushStatement(pieces, ids, instanceId, nowMs() - acknowledgedAtMs > doubtMs)),
      ),
    )
    const states = new Map(rows.map((row) => [row.id, row]))
    for (const { entry, lastSeq } of pieces) {
      if (states.get(entry.id)?.locked_out !== false) continue
      entry.storedSeq = lastSeq
      entry.waitingSinceMs = undefined
    }
    for (const id of ids) {
      const entry = entries.get(id)
      const state = states.get(id)
      if (entry === undefined) continue
      if (state === undefined) tell(entry, 'lost')
      else if (state.stop) tell(entry, 'stop')
    }
  }

  async function writeOneByOne(pieces: readonly Piece[]): Promise<void> {
    for (const piece of pieces) {
      try {
        await write([piece], [piece.entry.id])
      } catch (error) {
        if (error instanceof AppError && error.code === 'database_unavailable') throw error
        log.error(
          { event: 'journal_row_refused', generationId: piece.entry.id, err: error },
          'events cannot be stored',
        )
        tell(piece.entry, 'stalled')
      }
    }
  }

  /** Whose unflushed events have become too many, or too old? */
  function judge(): void {
    for (const entry of entries.values()) {
      const tooOld = entry.waitingSinceMs !== undefined && nowMs() - entry.waitingSinceMs > stallMs
      if (tooOld || unflushedChars(entry) > unflushedCharsMax) tell(entry, 'stalled')
    }
  }

  return {
    open({ id, log: generationLog, tell: onVerdict }) {
      const entry: Entry = {
        id,
        log: generationLog,
        tell: onVerdict,
        storedSeq: 0,
        waitingSinceMs: undefined,
        told: false,
      }
      entries.set(id, entry)
      schedule()
      return {
        async leave() {
          await inFlight
          entries.delete(id)
          unacknowledged = unacknowledged.filter((piece) => piece.entry !== entry)
          return entry.storedSeq
        },
      }
    },
  }
}

/** Event boundaries are kept: a cursor may point at any of them. The terminal event is the settle's. */
function cut(entry: Entry): Piece | undefined {
  const events: LogEvent[] = []
  for (let seq = entry.storedSeq; ; seq++) {
    const next = entry.log.next(seq)
    if (next === undefined || isTerminal(next.event)) break
    events.push(next.event)
  }
  if (events.length === 0) return undefined
  const firstSeq = entry.storedSeq + 1
  return { entry, firstSeq, lastSeq: entry.storedSeq + events.length, events: JSON.stringify(events) }
}

function unflushedChars(entry: Entry): number {
  let chars = 0
  for (let seq = entry.storedSeq; chars <= unflushedCharsMax; seq++) {
    const event = entry.log.next(seq)?.event
    if (event === undefined || isTerminal(event)) break
    if ('content' in event) chars += event.content.length
  }
  return chars
}

interface FlushRow {
  id: string
  stop: boolean
  /** Running and ours, but its row was held by somebody at that moment: nothing of it was written, try again. */
  locked_out: boolean
}

/**
 * One statement for all. `doubtful`: we were silent for so long that a reaper may be settling our generations at this
 * moment; then their rows are locked before anything is written for them, and those that are held are left out.
 */
function flushStatement(
  pieces: readonly Piece[],
  ids: readonly string[],
  instanceId: string,
  doubtful: boolean,
) {
  return sql`
    with ours as (
      select id, user_id, heartbeat_at, stop_requested_at from chat.generations
      where id = any(${sql.param(ids)}::uuid[]) and status = 'running' and instance_id = ${instanceId}
    ), writable as (
      select id, user_id from chat.generations
      where id in (select id from ours) and status = 'running' ${doubtful ? sql`for share skip locked` : sql.empty()}
    ), written as (
      insert into chat.generation_chunks (generation_id, first_seq, last_seq, user_id, events)
      select piece.id, piece.first_seq, piece.last_seq, writable.user_id, piece.events
      from unnest(${sql.param(pieces.map(({ entry }) => entry.id))}::uuid[],
        ${sql.param(pieces.map(({ firstSeq }) => firstSeq))}::bigint[],
        ${sql.param(pieces.map(({ lastSeq }) => lastSeq))}::bigint[],
        ${sql.param(pieces.map(({ events }) => events))}::jsonb[]) as piece (id, first_seq, last_seq, events)
      join writable on writable.id = piece.id
      on conflict do nothing
    ), beating as (
      update chat.generations set heartbeat_at = now() where id in (
        select id from chat.generations where id in (select id from ours where heartbeat_at < now() - interval '5 s')
        for no key update skip locked)
    )
    select ours.id, ours.stop_requested_at is not null as stop,
      ours.id not in (select id from writable) as locked_out from ours`
}
