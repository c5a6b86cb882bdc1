/**
 * What instances tell each other of who is here.
 *
 * Each says what changes as it changes, and everything every `sayAllMs`, in as many messages as that takes; the last of
 * them replaces what was known of it. An instance that has not been heard of for `silentMs` is gone, and its people with
 * it: it may have been killed. While this instance hears nobody, nobody's silence counts.
 */
import { z } from 'zod'
import type { Bus } from '../bus/bus.ts'
import { inParts } from './parts.ts'
import { presenceStates } from './protocol.ts'

export type HereState = (typeof presenceStates)[number]

export interface Other {
  id: string
  sockets: number
  users: ReadonlyMap<string, HereState>
}

export interface Gossip {
  /** What changed of who is here. */
  tell(changes: ReadonlyMap<string, HereState | 'gone'>): void
  readonly others: () => Iterable<Other>
  /** There is no other, as far as this one hears. */
  readonly alone: () => boolean
  /** Says everything, when it is due, and forgets who is silent. */
  tick(): void
  /** Says goodbye. */
  close(): void
}

export interface GossipOptions {
  bus: Bus | undefined
  nowMs: () => number
  /** Everybody who is here. */
  here: () => Iterable<[userId: string, state: HereState]>
  sockets: () => number
  /** What is known of them from elsewhere may have changed. `long`: and had for so long that nobody needs to wait. */
  changed: (userIds: Iterable<string>, long: boolean) => void
}

const sayAllMs = 30_000
/** Two messages with everything may be lost, and the third late. */
export const silentMs = 75_000
/** Others have answered by then, ms: they look several times a second. */
const answeredMs = 2_000
/** Instances that are known at once. Whoever may use the bus can make them up. */
const othersMax = 100
/** People of one instance: more than it has sockets. */
const usersMax = 50_000

const ids = z.array(z.string().min(1).max(1_020)).max(usersMax)
const messageSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('ask') }),
  z.object({ kind: z.literal('bye') }),
  z.object({ kind: z.literal('some'), sockets: z.int().min(0), online: ids, away: ids, gone: ids }),
  z.object({
    kind: z.literal('all'),
    sockets: z.int().min(0),
    part: z.int().min(1),
    parts: z.int().min(1),
    online: ids,
    away: ids,
  }),
])
type Message = z.output<typeof messageSchema>

interface Known extends Other {
  users: Map<string, HereState>
  heardAtMs: number
  /** Everything, as far as it has come. */
  coming: { parts: number; users: Map<string, HereState> } | undefined
}

const topic = 'presence'

export function createGossip({ bus, nowMs, here, sockets, changed }: GossipOptions): Gossip {
  const others = new Map<string, Known>()
  let saidAllAtMs = nowMs()
  let sayAllNow = true
  /** Since then this instance has heard whoever spoke. */
  let hearingSinceMs = nowMs()

  const unsubscribe = [
    bus?.subscribe(topic, (message, instance) => {
      const parsed = messageSchema.safeParse(message)
      if (parsed.success) hear(parsed.data, instance)
    }),
    bus?.onGap(() => {
      hearingSinceMs = nowMs()
      sayAllNow = true
      ask()
    }),
  ]

  // Where the bus is up already, nobody says that listening begins.
  const ask = () => bus?.publish(topic, { kind: 'ask' }, 'ask')
  ask()

  function hear(message: Message, instance: string): void {
    if (message.kind === 'bye') {
      forget(instance, false)
      return
    }
    if (!others.has(instance) && others.size >= othersMax) return
    const other: Known = others.get(instance) ?? {
      id: instance,
      sockets: 0,
      users: new Map(),
      heardAtMs: 0,
      coming: undefined,
    }
    others.set(instance, other)
    other.heardAtMs = nowMs()
    switch (message.kind) {
      case 'ask':
        sayAllNow = true
        break
      case 'some':
        other.sockets = message.sockets
        for (const [userId, state] of statesOf(message))
          if (other.users.size < usersMax) other.users.set(userId, state)
        for (const userId of message.gone) other.users.delete(userId)
        changed([...message.online, ...message.away, ...message.gone], false)
        break
      case 'all':
        other.sockets = message.sockets
        hearAll(other, message)
        break
      default:
        message satisfies never
    }
  }

  /** Parts come one behind the other, or not at all. */
  function hearAll(other: Known, message: Extract<Message, { kind: 'all' }>): void {
    const { part, parts } = message
    if (part === 1) other.coming = { parts: 0, users: new Map() }
    const { coming } = other
    if (coming === undefined) return
    coming.parts++
    if (coming.parts !== part || coming.users.size > usersMax) {
      other.coming = undefined
      return
    }
    for (const [userId, state] of statesOf(message)) coming.users.set(userId, state)
    if (part < parts) return
    const before = other.users
    other.users = coming.users
    other.coming = undefined
    const differs = [...coming.users.keys()].filter(
      (userId) => coming.users.get(userId) !== before.get(userId),
    )
    changed([...differs, ...before.keys().filter((userId) => !coming.users.has(userId))], false)
  }

  function forget(instance: string, long: boolean): void {
    const other = others.get(instance)
    others.delete(instance)
    if (other !== undefined) changed(other.users.keys(), long)
  }

  function sayAll(): void {
    sayAllNow = false
    saidAllAtMs = nowMs()
    const parts = pack(here())
    for (const [index, { online, away }] of parts.entries()) {
      const message = { kind: 'all', sockets: sockets(), part: index + 1, parts: parts.length, online, away }
      bus?.publish(topic, message, `all ${index}`)
    }
  }

  return {
    tell(changes) {
      for (const said of pack(changes)) bus?.publish(topic, { kind: 'some', sockets: sockets(), ...said })
    },
    others: () => others.values(),
    alone: () =>
      bus === undefined ||
      (others.size === 0 && bus.state() === 'up' && nowMs() - hearingSinceMs >= answeredMs),
    tick() {
      if (bus === undefined) return
      const now = nowMs()
      if (sayAllNow || now - saidAllAtMs >= sayAllMs) sayAll()
      if (bus.state() === 'away') hearingSinceMs = now
      for (const { id, heardAtMs } of others.values())
        if (now - Math.max(heardAtMs, hearingSinceMs) >= silentMs) forget(id, true)
    },
    close() {
      bus?.publish(topic, { kind: 'bye' })
      for (const leave of unsubscribe) leave?.()
    },
  }
}

function* statesOf(message: Pick<Said, HereState>): Iterable<[string, HereState]> {
  for (const state of presenceStates) for (const userId of message[state]) yield [userId, state]
}

type Said = Record<HereState | 'gone', string[]>

/** As many as the bus's limit wants, one at least. */
function pack(states: Iterable<[userId: string, state: keyof Said]>): Said[] {
  return inParts(states, ([userId]) => userId).map((part) => {
    const said: Said = { online: [], away: [], gone: [] }
    for (const [userId, state] of part) said[state].push(userId)
    return said
  })
}
