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

/**
 * @param after the last seq that the viewer has; 0 for all.
 * @param first frames that come before what the log holds, such as a snapshot.
 */
export function createViewer(log: Log, after = 0, first: readonly string[] = []): SseSource {
  let cursor = after
  let printed = 0
  return {
    next() {
      const frame = first[printed]
      if (frame !== undefined) {
        printed++
        return { frame, last: false }
      }
      const next = log.next(cursor)
      if (next === undefined) return undefined
      cursor = next.seq
      const { event } = next
      if (!isText(event))
        return { frame: printFrame(log.generationId, cursor, event), last: isTerminal(event) }
      let { content } = event
      for (;;) {
        const following = log.next(cursor)
        if (following?.event.type !== event.type || content.length >= frameCharsMax) break
        content += following.event.content
        cursor = following.seq
      }
      return { frame: printFrame(log.generationId, cursor, { type: event.type, content }), last: false }
    },
    watch: (onWake) => log.watch(onWake),
  }
}

/** JSON has no line breaks of its own: nothing in a text can end a frame or begin another field. */
export function printFrame(generationId: string, seq: number, event: LogEvent): string {
  return `id: ${generationId}:${seq}\ndata: ${JSON.stringify(event)}\n\n`
}
