/**
 * What a client of the crowd says and understands: Rivulet's `rivulet.v1`, and socket.io over Engine.IO 4. One wire and
 * one process for both, so that what they cost their servers is all that differs.
 */
import type { Ending } from './wire.ts'

/** What a client notices. */
export interface Host {
  send(text: string): void
  /** Replay is done: from here on everything comes as it happens. */
  live(): void
  /** A frame that was not seen before. @param sentUs when its sender sent it; undefined for those of nobody's */
  event(sentUs: number | undefined, readUs: number): void
  /** Known already, and dropped. */
  duplicate(): void
  /** Something is missing in between: it was not applied, and is asked for. */
  gap(): void
  /** What this client has means nothing any more. */
  reset(): void
}

export interface Dialect {
  /** Of the upgrade, with what it has seen so far. */
  request(): { path: string; headers: string[] }
  /** The wire is open. */
  opened(): void
  heard(text: string, readUs: number): void
  /** Where in its log it stands. */
  cursor(): number
  /** Whoever was ended like this does not come back. */
  isFinal(ending: Ending): boolean
}

export type DialectName = 'rivulet' | 'socket.io'

export const dialects: Record<DialectName, (token: string, host: Host) => Dialect> = {
  rivulet: createRivuletDialect,
  'socket.io': createSocketioDialect,
}

/** What is read of Rivulet's frames. */
type Frame =
  | { op: 'hello'; epoch: string; head: number; mode: 'resume' | 'fresh' | 'reset' }
  | { op: 'event'; seq?: number; prev?: number; data?: EventData }
  | { op: 'live'; seq: number }
  | { op: 'heartbeat'; head: number }
  | { op: 'ok' | 'error' }

/** A notification has its data inside, a volatile event is its data. */
interface EventData {
  sent_at_us?: number
  data?: { sent_at_us?: number }
}

const sentAt = (data: EventData | undefined) => data?.data?.sent_at_us ?? data?.sent_at_us

function createRivuletDialect(token: string, host: Host): Dialect {
  let epoch: string | undefined
  let cursor = 0
  let live = false

  const say = (frame: Record<string, unknown>) => host.send(JSON.stringify(frame))

  /** The client's rule, with what must hold before anything is applied. */
  function apply(frame: Extract<Frame, { op: 'event' }>, readUs: number): void {
    const { seq, prev = 0 } = frame
    if (seq === undefined) host.event(sentAt(frame.data), readUs)
    else if (seq <= cursor) host.duplicate()
    else if (live && prev > cursor) askAgain()
    else {
      cursor = seq
      host.event(sentAt(frame.data), readUs)
    }
  }

  function askAgain(): void {
    host.gap()
    say({ op: 'sync', seq: cursor })
  }

  return {
    request() {
      const query = epoch === undefined ? '' : `?cursor=${epoch}.${cursor}`
      const headers = [`Authorization: Bearer ${token}`, 'Sec-WebSocket-Protocol: rivulet.v1']
      return { path: `/api/chat/ws${query}`, headers }
    },
    opened() {
      live = false
    },
    heard(text, readUs) {
      const frame = JSON.parse(text) as Frame
      switch (frame.op) {
        case 'hello':
          if (frame.mode === 'reset') host.reset()
          if (frame.mode !== 'resume') cursor = frame.head
          epoch = frame.epoch
          return
        case 'event':
          apply(frame, readUs)
          return
        case 'live':
          live = true
          cursor = Math.max(cursor, frame.seq)
          host.live()
          return
        case 'heartbeat':
          say({ op: 'ack', seq: cursor })
          if (frame.head > cursor) askAgain()
          return
        case 'ok':
        case 'error':
          return
        default:
          return frame satisfies never
      }
    },
    cursor: () => cursor,
    isFinal: (ending) =>
      (ending.kind === 'closed' && (ending.code >= 4500 || [1007, 1009].includes(ending.code))) ||
      (ending.kind === 'refused' && [400, 401, 403, 404].includes(ending.status)),
  }
}

/** What socketio-server.ts emits. */
interface Emitted {
  id?: number
  data?: { sent_at_us?: number }
}

/** As socket.io-client does it: pid and offset are told when it comes back; and, for a server that asks, the highest id. */
function createSocketioDialect(token: string, host: Host): Dialect {
  let pid: string | undefined
  let offset: string | undefined
  let highestId = 0

  return {
    request: () => ({ path: '/socket.io/?EIO=4&transport=websocket', headers: [] }),
    opened: () => undefined,
    heard(text, readUs) {
      // A packet's type is its first character; a message's has one of its own behind it.
      if (text.startsWith('0'))
        host.send(`40${JSON.stringify({ token, highest_id: highestId, ...(pid && { pid, offset }) })}`)
      else if (text === '2') host.send('3')
      else if (text.startsWith('40')) {
        pid = (JSON.parse(text.slice(2)) as { pid?: string }).pid
        host.live()
      } else if (text.startsWith('42')) {
        const [, emitted, last] = JSON.parse(text.slice(2)) as [string, Emitted, string | undefined]
        if (last !== undefined) offset = last
        highestId = Math.max(highestId, emitted.id ?? 0)
        host.event(emitted.data?.sent_at_us, readUs)
      }
    },
    cursor: () => highestId,
    isFinal: (ending) => ending.kind === 'refused' && ending.status < 500,
  }
}
