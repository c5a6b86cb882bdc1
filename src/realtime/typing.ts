/**
 * Who is typing in which room.
 *
 * Somebody types until `typing: false`, until they leave, or for `typingMs` after they said so last; then the room is told
 * that it is over, with a killed instance too: what came from elsewhere runs out here. However often it is said, a room
 * is told of one person once in `quietMs`.
 */
import type { Peer } from './peer.ts'

export interface Typing {
  set(peer: Peer, room: string, typing: boolean): void
  /** It is not in these rooms any more. */
  left(peer: Peer, rooms: readonly string[]): void
  /** What another instance told. */
  heard(room: string, userId: string, typing: boolean): void
  /** As time goes by. */
  tick(): void
}

export interface TypingOptions {
  nowMs: () => number
  /** Tells the others in the room. `here`: it is of a socket of ours, other instances are to hear of it. */
  tell: (told: { room: string; userId: string; typing: boolean; here: boolean }) => void
}

export const typingMs = 6_000
/** Between two times that a room is told of the same person, ms. */
const quietMs = 2_000
/** What another instance told holds so long without being told again, ms: it may have heard more, and been quiet. */
const heardMs = typingMs + quietMs + 1_000
/** People typing at once, here and elsewhere: more are not told. */
const typistsMax = 20_000
/** The same in one room: who reads more names? A crowd that types would cost its square. */
const typistsInRoomMax = 20

interface Typist {
  room: string
  userId: string
  /** That said so last; undefined: it was another instance's. */
  peer: Peer | undefined
  untilMs: number
  /** What the room knows. */
  told: boolean
  toldAtMs: number
}

export function createTyping({ nowMs, tell }: TypingOptions): Typing {
  const typists = new Map<string, Typist>()
  /** How many of a room it has been told of. */
  const toldIn = new Map<string, number>()
  const keyOf = (room: string, userId: string) => `${room} ${userId}`

  function typistOf(room: string, userId: string): Typist | undefined {
    const key = keyOf(room, userId)
    const known = typists.get(key)
    if (known !== undefined || typists.size >= typistsMax) return known
    const typist = { room, userId, peer: undefined, untilMs: 0, told: false, toldAtMs: -Infinity }
    typists.set(key, typist)
    return typist
  }

  /** @param again it was said once more. */
  function look(typist: Typist, again: boolean): void {
    const now = nowMs()
    const typing = now < typist.untilMs
    const quiet = now - typist.toldAtMs < quietMs
    const hasPlace = typist.told || (toldIn.get(typist.room) ?? 0) < typistsInRoomMax
    if (typing ? (again || !typist.told) && !quiet && hasPlace : typist.told) {
      count(typist, typing)
      if (typing) typist.toldAtMs = now
      tell({ room: typist.room, userId: typist.userId, typing, here: typist.peer !== undefined })
    }
    if (!typing && !quiet) typists.delete(keyOf(typist.room, typist.userId))
  }

  function count(typist: Typist, told: boolean): void {
    const change = Number(told) - Number(typist.told)
    typist.told = told
    const now = (toldIn.get(typist.room) ?? 0) + change
    if (now === 0) toldIn.delete(typist.room)
    else toldIn.set(typist.room, now)
  }

  function end(typist: Typist): void {
    typist.untilMs = 0
    look(typist, false)
  }

  return {
    set(peer, room, typing) {
      if (!typing) {
        const typist = typists.get(keyOf(room, peer.userId))
        if (typist?.peer !== undefined) end(typist)
        return
      }
      const typist = typistOf(room, peer.userId)
      if (typist === undefined) return
      typist.peer = peer
      typist.untilMs = nowMs() + typingMs
      look(typist, true)
    },
    left(peer, rooms) {
      if (typists.size === 0) return
      for (const room of rooms) {
        const typist = typists.get(keyOf(room, peer.userId))
        if (typist?.peer === peer) end(typist)
      }
    },
    heard(room, userId, typing) {
      const typist = typing ? typistOf(room, userId) : typists.get(keyOf(room, userId))
      // Of somebody who types here too, this instance knows better.
      if (typist === undefined || (typist.peer !== undefined && nowMs() < typist.untilMs)) return
      typist.peer = undefined
      typist.untilMs = typing ? nowMs() + heardMs : 0
      // The one who told it was quiet for us.
      typist.toldAtMs = -Infinity
      look(typist, typing)
    },
    tick() {
      for (const typist of typists.values()) look(typist, false)
    },
  }
}
