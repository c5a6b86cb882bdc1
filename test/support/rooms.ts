/** Instances of the rooms' machine over a real database and a real bus, with sockets that keep what they are told. */
import { randomUUID } from 'node:crypto'
import { onTestFinished } from 'vitest'
import { pino } from 'pino'
import type { Bus } from '../../src/bus/bus.ts'
import { sql } from '../../src/db/sql.ts'
import type { Transactions } from '../../src/db/database.ts'
import type { Peer } from '../../src/realtime/peer.ts'
import { createRooms, type InstanceRooms } from '../../src/realtime/rooms.ts'

export interface RoomFrame {
  op: string
  type: string
  room?: string
  data: Record<string, unknown>
}

export interface TestPeer extends Peer {
  frames: RoomFrame[]
  /** Why it was closed. */
  reasons: string[]
  /** Resolves with the first frame that matches, past or to come. */
  until(matches: (frame: RoomFrame) => boolean): Promise<RoomFrame>
}

export interface Instance {
  rooms: InstanceRooms
  instanceId: string
  /** A socket of this person, which has entered. */
  open: (userId: string) => TestPeer
  /** What it logged, one parsed line each. */
  logs: Record<string, unknown>[]
}

/** A clock that stands until it is moved, shared by whoever is given it. */
export function createClock(): { nowMs: () => number; advance: (ms: number) => void } {
  let now = 1_000_000
  return {
    nowMs: () => now,
    advance(ms) {
      now += ms
    },
  }
}

export function startInstance(options: {
  transactions: Transactions
  bus?: Bus
  instanceId?: string
  nowMs?: () => number
  tickMs?: number
}): Instance {
  const { transactions, bus, instanceId = randomUUID(), nowMs, tickMs = 5 } = options
  const logs: Instance['logs'] = []
  const write = (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>)
  const rooms = createRooms({
    bus,
    transactions,
    log: pino({ level: 'trace' }, { write }),
    instanceId,
    tickMs,
    ...(nowMs !== undefined && { nowMs }),
  })
  onTestFinished(() => rooms.close())
  return {
    rooms,
    instanceId,
    logs,
    open(userId) {
      const peer = createPeer(userId)
      rooms.enter(peer)
      return peer
    },
  }
}

export function createPeer(userId: string): TestPeer {
  const waiting: { matches: (frame: RoomFrame) => boolean; resolve: (frame: RoomFrame) => void }[] = []
  const frames: RoomFrame[] = []
  const reasons: string[] = []
  return {
    id: randomUUID(),
    userId,
    frames,
    reasons,
    tell(bytes) {
      const frame = JSON.parse(bytes.toString()) as RoomFrame
      frames.push(frame)
      for (const waiter of waiting.filter(({ matches }) => matches(frame))) {
        waiting.splice(waiting.indexOf(waiter), 1)
        waiter.resolve(frame)
      }
    },
    close: (reason) => void reasons.push(reason),
    until(matches) {
      const seen = frames.find(matches)
      if (seen !== undefined) return Promise.resolve(seen)
      return new Promise((resolve) => waiting.push({ matches, resolve }))
    },
  }
}

export const isType = (type: string) => (frame: RoomFrame) => frame.type === type

/** Of this person, in this state. */
export const isPresence = (userId: string, state: string) => (frame: RoomFrame) =>
  frame.type === 'presence' && frame.data['user_id'] === userId && frame.data['state'] === state

export const someone = (name = 'user'): string => `${name}-${randomUUID()}`
export const someRoom = (): string => `team:${randomUUID()}`

export async function addMembers(
  transactions: Transactions,
  room: string,
  ...users: string[]
): Promise<void> {
  await transactions.asSystem('test', (tx) =>
    tx.execute(sql`
      insert into chat.room_members (room, user_id) select ${room}, u from unnest(${users}::text[]) as u`),
  )
}

export async function removeMembers(
  transactions: Transactions,
  room: string,
  ...users: string[]
): Promise<void> {
  await transactions.asSystem('test', (tx) =>
    tx.execute(sql`delete from chat.room_members where room = ${room} and user_id = any(${users}::text[])`),
  )
}

/** @returns its room. */
export async function makeConversation(transactions: Transactions, owner: string): Promise<string> {
  const id = randomUUID()
  await transactions.asSystem('test', (tx) =>
    tx.execute(sql`
      insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
      values (${id}, ${owner}, 't', 'user', 'general', '{}', '{}')`),
  )
  return `conversation:${id}`
}

export async function deleteConversation(transactions: Transactions, room: string): Promise<void> {
  await transactions.asSystem('test', (tx) =>
    tx.execute(
      sql`update chat.conversations set status = 'deleted' where id = ${room.slice('conversation:'.length)}`,
    ),
  )
}
