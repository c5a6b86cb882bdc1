/**
 * Who may be in which room: asked of the database, for many in one statement.
 *
 * A right is proven when somebody joins, and again for as long as they are in: when a message says that it may have
 * gone, when messages may have been missed, and every `recheckMs` for everybody who is in a room here. So a lost message
 * costs a recheck, and a database that is away lets nobody in and throws nobody out.
 */
import type { Transactions, Tx } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import type { Pair } from './audience.ts'
import type { HereState } from './gossip.ts'
import type { PresenceOf } from './presence.ts'
import { readLastSeen, readMembers, readStandings, type Standing } from './queries.ts'
import { parseRoom, type RoomName } from './room-names.ts'
import { createRosters } from './rosters.ts'

export interface Admission extends Standing {
  /** The others who are here; of very many, some. */
  present: PresenceOf[]
}

export type LeaveReason = 'removed' | 'deleted'

export interface Membership {
  /** @throws AppError database_unavailable. */
  ask(room: RoomName, userId: string): Promise<Admission>
  /** Members of this room are others now. */
  changed(room: string): void
  /** Looks at these again, soon. */
  recheck(pairs: readonly Pair[]): void
  recheckAll(): void
  /** As time goes by. */
  tick(): void
  close(): Promise<void>
}

export interface MembershipOptions {
  transactions: Transactions
  log: Logger
  nowMs: () => number
  stateOf: (userId: string) => HereState | undefined
  /** Who is in which room here. */
  pairs: () => Iterable<Pair>
  /** Has no right to be there, or none any more. */
  expel: (pair: Pair, reason: LeaveReason) => void
}

/** How long a lost message lets somebody stay who was removed, ms. */
const recheckMs = 10_000
/** After a recheck that failed, ms. */
const retryMs = 1_000
/** Joins of one transaction, and then their sockets are answered in one turn. A herd is let in at some thousands a second. */
const askedMax = 50
/** Rechecked with one statement: two index look-ups each. */
const recheckedMax = 1_000
/** Members of a room that are looked at for who is here, and those whom an answer names: nobody reads a longer list. */
const membersMax = 1_000
const presentMax = 200

interface Question {
  room: RoomName
  userId: string
  resolve: (admission: Admission) => void
  reject: (error: unknown) => void
}

export function createMembership(options: MembershipOptions): Membership {
  const { transactions, log, nowMs, stateOf, pairs, expel } = options
  const rosters = createRosters(nowMs)
  const questions: Question[] = []
  let asking: Promise<void> | undefined
  /** By room and person. `all`: everybody. */
  let doubts: 'all' | Map<string, Pair> = new Map()
  let rechecking: Promise<void> | undefined
  let checkedAtMs = nowMs()
  let failedAtMs: number | undefined
  let closed = false

  function answerSoon(): void {
    asking ??= answerAll().finally(() => {
      asking = undefined
      if (questions.length > 0) answerSoon()
    })
  }

  async function answerAll(): Promise<void> {
    // What else this turn asks goes along.
    await new Promise((resolve) => setImmediate(resolve))
    while (questions.length > 0) {
      const batch = questions.splice(0, askedMax)
      try {
        const admissions = await answer(batch)
        batch.forEach(({ resolve }, index) => resolve(admissions[index] ?? { ...stranger, present: [] }))
      } catch (error) {
        // Who waits behind them would only learn the same, later.
        for (const { reject } of [...batch, ...questions.splice(0)]) reject(error)
      }
    }
  }

  function answer(batch: readonly Question[]): Promise<Admission[]> {
    return transactions.asSystem('join', async (tx) => {
      const standings = await readStandings(tx, batch)
      const owners = new Map(
        batch.flatMap(({ room: { name } }, index) => {
          const { allowed, ownerId } = standings[index] ?? stranger
          return allowed ? [[name, ownerId] as const] : []
        }),
      )
      const present = await readPresent(tx, owners)
      return batch.map(({ room, userId }, index) => {
        const others = (present.get(room.name) ?? []).filter(({ user_id }) => user_id !== userId)
        return { ...(standings[index] ?? stranger), present: others.slice(0, presentMax) }
      })
    })
  }

  /** Of each of these rooms who is here: one more than an answer names, since it does not name who is answered. */
  async function readPresent(
    tx: Tx,
    owners: ReadonlyMap<string, string | null>,
  ): Promise<Map<string, PresenceOf[]>> {
    const unknown = [...owners.keys().filter((room) => rosters.of(room) === undefined)]
    const before = rosters.changes()
    const read = unknown.length === 0 ? [] : await readMembers(tx, unknown, membersMax)
    const found = new Map(read.map(({ room, userIds }) => [room, userIds]))
    if (rosters.changes() === before) for (const [room, userIds] of found) rosters.keep(room, userIds)
    const here = new Map(
      owners.entries().map(([room, ownerId]) => {
        const members = found.get(room) ?? rosters.of(room) ?? []
        const all = ownerId === null ? members : [ownerId, ...members]
        return [
          room,
          all
            .values()
            .flatMap(hereOf)
            .take(presentMax + 1)
            .toArray(),
        ]
      }),
    )
    const userIds = [...new Set([...here.values()].flatMap((people) => people.map(({ userId }) => userId)))]
    const last = userIds.length === 0 ? [] : await tx.commit(() => readLastSeen(tx, userIds))
    const lastSeen = new Map(last.map(({ userId, lastSeenAt }) => [userId, lastSeenAt]))
    const presenceOf = ({ userId, state }: { userId: string; state: HereState }): PresenceOf => ({
      user_id: userId,
      state,
      last_seen: lastSeen.get(userId) ?? null,
    })
    return new Map(here.entries().map(([room, people]) => [room, people.map(presenceOf)]))
  }

  function hereOf(userId: string): { userId: string; state: HereState }[] {
    const state = stateOf(userId)
    return state === undefined ? [] : [{ userId, state }]
  }

  function recheckSoon(): void {
    rechecking ??= recheckDoubts().finally(() => {
      rechecking = undefined
      if (!closed && hasDoubts() && failedAtMs === undefined) recheckSoon()
    })
  }

  const hasDoubts = () => doubts === 'all' || doubts.size > 0

  async function recheckDoubts(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    const taken = doubts
    doubts = new Map()
    if (taken === 'all') checkedAtMs = nowMs()
    const all = (taken === 'all' ? pairs() : taken.values())[Symbol.iterator]()
    try {
      for (;;) {
        const some = takeFrom(all, recheckedMax)
        if (some.length === 0 || closed) break
        await recheckSome(some)
      }
      failedAtMs = undefined
    } catch (error) {
      if (failedAtMs === undefined && !closed)
        log.warn({ event: 'rooms_unchecked', err: error }, 'members of rooms cannot be checked: tried again')
      failedAtMs = nowMs()
      doubts = 'all'
    }
  }

  async function recheckSome(some: readonly Pair[]): Promise<void> {
    const asked = some.flatMap((pair) => {
      const room = parseRoom(pair.room)
      return room === undefined ? [] : [{ pair, room, userId: pair.userId }]
    })
    if (asked.length === 0) return
    const standings = await transactions.asSystem('rooms', (tx) => tx.commit(() => readStandings(tx, asked)))
    asked.forEach(({ pair, room }, index) => {
      const { allowed, ownerId } = standings[index] ?? stranger
      if (allowed) return
      expel(pair, room.kind === 'conversation' && ownerId === null ? 'deleted' : 'removed')
    })
  }

  return {
    ask: (room, userId) =>
      new Promise((resolve, reject) => {
        questions.push({ room, userId, resolve, reject })
        answerSoon()
      }),
    changed: (room) => rosters.forget(room),
    recheck(some) {
      if (some.length === 0 || closed) return
      if (doubts !== 'all') for (const pair of some) doubts.set(`${pair.room} ${pair.userId}`, pair)
      recheckSoon()
    },
    recheckAll() {
      doubts = 'all'
      if (!closed) recheckSoon()
    },
    tick() {
      if (nowMs() - checkedAtMs >= recheckMs) doubts = 'all'
      const early = failedAtMs !== undefined && nowMs() - failedAtMs < retryMs
      if (!closed && hasDoubts() && !early) recheckSoon()
    },
    async close() {
      closed = true
      await Promise.all([asking, rechecking])
    },
  }
}

const stranger: Standing = { allowed: false, ownerId: null }

/** An iterator's own `take` would close it. */
function takeFrom<T>(iterator: Iterator<T>, max: number): T[] {
  const taken: T[] = []
  while (taken.length < max) {
    const next = iterator.next()
    if (next.done === true) break
    taken.push(next.value)
  }
  return taken
}
