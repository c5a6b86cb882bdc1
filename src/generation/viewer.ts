/**
 * A viewer: a cursor into a log, printed as SSE frames. It costs its cursor; nothing is queued for it.
 *
 * Text that piled up while its socket was busy goes out as one frame carrying the last seq.
 */
import type { SseSource } from '../http/sse.ts'
import { isTerminal, isText, type LogEvent } from './events.ts'
import type { Log } from './log.ts'

/** Text that one frame carries at most, in UTF-16 units, so that a late viewer's catching up stays in pieces. */
const frameCharsMax = 16 * 1024

/** @param after the last seq that the viewer has; 0 for all. */
export function createViewer(log: Log, after = 0): SseSource {
  let cursor = after
  return {
    next() {
      const first = log.at(cursor + 1)
      if (first === undefined) return undefined
      cursor++
      if (!isText(first))
        return { frame: printFrame(log.generationId, cursor, first), last: isTerminal(first) }
      let { content } = first
      for (;;) {
        const following = log.at(cursor + 1)
        if (following?.type !== first.type || content.length >= frameCharsMax) break
        content += following.content
        cursor++
      }
      return { frame: printFrame(log.generationId, cursor, { type: first.type, content }), last: false }
    },
    watch: (onWake) => log.watch(onWake),
  }
}

/** JSON has no line breaks of its own: nothing in a text can end a frame or begin another field. */
export function printFrame(generationId: string, seq: number, event: LogEvent): string {
  return `id: ${generationId}:${seq}\ndata: ${JSON.stringify(event)}\n\n`
}
