/** Door of playground, types alone: what the client of the socket is given, and what it can do. */
import type { Notification } from '../../notifications/schemas.ts'
import type { ClientFrame, ServerFrame } from '../../realtime/protocol.ts'

export type FrameOf<Op extends ServerFrame['op']> = Extract<ServerFrame, { op: Op }>
type WithoutRid<Frame> = Frame extends { op: 'ack' } ? never : Omit<Frame, 'rid'>

export type Mode = FrameOf<'hello'>['mode']
export type LiveEvent = FrameOf<'event'>
export type Ask = WithoutRid<ClientFrame>
/** `code` is the server's, or `not_connected`: whether it was done is not known then. */
export type Answer = FrameOf<'ok'> | FrameOf<'error'>

export type ClientState =
  | { kind: 'connecting' }
  | { kind: 'replaying'; mode: Mode }
  | { kind: 'live' }
  /** It comes back after `delayMs`. */
  | { kind: 'waiting'; delayMs: number; why: string }
  | { kind: 'offline' }
  /** Until `start` is called again. */
  | { kind: 'stopped'; why: string }

/** An address to connect to, which holds a ticket; a refusal that time does not change; or not yet. */
export type Ticket = { url: string } | { refused: string } | { retryAfterMs: number }

/** As browsers, Node and `ws` have it. */
export interface SocketLike {
  send(text: string): void
  close(): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener(type: 'close', listener: (event: { code: number }) => void): void
  addEventListener(type: 'error', listener: () => void): void
}

export interface RealtimeOptions {
  /** A fresh one for each connection. `renew`: the token behind the last one has expired. */
  ticket(ask: { renew: boolean }): Promise<Ticket>
  WebSocket: new (url: string, protocols: string[]) => SocketLike
  /** Keeps the cursor, `<epoch>.<seq>`; null: there is none. */
  storage: { load(): string | null; save(cursor: string | null): void }
  /** A notification, or a newer version of one. Where this throws, the same one comes again after a reconnect. */
  apply(notification: Notification, how: { replayed: boolean }): void
  /**
   * There is no way to go on from what the client has: it drops its list at once, reads it (`GET …/notifications`), and
   * adds what it reads to what `apply` brings meanwhile, of each id the higher seq. Where it rejects, it is asked again.
   */
  reload(mode: Mode): Promise<void>
  /** Of a room, or a service: not stored, may be lost. */
  volatile?(event: LiveEvent): void
  unread?(count: number): void
  changed?(state: ClientState): void
  /** Every frame, both ways. */
  frame?(frame: ServerFrame | ClientFrame, direction: 'in' | 'out'): void
  /** What `apply` or `reload` threw. */
  failed?(error: unknown): void
  /** Whether there is a network, as far as the system knows. Default: yes. */
  network?: { online(): boolean; watch(changed: () => void): () => void }
  timers?: { set(run: () => void, ms: number): unknown; clear(timer: unknown): void }
  /** From 0 to 1. */
  random?: () => number
}

export interface RealtimeClient {
  start(): void
  /** For good, until it is started again. */
  stop(): void
  /** Cuts the connection, as a network does: it comes back. */
  drop(): void
  state(): ClientState
  cursor(): string | null
  /** Resolves with the answer, always. */
  ask(frame: Ask): Promise<Answer>
  /** Stays joined over reconnects, until `leave`. */
  join(room: string): Promise<Answer>
  leave(room: string): Promise<Answer>
}
