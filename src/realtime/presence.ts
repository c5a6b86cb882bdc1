/**
 * Presence: people as the rooms see them: online, away or offline, the best of all their devices on all instances.
 *
 * A person is offline when no device of theirs has been here for `offlineAfterMs`; coming back before that is not told,
 * since nobody was told that they had gone. Each instance decides for itself, from its own sockets and from what the others
 * say (gossip.ts), and tells its own sockets. Changes of one moment are told together, of each person the last one.
 */
import type { Bus } from '../bus/bus.ts'
import type { Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import { noteSeen } from '../notifications/heads.ts'
import type { Audience } from './audience.ts'
import { createGossip, type HereState, type Other } from './gossip.ts'
import type { Peer } from './peer.ts'
import { readLastSeen, readRoomsOf } from './queries.ts'

export interface PresenceOf {
  user_id: string
  state: HereState | 'offline'
  /** When they were last seen coming or going. */
  last_seen: string | null
}

export interface Presence {
  entered(peer: Peer): void
  left(peer: Peer): void
  set(peer: Peer, state: HereState): void
  /** Undefined: they are nowhere. */
  readonly stateOf: (userId: string) => HereState | undefined
  readonly others: () => Iterable<Other>
  /** There is no other instance, as far as this one hears. */
  readonly alone: () => boolean
  /** As time goes by. */
  tick(): void
  close(): Promise<void>
}

export interface PresenceOptions {
  bus: Bus | undefined
  transactions: Transactions
  log: Logger
  nowMs: () => number
  instanceId: string
  audience: Audience
  /** Tells the others in the room, where anybody is in it here. @returns how many. */
  tell: (room: string, presence: PresenceOf) => number
}

/** A page that is loaded again, a train in a tunnel: not worth telling, ms. */
const offlineAfterMs = 10_000
/** People who are told of with one statement. */
const toldMax = 200
/** Frames of a tick, a third of a core: when thousands go at once, their rooms hear of it one after the other. */
const tellsMax = 4_000
/** Rooms of one person that hear of them. */
const roomsMax = 500
/** People whose last_seen_at is written with one statement. */
const seenMax = 1_000
/** After a statement that failed, ms. */
const retryMs = 1_000

export function createPresence(options: PresenceOptions): Presence {
  const { bus, transactions, log, nowMs, instanceId, audience, tell } = options
  /** Devices that are not in use. */
  const away = new Set<Peer>()
  /** What other instances were told of our people. */
  const said = new Map<string, HereState>()
  /** What our rooms know, of everybody who is here or has just left. */
  const known = new Map<string, HereState>()
  /** Since when. */
  const leaving = new Map<string, number>()
  /** To be looked at. */
  const dirty = new Set<string>()
  /** Rooms are to be told. */
  let untold = new Map<string, PresenceOf['state']>()
  /** Their last_seen_at is to be written. */
  const seen = new Set<string>()
  let tellsLeft = tellsMax
  let working: Promise<void> | undefined
  let failedAtMs: number | undefined

  const gossip = createGossip({
    bus,
    nowMs,
    here: () => said,
    sockets: () => audience.socketsCount(),
    changed(userIds, long) {
      const first = long && isFirst()
      for (const userId of userIds) {
        dirty.add(userId)
        if (!long || stateOf(userId) !== undefined) continue
        leaving.set(userId, nowMs() - offlineAfterMs)
        // A killed instance has not noted when they left.
        if (first) seen.add(userId)
      }
    },
  })

  /** One of those who are left does what each of them could. */
  const isFirst = () => [...gossip.others()].every(({ id }) => instanceId < id)

  function stateHere(userId: string): HereState | undefined {
    const devices = audience.of(userId)
    if (devices.length === 0) return undefined
    return devices.every((device) => away.has(device)) ? 'away' : 'online'
  }

  function stateOf(userId: string): HereState | undefined {
    let best = stateHere(userId)
    for (const { users } of gossip.others()) {
      if (best === 'online') break
      best = users.get(userId) ?? best
    }
    return best
  }

  function look(): void {
    const changes = new Map<string, HereState | 'gone'>()
    for (const userId of dirty) {
      const here = stateHere(userId)
      if (here !== said.get(userId)) {
        changes.set(userId, here ?? 'gone')
        if (here === undefined) said.delete(userId)
        else said.set(userId, here)
        if (here !== 'online') seen.add(userId)
      }
      lookAt(userId)
    }
    dirty.clear()
    if (changes.size > 0) gossip.tell(changes)
    for (const userId of leaving.keys()) lookAt(userId)
  }

  function lookAt(userId: string): void {
    const state = stateOf(userId)
    if (state !== undefined) {
      leaving.delete(userId)
      if (known.get(userId) !== state) untold.set(userId, state)
      known.set(userId, state)
      return
    }
    if (!known.has(userId)) {
      // Came and went unseen.
      leaving.delete(userId)
      return
    }
    const since = leaving.get(userId)
    if (since === undefined) leaving.set(userId, nowMs())
    else if (nowMs() - since >= offlineAfterMs) {
      leaving.delete(userId)
      known.delete(userId)
      untold.set(userId, 'offline')
    }
  }

  async function work(): Promise<void> {
    try {
      while (seen.size > 0) await noteSome()
      while (untold.size > 0 && tellsLeft > 0) await tellSome()
      failedAtMs = undefined
    } catch (error) {
      if (failedAtMs === undefined)
        log.warn({ event: 'presence_untold', err: error }, 'presence waits for the database')
      failedAtMs = nowMs()
    }
  }

  async function noteSome(): Promise<void> {
    const some = [...seen.values().take(seenMax)]
    for (const userId of some) seen.delete(userId)
    try {
      await transactions.asSystem('last seen', (tx) => tx.commit(() => noteSeen(tx, some)))
    } catch (error) {
      for (const userId of some) seen.add(userId)
      throw error
    }
  }

  async function tellSome(): Promise<void> {
    if (audience.rooms().size === 0) {
      untold.clear()
      return
    }
    const some = new Map(untold.entries().take(toldMax))
    for (const userId of some.keys()) untold.delete(userId)
    try {
      await tellRooms(some)
    } finally {
      // What has changed since is newer.
      untold = new Map([...some, ...untold])
    }
  }

  /** Takes out whom it has told of. */
  async function tellRooms(some: Map<string, PresenceOf['state']>): Promise<void> {
    const userIds = [...some.keys()]
    const [joined, last] = await transactions.asSystem('presence', (tx) =>
      tx.commit(() => Promise.all([readRoomsOf(tx, userIds, roomsMax), readLastSeen(tx, userIds)])),
    )
    const owned = audience
      .rooms()
      .entries()
      .map(([room, { ownerId }]) => ({ room, userId: ownerId }))
      .filter(({ userId }) => userId !== undefined && some.has(userId))
    const roomsOf = Map.groupBy([...joined, ...owned], ({ userId }) => userId)
    const lastSeen = new Map(last.map(({ userId, lastSeenAt }) => [userId, lastSeenAt]))
    for (const [userId, state] of some) {
      if (tellsLeft <= 0) break
      for (const { room } of roomsOf.get(userId) ?? [])
        tellsLeft -= tell(room, { user_id: userId, state, last_seen: lastSeen.get(userId) ?? null })
      some.delete(userId)
    }
  }

  return {
    entered(peer) {
      dirty.add(peer.userId)
    },
    left(peer) {
      away.delete(peer)
      dirty.add(peer.userId)
    },
    set(peer, state) {
      if (state === 'away') away.add(peer)
      else away.delete(peer)
      dirty.add(peer.userId)
    },
    stateOf,
    others: gossip.others,
    alone: gossip.alone,
    tick() {
      gossip.tick()
      look()
      tellsLeft = tellsMax
      const early = failedAtMs !== undefined && nowMs() - failedAtMs < retryMs
      if (seen.size + untold.size > 0 && !early)
        working ??= work().finally(() => {
          working = undefined
        })
    },
    async close() {
      look()
      gossip.close()
      untold.clear()
      await working
      await work()
    },
  }
}
