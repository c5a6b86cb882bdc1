/**
 * Volatile events: to people, to rooms, or to everybody, on all instances. Nothing of them is stored.
 *
 * The frame is printed once on each instance. What is too large for one message of the bus goes with several.
 */
import { z } from 'zod'
import type { Bus } from '../bus/bus.ts'
import { notificationTypes } from '../notifications/kinds.ts'
import type { Audience } from './audience.ts'
import { inParts } from './parts.ts'
import { parseRoom } from './room-names.ts'
import { printEvent, type Teller } from './teller.ts'

/** Exactly one of them. In a room's frame stands the room's name, in the others none. */
export type EmitTarget = { users: readonly string[] } | { rooms: readonly string[] } | { all: true }

export type Emit = (
  target: EmitTarget,
  type: string,
  data: Record<string, unknown>,
  /** An event that has not left for other instances yet is replaced by a newer one of the same key. */
  key?: string,
) => number

/** What only the server itself says. */
const reserved: ReadonlySet<string> = new Set([
  ...notificationTypes,
  'typing',
  'presence',
  'left',
  'conversation.updated',
])

export const emitTypeSchema = z
  .string()
  .regex(/^[a-z][a-z0-9_.-]{0,63}$/, 'must be a short name in small letters, such as "dashboard.updated"')
  .refine((type) => !reserved.has(type), 'is one that only the server itself sends')

const topic = 'emit'

const names = z.array(z.string()).optional()
const messageSchema = z.object({
  type: z.string().max(64),
  data: z.record(z.string(), z.unknown()),
  users: names,
  rooms: names,
})

export interface EmitOptions {
  bus: Bus | undefined
  audience: Audience
  teller: Teller
  /** There is nobody else to be told. */
  alone: () => boolean
}

/** @returns emit: its result is how many sockets of this instance are being told. */
export function createEmit({ bus, audience, teller, alone }: EmitOptions): { emit: Emit; close(): void } {
  const unsubscribe = bus?.subscribe(topic, (message) => {
    const parsed = messageSchema.safeParse(message)
    if (!parsed.success) return
    const { type, data, users, rooms } = parsed.data
    if (users !== undefined) tellHere({ users }, type, data)
    else if (rooms !== undefined) tellHere({ rooms }, type, data)
    else tellHere({ all: true }, type, data)
  })

  function tellHere(target: EmitTarget, type: string, data: Record<string, unknown>): number {
    if ('rooms' in target) {
      let told = 0
      for (const name of new Set(target.rooms)) told += tellRoom(name, type, data)
      return told
    }
    if ('all' in target) {
      teller.tell(printEvent(type, undefined, data), audience.all())
      return audience.socketsCount()
    }
    const peers = [...new Set(target.users)].flatMap((userId) => audience.of(userId))
    if (peers.length > 0) teller.tell(printEvent(type, undefined, data), peers)
    return peers.length
  }

  function tellRoom(text: string, type: string, data: Record<string, unknown>): number {
    const room = parseRoom(text)
    if (room === undefined) return 0
    if (room.kind === 'user') {
      const peers = audience.of(room.of)
      if (peers.length > 0) teller.tell(printEvent(type, room.name, data), peers)
      return peers.length
    }
    const here = audience.room(room.name)
    if (here === undefined) return 0
    teller.tell(printEvent(type, room.name, data), here.peers)
    return here.peers.size
  }

  function tellOthers(
    target: EmitTarget,
    type: string,
    data: Record<string, unknown>,
    key: string | undefined,
  ): void {
    if ('all' in target) return bus?.publish(topic, { type, data }, key)
    const [kind, list] =
      'users' in target ? (['users', target.users] as const) : (['rooms', target.rooms] as const)
    for (const [index, part] of inParts(new Set(list), (name) => name).entries())
      bus?.publish(topic, { type, data, [kind]: part }, key === undefined ? undefined : `${key} ${index}`)
  }

  return {
    emit(target, type, data, key) {
      if (!alone()) tellOthers(target, type, data, key)
      return tellHere(target, type, data)
    },
    close: () => unsubscribe?.(),
  }
}
