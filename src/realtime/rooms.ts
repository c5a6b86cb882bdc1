/**
 * Door of realtime: rooms, presence, typing, and events that nobody stores, over all instances.
 *
 * Everything here is volatile: it is told to the sockets that are here, and over the bus to those elsewhere, and may be
 * lost. What must hold all the same is looked for in the database: who may be in a room (membership.ts). A socket that
 * has joined nothing costs its place in a list; time passes for all of it on one interval.
 */
import { z } from 'zod'
import type { Bus } from '../bus/bus.ts'
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { createAudience, type Pair } from './audience.ts'
import { createEmit, type Emit } from './emit.ts'
import { createMembership, type LeaveReason } from './membership.ts'
import type { Peer, Rooms } from './peer.ts'
import { inParts } from './parts.ts'
import { createPresence } from './presence.ts'
import { parseRoom } from './room-names.ts'
import { createTeller, printEvent } from './teller.ts'
import { createTyping } from './typing.ts'

export type { Emit, EmitTarget } from './emit.ts'

export interface RealtimeStats {
  /** Distinct, over all instances. */
  users_online: number
  sockets: number
  instances: { id: string; sockets: number; users: number }[]
}

export interface InstanceRooms extends Rooms {
  /** Volatile, to sockets of all instances. @returns how many sockets of this instance are being told. */
  emit: Emit
  /**
   * Who may be in a room has changed, and that is committed: of these whoever has no right any more leaves it, on all
   * instances. Without `userIds` everybody is looked at, such as when a conversation was deleted.
   */
  kick(room: string, userIds?: readonly string[]): void
  /** Closes all sockets of these people, on all instances. @returns how many of this one. */
  revoke(userIds: readonly string[]): number
  stats(): RealtimeStats
  /** Whether it has entered, and so is told what others are. */
  has(peer: Peer): boolean
  close(): Promise<void>
}

export interface RoomsOptions {
  /** Without one there is this instance only. */
  bus: Bus | undefined
  transactions: Transactions
  log: Logger
  instanceId: string
  nowMs?: () => number
  /** Between two looks at what time has brought, ms: typing and presence are told that late at most. */
  tickMs?: number
}

/** Of one socket. Who wants to see more watches a dashboard, and a service makes a room for that. */
export const roomsPerSocketMax = 64
/** Where more sockets than this are in a room here, typing and presence are noise, and cost their square: not told. */
const chatterPeersMax = 250

const kickSchema = z.object({ room: z.string(), users: z.array(z.string()).optional() })
const revokeSchema = z.object({ users: z.array(z.string()) })
const typingSchema = z.object({ room: z.string(), user: z.string(), typing: z.boolean() })

export function createRooms(options: RoomsOptions): InstanceRooms {
  const { bus, transactions, log, instanceId } = options
  const { nowMs = () => performance.now(), tickMs = 250 } = options
  const audience = createAudience()
  // Slices are of real time, whatever the clock of what expires says.
  const teller = createTeller({ log, nowMs: () => performance.now() })
  /** Counts what may have taken somebody's right: a join that was being checked meanwhile is checked again. */
  let losses = 0

  /** @returns how many, about. */
  function tellOthers(room: string, userId: string, type: string, data: Record<string, unknown>): number {
    const peers = audience.room(room)?.peers
    if (peers === undefined) return 0
    // An end is told whoever may have heard of the beginning: there may have been fewer then.
    if (peers.size > chatterPeersMax && data['typing'] !== false) return 0
    teller.tell(printEvent(type, room, data), peers, userId)
    return peers.size
  }

  const presence = createPresence({
    bus,
    transactions,
    log,
    nowMs,
    instanceId,
    audience,
    tell: (room, told) => tellOthers(room, told.user_id, 'presence', { ...told }),
  })
  const typing = createTyping({
    nowMs,
    tell({ room, userId, typing: isTyping, here }) {
      tellOthers(room, userId, 'typing', { user_id: userId, typing: isTyping })
      if (here && !presence.alone())
        bus?.publish('typing', { room, user: userId, typing: isTyping }, `${room} ${userId}`)
    },
  })
  const { stateOf } = presence
  const membership = createMembership({
    transactions,
    log,
    nowMs,
    stateOf,
    pairs: () => audience.pairs(),
    expel,
  })
  const emitting = createEmit({ bus, audience, teller, alone: presence.alone })

  function expel({ room, userId }: Pair, reason: LeaveReason): void {
    const leaving = audience.of(userId).filter((peer) => audience.isIn(peer, room))
    for (const peer of leaving) leave(peer, room)
    if (leaving.length > 0) teller.tell(printEvent('left', room, { reason }), leaving)
  }

  function leave(peer: Peer, room: string): void {
    audience.leave(peer, room)
    typing.left(peer, [room])
  }

  /** Those of them who are in it here. */
  function pairsOf(room: string, userIds: readonly string[] | undefined): Pair[] {
    const peers = audience.room(room)?.peers ?? new Set()
    const here = new Set(peers.values().map(({ userId }) => userId))
    const asked = userIds === undefined ? here : here.intersection(new Set(userIds))
    return [...asked].map((userId) => ({ room, userId }))
  }

  function kickHere(text: string, userIds: readonly string[] | undefined): void {
    const room = parseRoom(text)
    if (room === undefined) return
    losses++
    membership.changed(room.name)
    membership.recheck(pairsOf(room.name, userIds))
  }

  function revokeHere(userIds: readonly string[]): number {
    const peers = [...new Set(userIds)].flatMap((userId) => audience.of(userId))
    teller.end(peers, 'revoked')
    return peers.length
  }

  const unsubscribe = [
    bus?.subscribe('kick', (message) => {
      const { success, data } = kickSchema.safeParse(message)
      if (success) kickHere(data.room, data.users)
    }),
    bus?.subscribe('revoke', (message) => {
      const { success, data } = revokeSchema.safeParse(message)
      if (success) revokeHere(data.users)
    }),
    bus?.subscribe('typing', (message) => {
      const { success, data } = typingSchema.safeParse(message)
      if (success && audience.room(data.room) !== undefined) typing.heard(data.room, data.user, data.typing)
    }),
    bus?.onGap(() => {
      losses++
      membership.recheckAll()
    }),
  ]
  const timer = setInterval(() => {
    typing.tick()
    presence.tick()
    membership.tick()
  }, tickMs)
  timer.unref()

  function assertRoomLeft(peer: Peer, room: string): void {
    if (audience.isIn(peer, room) || audience.joined(peer) < roomsPerSocketMax) return
    throw new AppError('invalid_request', {
      detail: `A socket can be in ${roomsPerSocketMax} rooms: leave one first.`,
    })
  }

  return {
    enter(peer) {
      audience.enter(peer)
      presence.entered(peer)
    },
    drop(peer) {
      const rooms = audience.drop(peer)
      if (rooms === undefined) return
      typing.left(peer, rooms)
      presence.left(peer)
    },
    async join(peer, text) {
      const room = parseRoom(text)
      if (room === undefined) throw forbidden()
      if (room.kind === 'user') {
        if (room.of !== peer.userId) throw forbidden()
        return { room: room.name, present: [] }
      }
      assertRoomLeft(peer, room.name)
      const before = losses
      const { allowed, ownerId, present } = await membership.ask(room, peer.userId)
      // Nobody is there to be answered.
      if (!audience.has(peer)) return {}
      if (!allowed) throw forbidden()
      assertRoomLeft(peer, room.name)
      audience.join(peer, room.name, ownerId ?? undefined)
      if (losses !== before) membership.recheck([{ room: room.name, userId: peer.userId }])
      return { room: room.name, present }
    },
    leave(peer, text) {
      const room = parseRoom(text)
      if (room !== undefined) leave(peer, room.name)
    },
    typing(peer, text, isTyping) {
      const room = parseRoom(text)
      if (room === undefined || !audience.isIn(peer, room.name)) throw forbidden()
      typing.set(peer, room.name, isTyping)
    },
    presence(peer, state) {
      if (audience.has(peer)) presence.set(peer, state)
    },
    emit: emitting.emit,
    kick(room, userIds) {
      // Of very many, all are looked at.
      const [users, ...more] = inParts(userIds ?? [], (userId) => userId)
      bus?.publish('kick', userIds === undefined || more.length > 0 ? { room } : { room, users })
      kickHere(room, userIds)
    },
    revoke(userIds) {
      for (const users of inParts(userIds, (userId) => userId)) bus?.publish('revoke', { users })
      return revokeHere(userIds)
    },
    has: (peer) => audience.has(peer),
    stats() {
      const online = new Set(audience.users())
      const instances = [{ id: instanceId, sockets: audience.socketsCount(), users: audience.usersCount() }]
      for (const { id, sockets, users } of presence.others()) {
        for (const userId of users.keys()) online.add(userId)
        instances.push({ id, sockets, users: users.size })
      }
      const sockets = instances.reduce((sum, instance) => sum + instance.sockets, 0)
      return { users_online: online.size, sockets, instances }
    },
    async close() {
      clearInterval(timer)
      for (const unsubscribed of unsubscribe) unsubscribed?.()
      emitting.close()
      teller.close()
      await Promise.all([membership.close(), presence.close()])
    },
  }
}

/** The same for a room that there is not, and for one of others: nothing is revealed. */
const forbidden = () =>
  new AppError('forbidden', { detail: 'There is no such room, or you are not one of its members.' })
