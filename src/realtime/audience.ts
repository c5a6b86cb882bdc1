/**
 * Who is here, on this instance: sockets by their person, and by the rooms that they have joined.
 *
 * A socket without rooms costs its place in its person's list. A room without sockets is forgotten.
 */
import type { Peer } from './peer.ts'

export interface Room {
  readonly peers: ReadonlySet<Peer>
  /** Of a conversation. */
  readonly ownerId: string | undefined
}

export interface Pair {
  room: string
  userId: string
}

export interface Audience {
  enter(peer: Peer): void
  /** @returns the rooms that it was in; undefined where it was not here. */
  drop(peer: Peer): readonly string[] | undefined
  has(peer: Peer): boolean
  join(peer: Peer, name: string, ownerId: string | undefined): void
  leave(peer: Peer, name: string): void
  isIn(peer: Peer, name: string): boolean
  /** How many rooms it is in. */
  joined(peer: Peer): number
  room(name: string): Room | undefined
  rooms(): ReadonlyMap<string, Room>
  /** A person's sockets. What was handed out does not change any more. */
  of(userId: string): readonly Peer[]
  /** Everybody, who comes and goes meanwhile included. */
  all(): Iterable<Peer>
  users(): Iterable<string>
  usersCount(): number
  socketsCount(): number
  /** Who is in which room, each person once. Can be walked while they come and go. */
  pairs(): Generator<Pair>
}

const nobody: readonly Peer[] = []

export function createAudience(): Audience {
  const users = new Map<string, readonly Peer[]>()
  const rooms = new Map<string, { peers: Set<Peer>; ownerId: string | undefined }>()
  const joined = new Map<Peer, Set<string>>()
  let sockets = 0

  function leave(peer: Peer, name: string): void {
    const names = joined.get(peer)
    if (names?.delete(name) !== true) return
    if (names.size === 0) joined.delete(peer)
    const room = rooms.get(name)
    room?.peers.delete(peer)
    if (room?.peers.size === 0) rooms.delete(name)
  }

  function* all(): Iterable<Peer> {
    for (const peers of users.values()) yield* peers
  }

  const has = (peer: Peer) => users.get(peer.userId)?.includes(peer) === true

  return {
    enter(peer) {
      if (has(peer)) return
      users.set(peer.userId, [...(users.get(peer.userId) ?? nobody), peer])
      sockets++
    },
    drop(peer) {
      if (!has(peer)) return undefined
      sockets--
      const left = (users.get(peer.userId) ?? nobody).filter((other) => other !== peer)
      if (left.length === 0) users.delete(peer.userId)
      else users.set(peer.userId, left)
      const names = [...(joined.get(peer) ?? [])]
      for (const name of names) leave(peer, name)
      return names
    },
    has,
    join(peer, name, ownerId) {
      const room = rooms.get(name) ?? { peers: new Set(), ownerId }
      rooms.set(name, room)
      room.peers.add(peer)
      const names = joined.get(peer) ?? new Set()
      joined.set(peer, names.add(name))
    },
    leave,
    isIn: (peer, name) => rooms.get(name)?.peers.has(peer) === true,
    joined: (peer) => joined.get(peer)?.size ?? 0,
    room: (name) => rooms.get(name),
    rooms: () => rooms,
    of: (userId) => users.get(userId) ?? nobody,
    all,
    users: () => users.keys(),
    usersCount: () => users.size,
    socketsCount: () => sockets,
    *pairs() {
      for (const [room, { peers }] of rooms)
        for (const userId of new Set(peers.values().map((peer) => peer.userId))) yield { room, userId }
    },
  }
}
