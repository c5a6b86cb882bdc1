/**
 * The journal: the logs' durable copy. All running generations of this process are flushed together, in one
 * statement, however many they are; it also renews their heartbeats, notes what their upstreams call them, and brings
 * back who asked for a stop.
 *
 * A generation is open in the journal from its start until it settles. One flush is in flight at a time; one that
 * failed is sent again as it was, so that a lost acknowledgement cannot store an event twice. A batch that keeps
 * failing while the database answers is sent generation by generation: one bad row fails one generation. A generation
 * that is no longer running, or no longer ours, is not written, and its run is told; so is one whose unflushed events
 * are too many bytes or too old, since text that cannot be kept should not be paid for.
 */
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { isTerminal, type LogEvent } from './events.ts'
import { flushStatement, type FlushRow, type UpstreamNote } from './flush.ts'
import type { Log } from './log.ts'

export type { UpstreamNote } from './flush.ts'

export type JournalVerdict =
  /** Somebody asked for a stop. */
  | 'stop'
  /** Settled by somebody else: nothing more may be written. */
  | 'lost'
  /** What was said cannot be kept. */
  | 'stalled'

export interface Journal {
  /**
   * @param tell called once, from a flush: the run ends itself.
   * @param note asked with each flush; stored with it where the upstream's id is news. Undefined: nothing is known yet.
   */
  open(generation: {
    id: string
    log: Log
    tell: (verdict: JournalVerdict) => void
    note: () => UpstreamNote | undefined
  }): JournalEntry
  /** Somebody may have asked this generation to stop: where it is open here, a flush looks now. */
  look(generationId: string): void
  /** Age of the oldest event that is not stored, ms; at most a flush's distance too high. */
  lagMs(): number
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
  note: () => UpstreamNote | undefined
  storedNote: UpstreamNote | undefined
  storedSeq: number
  /** When the oldest event that is not stored was first seen by a flush. */
  waitingSinceMs: number | undefined
  openedAtMs: number
  told: boolean
}

/** What is known of one generation's upstream and not stored yet. Stored twice it is the same. */
interface News {
  entry: Entry
  note: UpstreamNote
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
  let collectedAtMs = -Infinity
  /** Since the last flush began. */
  let askedToLook = false

  function schedule(): void {
    // One that is in flight schedules the next: two at once would store the same events as different batches.
    if (timer !== undefined || inFlight !== undefined || entries.size === 0) return
    const waitMs = askedToLook ? 0 : flushMs
    timer = setTimeout(() => {
      timer = undefined
      inFlight = flush().finally(() => {
        inFlight = undefined
        schedule()
      })
    }, waitMs)
  }

  function tell(entry: Entry, verdict: JournalVerdict): void {
    if (entry.told) return
    entry.told = true
    entry.tell(verdict)
  }

  async function flush(): Promise<void> {
    const pieces = collect()
    const ids = [...entries.keys()]
    const looking = askedToLook
    askedToLook = false
    if (pieces.length === 0 && !looking && nowMs() - controlledAtMs < controlMs) return
    try {
      if (failures >= failuresBeforeSplit) await writeOneByOne(pieces)
      else await write(pieces, ids)
      failures = 0
      controlledAtMs = nowMs()
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
    collectedAtMs = nowMs()
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
    const notes = news(ids)
    const doubtful = nowMs() - acknowledgedAtMs > doubtMs
    const rows = await transactions.asSystem('journal', (tx) =>
      tx.commit(() => tx.execute<FlushRow>(flushStatement(pieces, notes, ids, instanceId, doubtful))),
    )
    const states = new Map(rows.map((row) => [row.id, row]))
    // As long as somebody holds one of ours it is in doubt whose it will be.
    if (!rows.some(({ locked_out }) => locked_out)) acknowledgedAtMs = nowMs()
    for (const piece of pieces) {
      const state = states.get(piece.entry.id)
      // A try whose acknowledgement was lost may have stored it: with more events in it, those would be left out.
      if (state?.locked_out === true) unacknowledged.push(piece)
      if (state?.locked_out !== false) continue
      piece.entry.storedSeq = piece.lastSeq
      piece.entry.waitingSinceMs = undefined
    }
    for (const { entry, note } of notes) if (states.get(entry.id)?.noted === true) entry.storedNote = note
    for (const id of ids) {
      const entry = entries.get(id)
      const state = states.get(id)
      if (entry === undefined) continue
      if (state === undefined) tell(entry, 'lost')
      else if (state.stop) tell(entry, 'stop')
    }
  }

  function news(ids: readonly string[]): News[] {
    const found: News[] = []
    for (const id of ids) {
      const entry = entries.get(id)
      const note = entry?.note()
      if (entry === undefined || note === undefined) continue
      const stored = entry.storedNote
      if (note.upstreamId !== stored?.upstreamId || note.model !== stored.model) found.push({ entry, note })
    }
    return found
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
    open({ id, log: generationLog, tell: onVerdict, note }) {
      const entry: Entry = {
        id,
        log: generationLog,
        tell: onVerdict,
        note,
        storedNote: undefined,
        storedSeq: 0,
        waitingSinceMs: undefined,
        openedAtMs: nowMs(),
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
    look(generationId) {
      if (askedToLook || !entries.has(generationId)) return
      askedToLook = true
      clearTimeout(timer)
      timer = undefined
      // The flush in flight may have looked too early: the next one comes right behind it.
      schedule()
    },
    lagMs() {
      const now = nowMs()
      let oldestMs = now
      for (const { log: generationLog, storedSeq, waitingSinceMs, openedAtMs } of entries.values()) {
        if (generationLog.head() <= storedSeq) continue
        // What no flush has seen yet came after the last one looked.
        oldestMs = Math.min(oldestMs, waitingSinceMs ?? Math.max(collectedAtMs, openedAtMs))
      }
      return now - oldestMs
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
