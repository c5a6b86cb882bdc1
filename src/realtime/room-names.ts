/**
 * The names of rooms. `user:<id>`: a person's own devices, there without joining. `conversation:<id>`: its owner and the
 * members that a service gave it. Any other `<kind>:<name>`: a service's, its members alone.
 */
import { roomSchema } from './protocol.ts'

export interface RoomName {
  /** As rooms are compared: a conversation's id in PostgreSQL's spelling. */
  name: string
  kind: 'user' | 'conversation' | 'other'
  /** What stands behind the kind. */
  of: string
}

/** @returns undefined for what no room can be called, a conversation whose id is none among it. */
export function parseRoom(text: string): RoomName | undefined {
  if (!roomSchema.safeParse(text).success) return undefined
  const at = text.indexOf(':')
  const kind = text.slice(0, at)
  const of = text.slice(at + 1)
  if (kind === 'user') return { name: text, kind, of }
  if (kind !== 'conversation') return { name: text, kind: 'other', of }
  const id = of.toLowerCase()
  return uuid.test(id) ? { name: `conversation:${id}`, kind, of: id } : undefined
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
