/**
 * A generation's log: append-only, in memory, numbered from 1. One writer (its run), any number of viewers.
 *
 * States: open → ended, by the terminal event; nothing is appended after it. Appending is synchronous and never
 * throws. Watchers are woken by `wake`, once for all that one upstream packet brought, in the same tick.
 */
import { isTerminal, type LogEvent, type TerminalEvent } from './events.ts'

export interface Log {
  readonly generationId: string
  /** The newest event's seq; 0 while empty. */
  head(): number
  at(seq: number): LogEvent | undefined
  terminal(): TerminalEvent | undefined
  append(event: LogEvent): void
  wake(): void
  /** @returns the way to stop watching. */
  watch(onWake: () => void): () => void
  watchers(): number
}

export function createLog(generationId: string): Log {
  const events: LogEvent[] = []
  const watching = new Set<() => void>()
  let terminal: TerminalEvent | undefined
  return {
    generationId,
    head: () => events.length,
    at: (seq) => events[seq - 1],
    terminal: () => terminal,
    append(event) {
      if (terminal !== undefined) return
      events.push(event)
      if (isTerminal(event)) terminal = event
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
