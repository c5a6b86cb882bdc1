/** Door of realtime, for rooms: what a socket is to them, and what they are to a socket. */
import type { CloseReason } from './protocol.ts'

/** A socket as rooms see it. */
export interface Peer {
  readonly id: string
  readonly userId: string
  /** Volatile: dropped where its socket is behind. A Buffer printed once serves many. */
  tell(frame: Buffer): void
  close(reason: CloseReason): void
}

/** What sockets ask of rooms. */
export interface Rooms {
  enter(peer: Peer): void
  drop(peer: Peer): void
  /** @returns what the answer says beside `ok`. @throws AppError `forbidden` */
  join(peer: Peer, room: string): Promise<Record<string, unknown>>
  leave(peer: Peer, room: string): void
  /** @throws AppError `forbidden` where it is not in the room */
  typing(peer: Peer, room: string, typing: boolean): void
  presence(peer: Peer, state: 'online' | 'away'): void
}
