/**
 * One socket: a viewer of its user's inbox, a peer of rooms, and what its client asks.
 *
 * States: greeting (waits for the hub's hello; what its client asks waits too) → open → closing. While it is full, since
 * the system takes no more, stored events wait in the database, what is volatile is dropped, and what its client asks
 * waits; the callback of a write says when there is room again. Nothing is queued but the client's own questions, which
 * are answered one after the other.
 *
 * A client that reads nothing costs `bufferedBytesMax` and one frame, and is closed after 30 s in which it took nothing;
 * one from which nothing comes for 10 s behind a heartbeat is closed as well.
 */
import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import type { UserCaller } from '../auth/caller.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import type { Cursor } from '../notifications/log.ts'
import { lookBackMax, type Acks } from './acks.ts'
import type { Beating, Wheel } from './heartbeat.ts'
import type { Hub } from './hub.ts'
import { createAllowance, readFrame, type Inbound } from './inbound.ts'
import type { Perform } from './operations.ts'
import type { Peer, Rooms } from './peer.ts'
import { bytesOf, printFrame, printHeartbeat, printHello, printLive } from './print.ts'
import { closeCodes, type CloseReason, type ClientFrame } from './protocol.ts'
import type { Viewer } from './viewer.ts'

export interface Connection extends Viewer, Peer, Beating {
  close(reason: CloseReason): void
  /** Its client sent a message. */
  take(data: Buffer, isBinary: boolean): void
  pinged(data: Buffer): void
  ponged(): void
  /** Its socket takes and sends nothing any more. */
  end(): void
}

export interface ConnectionDeps {
  hub: Hub
  rooms: Rooms
  perform: Perform
  acks: Acks
  wheel: Wheel
  log: Logger
  nowMs: () => number
  /** Wall clock, ms: when tokens end. */
  now: () => number
}

/** What is held back for a client that does not read, besides one frame, bytes. Beyond it is full. */
const bufferedBytesMax = 64 * 1024
/** It has room again. */
const drainedBytesMax = bufferedBytesMax / 4
/** Where so much waits for it, in answers to what it asked, it is given up, bytes. */
const overflowBytesMax = 1024 * 1024
/** It takes nothing of what waits for it: given up, ms. */
const stuckMsMax = 30_000
/** Behind a heartbeat, ms. */
const silentMsMax = 10_000
/** Questions that wait for an answer: more than its allowance lets through at once, with a slow database. */
const askedMax = 64

const asText = { binary: false }

/** @param since what its client says it has; undefined: nothing. */
export function createConnection(
  ws: WebSocket,
  { userId, validUntil }: UserCaller,
  since: Cursor | undefined,
  deps: ConnectionDeps,
): Connection {
  const { hub, rooms, perform, acks, wheel, log, nowMs, now } = deps
  const mayTake = createAllowance(nowMs)
  let state: 'greeting' | 'open' | 'closing' = 'greeting'
  let full = false
  let epoch = ''
  /** Where it stood at first, the last that it was shown, the last that it said it has. */
  let base = 0
  let shown = 0
  let acked = -1
  let unansweredSinceMs: number | undefined
  let stuckSinceMs: number | undefined
  let stuckBytes = 0
  let asked: Inbound[] = []
  let answering = false

  const connection: Connection = {
    id: randomUUID(),
    userId,
    since,

    greet(greeting) {
      state = 'open'
      epoch = greeting.epoch
      base = shown = greeting.cursor
      write(Buffer.from(printHello(greeting)))
      // A cursor is an acknowledgement.
      if (greeting.mode === 'resume') acknowledge(base)
      rooms.enter(connection)
      void answer()
    },
    show(event) {
      shown = event.seq
      return write(bytesOf(event))
    },
    live(seq) {
      shown = Math.max(shown, seq)
      write(Buffer.from(printLive(seq)))
    },

    tell(frame) {
      if (state === 'open' && !full && ws.bufferedAmount + frame.length <= bufferedBytesMax)
        ws.send(frame, asText)
    },

    beat(atMs) {
      // What it has not taken yet says nothing of whether it lives: that it takes nothing does.
      if (state === 'closing' || ws.bufferedAmount > 0) return
      unansweredSinceMs ??= atMs
      if (state === 'greeting') ws.ping()
      else ws.send(printHeartbeat(subscription.head()))
    },
    look(atMs) {
      if (state === 'closing') return
      if (now() >= validUntil) close('expired')
      else if (isStuck(atMs)) close('slow')
      else if (unansweredSinceMs !== undefined && atMs - unansweredSinceMs > silentMsMax)
        close('no_heartbeat')
    },

    take(data, isBinary) {
      if (state === 'closing') return
      unansweredSinceMs = undefined
      const inbound = isBinary ? undefined : readFrame(data)
      if (inbound === undefined) close('bad_frame')
      // One that says something new is the answer to something shown: there are no more of these than of those.
      else if (isAck(inbound) && acknowledge(inbound.frame.seq)) return
      else if (!mayTake() || asked.length >= askedMax) close('rate')
      else if (!isAck(inbound)) {
        asked.push(inbound)
        void answer()
      }
    },
    pinged(data) {
      if (state === 'closing') return
      unansweredSinceMs = undefined
      if (!mayTake()) close('rate')
      else if (!full) ws.pong(data)
    },
    ponged() {
      if (state === 'closing') return
      unansweredSinceMs = undefined
      if (!mayTake()) close('rate')
    },

    close,
    end,
  }
  const slot = wheel.add(connection)
  const subscription = hub.subscribe(connection)

  /** @returns whether there is room for more. */
  function write(bytes: Buffer): boolean {
    if (state === 'closing') return false
    const waiting = ws.bufferedAmount
    if (waiting + bytes.length <= bufferedBytesMax) {
      ws.send(bytes, asText)
      return true
    }
    if (waiting > 0 && waiting + bytes.length > overflowBytesMax) {
      close('slow')
      return false
    }
    full = true
    ws.send(bytes, asText, drained)
    return false
  }

  function drained(): void {
    if (state === 'closing' || ws.bufferedAmount > drainedBytesMax) return
    full = false
    subscription.resume()
    void answer()
  }

  function isStuck(atMs: number): boolean {
    const waiting = ws.bufferedAmount
    if (waiting === 0) stuckSinceMs = undefined
    else if (stuckSinceMs === undefined || waiting < stuckBytes) stuckSinceMs = atMs
    stuckBytes = waiting
    return stuckSinceMs !== undefined && atMs - stuckSinceMs > stuckMsMax
  }

  /** Up to what it was shown. @returns whether that is news. */
  function acknowledge(seq: number): boolean {
    const upTo = Math.min(seq, shown)
    if (state !== 'open' || upTo <= acked) return false
    acks.note({ userId, epoch, after: acked < 0 ? Math.max(0, base - lookBackMax) : acked, upTo })
    acked = upTo
    return true
  }

  async function answer(): Promise<void> {
    if (answering) return
    answering = true
    while (isReady()) {
      const inbound = asked.shift()
      if (inbound === undefined) break
      const text = await answerTo(inbound)
      write(Buffer.from(text))
    }
    answering = false
  }

  /** Asked again behind each answer. */
  const isReady = (): boolean => state === 'open' && !full

  async function answerTo(inbound: Inbound): Promise<string> {
    if ('problem' in inbound)
      return printError(inbound.rid, new AppError('invalid_request', { detail: inbound.problem }))
    const { frame } = inbound
    const rid = 'rid' in frame ? frame.rid : undefined
    try {
      const result = await resultOf(frame)
      return printFrame({ ...result, op: 'ok', rid })
    } catch (error) {
      if (error instanceof AppError) return printError(rid, error)
      log.error({ event: 'operation_failed', op: frame.op, err: error }, 'what a socket asked failed')
      return printError(rid, new AppError('internal_error'))
    }
  }

  async function resultOf(frame: ClientFrame): Promise<object> {
    if (frame.op === 'ack') return {}
    if (frame.op !== 'sync') return perform(connection, frame)
    const from = Math.min(frame.seq ?? Math.max(acked, base), shown)
    // What it is shown again it may ack again.
    acked = Math.min(acked, from)
    subscription.sync(from)
    return {}
  }

  function close(reason: CloseReason): void {
    if (state === 'closing') return
    end()
    ws.close(closeCodes[reason], reason)
  }

  function end(): void {
    if (state === 'open') rooms.drop(connection)
    state = 'closing'
    asked = []
    subscription.close()
    wheel.delete(connection, slot)
  }

  return connection
}

const isAck = (inbound: Inbound): inbound is { frame: Extract<ClientFrame, { op: 'ack' }> } =>
  'frame' in inbound && inbound.frame.op === 'ack'

const printError = (rid: string | number | undefined, { code, title, detail }: AppError): string =>
  printFrame({ op: 'error', rid, code, message: detail ?? title })
