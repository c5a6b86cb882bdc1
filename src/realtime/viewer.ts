/** Door of realtime: what a viewer of an inbox is, and what it can ask for. Sockets and event streams are viewers. */
import type { Cursor } from '../notifications/log.ts'
import type { Notification } from '../notifications/schemas.ts'
import type { CloseReason } from './protocol.ts'

export interface Greeting {
  epoch: string
  /** Where the log stands, and what is unread, at this moment. */
  head: number
  unread: number
  /** Where the viewer stands: its own cursor, or the head. */
  cursor: number
  /** `reset`: its cursor means nothing here, or is older than what is kept. `fresh`: it had none. */
  mode: 'resume' | 'fresh' | 'reset'
}

/** Of viewers who stand at the same place, all get the same object: it is printed once. */
export interface InboxEvent {
  notification: Notification
  seq: number
  /** Where the viewer stood before it. */
  prev: number
  /** As of the same moment as the row. */
  unread: number
}

export interface Viewer {
  readonly userId: string
  /** What the client says it has. */
  readonly since: Cursor | undefined
  greet(greeting: Greeting): void
  /** @returns whether there is room for more. Where there is none, `resume` says when there is again. */
  show(event: InboxEvent): boolean
  /** It has all there was. Once after each time that it was behind. */
  live(seq: number): void
  /** It is not shown anything any more: `resync` where its log is another one now. It may come back. */
  close(reason: CloseReason): void
}

export interface Subscription {
  /** There is room again. */
  resume(): void
  /** For heartbeats: where its log stands, as far as this instance knows. What it lacks of that is on its way. */
  head(): number
  /** The client has less than it was shown: goes on from there. */
  sync(from: number): void
  close(): void
}
