/** What viewers are shown, as the text of frames: the same on a socket and in an event stream. */
import type { ServerFrame } from './protocol.ts'
import type { Greeting, InboxEvent } from './viewer.ts'

/** Between two heartbeats of a socket, s. */
export const heartbeatS = 25

export const printFrame = (frame: ServerFrame): string => JSON.stringify(frame)

export const printHello = ({ epoch, head, unread, mode }: Greeting): string =>
  printFrame({ op: 'hello', v: 1, epoch, head, unread, heartbeat: heartbeatS, mode })

export const printEvent = ({ notification, seq, prev, unread }: InboxEvent): string =>
  printFrame({
    op: 'event',
    seq,
    prev,
    id: notification.id,
    type: notification.type,
    time: notification.updated_at,
    unread,
    data: notification,
  })

export const printLive = (seq: number): string => printFrame({ op: 'live', seq })

export const printHeartbeat = (head: number): string => printFrame({ op: 'heartbeat', head })

const printed = new WeakMap<InboxEvent, Buffer>()

/** An event as it is sent: made once for all viewers that are shown the same one. */
export function bytesOf(event: InboxEvent): Buffer {
  const known = printed.get(event)
  if (known !== undefined) return known
  const bytes = Buffer.from(printEvent(event))
  printed.set(event, bytes)
  return bytes
}
