/**
 * A generation's log: append-only, in memory, numbered from 1. One writer (its run, or its mirror where the run is
 * another process's), any number of viewers.
 *
 * States: open → ended, by the terminal event; nothing is appended after it. Appending is synchronous and never
 * throws. Watchers are woken by `wake`, once for all that one upstream packet brought, in the same tick.
 *
 * The terminal event may have a number far beyond the one before it: where a run died, events may have been shown
 * that were never stored, and no cursor of theirs may pass for one of this log's.
 */
import { isTerminal, type LogEvent, type TerminalEvent } from './events.ts'

export interface NumberedEvent<T extends LogEvent = LogEvent> {
  seq: number
  event: T
}

export interface Log {
  readonly generationId: string
  /** The newest event's seq; 0 while empty. */
  head(): number
  /** The first event behind a cursor. */
  next(cursor: number): NumberedEvent | undefined
  terminal(): NumberedEvent<TerminalEvent> | undefined
  /** @param seq of a terminal event that is not simply the next. */
  append(event: LogEvent, seq?: number): void
  wake(): void
  /** @returns the way to stop watching. */
  watch(onWake: () => void): () => void
  watchers(): number
}

export function createLog(generationId: string): Log {
  const events: LogEvent[] = []
  const watching = new Set<() => void>()
  let terminal: NumberedEvent<TerminalEvent> | undefined
  return {
    generationId,
    head: () => terminal?.seq ?? events.length,
    next(cursor) {
      const event = events[cursor]
      if (event !== undefined) return { seq: cursor + 1, event }
      return terminal !== undefined && terminal.seq > cursor ? terminal : undefined
    },
    terminal: () => terminal,
    append(event, seq = events.length + 1) {
      if (terminal !== undefined) return
      if (isTerminal(event)) terminal = { seq, event }
      else events.push(event)
    },
    wake() {
      for (const onWake of watching) onWake()
    },
    watch(onWake) {
      watching.add(onWake)
      return () => watching.delete(onWake)
    },
    watchers: () => watching.size,
  }
}
