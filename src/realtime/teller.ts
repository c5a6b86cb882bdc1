/**
 * Tells many sockets the same, without holding the event loop: a frame is printed once, and told in slices of time.
 *
 * Frames go out in the order in which they were given, to everybody; what is given while thousands are being told waits
 * behind them. Volatile: where too much waits, what is new is dropped.
 */
import type { Logger } from '../logging.ts'
import type { Peer } from './peer.ts'
import type { CloseReason } from './protocol.ts'

export interface Teller {
  /** @param to is walked when its turn comes: who has left by then is not told. `except`: of this person no socket. */
  tell(frame: Buffer, to: Iterable<Peer>, except?: string): void
  /** Closes them, behind what they are being told. Never dropped. */
  end(to: Iterable<Peer>, reason: CloseReason): void
  close(): void
}

/** What one turn of the event loop tells, ms: others are served in between. */
const sliceMs = 5
/** Frames that wait to be told, and their bytes: at 20 µs a socket, some seconds of work. */
const waitingMax = 10_000
const waitingBytesMax = 16 * 1024 * 1024
/** Frames that have been told and are still held: a list that never becomes empty must not grow for ever. */
const toldMax = 1_000

interface Telling {
  act: (peer: Peer) => void
  bytes: number
  to: Iterator<Peer>
  except: string | undefined
}

export function createTeller({ log, nowMs }: { log: Logger; nowMs: () => number }): Teller {
  /** The first is being told. Taken from the front by an index, since shifting thousands costs more than telling. */
  let waiting: Telling[] = []
  let first = 0
  let waitingBytes = 0
  let dropped = 0
  let turn: NodeJS.Immediate | undefined

  function tellSome(): void {
    turn = undefined
    const untilMs = nowMs() + sliceMs
    for (let telling = waiting[first]; telling !== undefined; telling = waiting[first]) {
      if (!tellUntil(telling, untilMs)) {
        turn = setImmediate(tellSome)
        return
      }
      waitingBytes -= telling.bytes
      first++
      if (first === toldMax) {
        waiting = waiting.slice(first)
        first = 0
      }
    }
    waiting = []
    first = 0
    if (dropped > 0)
      log.warn({ event: 'frames_dropped', dropped }, 'all volatile frames that waited are told')
    dropped = 0
  }

  /** @returns whether everybody has been told. */
  function tellUntil({ act, to, except }: Telling, untilMs: number): boolean {
    while (nowMs() < untilMs) {
      const next = to.next()
      if (next.done === true) return true
      if (next.value.userId === except) continue
      try {
        act(next.value)
      } catch (error) {
        log.error({ event: 'frame_untold', err: error }, 'a socket could not be told')
      }
    }
    return false
  }

  function add(telling: Telling): void {
    waiting.push(telling)
    waitingBytes += telling.bytes
    turn ??= setImmediate(tellSome)
  }

  return {
    tell(frame, to, except) {
      if (waiting.length - first >= waitingMax || waitingBytes + frame.length > waitingBytesMax) {
        if (dropped === 0)
          log.warn({ event: 'frames_drop' }, 'more is told than sockets can be told: new frames go')
        dropped++
        return
      }
      const act = (peer: Peer) => peer.tell(frame)
      add({ act, bytes: frame.length, to: to[Symbol.iterator](), except })
    },
    end: (to, reason) =>
      add({
        act: (peer) => peer.close(reason),
        bytes: 0,
        to: to[Symbol.iterator](),
        except: undefined,
      }),
    close() {
      clearImmediate(turn)
      waiting = []
    },
  }
}

/** An event that is not stored, as the wire has it. */
export function printEvent(type: string, room: string | undefined, data: Record<string, unknown>): Buffer {
  return Buffer.from(JSON.stringify({ op: 'event', type, ...(room !== undefined && { room }), data }))
}
