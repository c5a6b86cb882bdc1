/**
 * One device of the page: a client of the socket, and what it has seen. No DOM here: a page draws it, a test asks it.
 */
import type { Notification } from '../notifications/schemas.ts'
import type { ClientFrame, ServerFrame } from '../realtime/protocol.ts'
import type { Answer, ClientState, LiveEvent, RealtimeOptions } from './client/realtime.ts'
import { createRealtimeClient } from './client/realtime.ts'
import { createRows } from './client/rows.ts'
import { createTicketSource, type TicketOptions } from './client/ticket.ts'

export interface FrameEntry {
  /** Counts up. */
  nth: number
  atMs: number
  direction: 'in' | 'out'
  op: string
  /** `durable`: stored, will come again; `volatile`: may be lost; `protocol`: neither is of the inbox. */
  kind: 'durable' | 'volatile' | 'protocol'
  /** It came behind a cursor, before `live`. */
  replayed: boolean
  /** What it says, in a few words. */
  gist: string
  frame: object
}

export interface Device {
  state(): ClientState
  cursor(): string | null
  /** As the last hello said; undefined before one. */
  mode(): string | undefined
  unread(): number
  inbox(): Notification[]
  /** The newest first. */
  frames(): readonly FrameEntry[]
  /** Who is typing in rooms, and who is there. */
  typists(): string[]
  present(): { userId: string; state: string }[]
  /** Rows applied, and events that came in a replay, since it was connected first. */
  counts(): { applied: number; replayed: number; connections: number }
  offline(): boolean
  connect(): void
  disconnect(): void
  drop(): void
  setOnline(online: boolean): void
  /** Somebody else uses it now: nothing is known. It is disconnected. */
  forget(): void
  /** As if another cursor had been stored: null for none. */
  comeBackWith(cursor: string | null): void
  markRead(ids: readonly string[]): Promise<Answer>
  markAllRead(): Promise<Answer>
  archive(id: string): Promise<void>
  /** Rooms that it is in, or will be again. */
  rooms(): readonly string[]
  join(room: string): Promise<Answer>
  leave(room: string): Promise<Answer>
  typing(room: string, typing: boolean): Promise<Answer>
  clearFrames(): void
}

export interface DeviceOptions
  extends TicketOptions, Pick<RealtimeOptions, 'WebSocket' | 'timers' | 'random'> {
  /** Something is to be drawn. */
  changed: () => void
  nowMs?: () => number
}

/** Frames that are shown: older ones go. */
const framesMax = 200
/** Rows that a list is read with. */
const listRows = 50
/** Typing that is not said again is over, ms: the server says so a little earlier. */
const typingMs = 8_000

export function createDevice(options: DeviceOptions): Device {
  const { api, fetch, changed, nowMs = Date.now } = options
  const rows = createRows()
  const typists = new Map<string, number>()
  const present = new Map<string, string>()
  const rooms = new Set<string>()
  let frames: FrameEntry[] = []
  let lastNth = 0
  let stored: string | null = null
  let online = true
  let onlineChanged = () => {}
  let mode: string | undefined
  let unread = 0
  const counts = { applied: 0, replayed: 0, connections: 0 }

  const client = createRealtimeClient({
    ...options,
    ticket: createTicketSource(options),
    // With the list, and no longer: a page that is loaded anew has nothing, and says so.
    storage: { load: () => stored, save: (cursor) => void (stored = cursor) },
    apply(notification, { replayed }) {
      rows.put(notification)
      counts.applied++
      if (replayed) counts.replayed++
      changed()
    },
    async reload() {
      rows.clear()
      const answer = await client.ask({ op: 'list', limit: listRows })
      if (answer.op === 'error') throw new Error(answer.message)
      for (const row of (answer as Listed).notifications ?? []) rows.put(row)
      changed()
    },
    volatile: hear,
    unread(count) {
      unread = count
      changed()
    },
    changed(state) {
      if (state.kind === 'replaying') {
        mode = state.mode
        counts.connections++
      } else if (state.kind !== 'live') {
        typists.clear()
        present.clear()
      }
      changed()
    },
    frame(frame, direction) {
      const { op } = frame
      const kind = op !== 'event' ? 'protocol' : frame.seq === undefined ? 'volatile' : 'durable'
      const state = client.state()
      const replayed = kind === 'durable' && state.kind === 'replaying' && state.mode === 'resume'
      const entry: FrameEntry = {
        nth: ++lastNth,
        atMs: nowMs(),
        direction,
        op,
        kind,
        replayed,
        gist: gistOf(frame),
        frame,
      }
      frames = [entry, ...frames].slice(0, framesMax)
      changed()
    },
    network: {
      online: () => online,
      watch(listener) {
        onlineChanged = listener
        return () => (onlineChanged = () => {})
      },
    },
  })

  function hear({ type, data }: LiveEvent): void {
    const userId = 'user_id' in data ? String(data.user_id) : undefined
    if (userId === undefined) return
    if (type === 'typing') {
      if ('typing' in data && data.typing === true) typists.set(userId, nowMs() + typingMs)
      else typists.delete(userId)
    } else if (type === 'presence' && 'state' in data) present.set(userId, String(data.state))
    changed()
  }

  return {
    state: () => client.state(),
    cursor: () => client.cursor(),
    mode: () => mode,
    unread: () => unread,
    inbox: () => rows.shown(),
    frames: () => frames,
    typists: () => [...typists].filter(([, untilMs]) => nowMs() < untilMs).map(([userId]) => userId),
    present: () => [...present].map(([userId, state]) => ({ userId, state })),
    counts: () => ({ ...counts }),
    offline: () => !online,
    connect: () => client.start(),
    disconnect: () => client.stop(),
    drop: () => client.drop(),
    setOnline(now) {
      online = now
      onlineChanged()
      changed()
    },
    forget() {
      for (const room of rooms) void client.leave(room)
      rooms.clear()
      client.stop()
      stored = null
      rows.clear()
      frames = []
      unread = 0
      mode = undefined
      Object.assign(counts, { applied: 0, replayed: 0, connections: 0 })
      changed()
    },
    comeBackWith(cursor) {
      client.stop()
      stored = cursor
      client.start()
    },
    markRead: (ids) => client.ask({ op: 'read', ids: [...ids] }),
    markAllRead: () => client.ask({ op: 'read', up_to: Number(client.cursor()?.split('.')[1] ?? 0) }),
    async archive(id) {
      const token = await options.token({ renew: false })
      // Its row comes back over the socket, like every change.
      await fetch(`${api}/notifications/${id}/archive`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: '{}',
      })
    },
    rooms: () => [...rooms],
    async join(room) {
      const answer = await client.join(room)
      if (answer.op === 'ok') {
        rooms.add(room)
        for (const { user_id, state } of (answer as Joined).present ?? []) present.set(user_id, state)
      }
      changed()
      return answer
    },
    async leave(room) {
      rooms.delete(room)
      typists.clear()
      present.clear()
      changed()
      return client.leave(room)
    },
    typing: (room, typing) => client.ask({ op: 'typing', room, typing }),
    clearFrames() {
      frames = []
      changed()
    },
  }
}

/** What `ok` says beside itself. */
interface Joined {
  present?: { user_id: string; state: string }[]
}
interface Listed {
  notifications?: Notification[]
}

/** A frame in a few words. */
function gistOf(frame: ServerFrame | ClientFrame): string {
  switch (frame.op) {
    case 'hello':
      return `${frame.mode}, head ${frame.head}, unread ${frame.unread}`
    case 'event':
      return frame.seq === undefined ? volatileGist(frame) : `#${frame.seq} ${titleOf(frame.data)}`
    case 'heartbeat':
      return `head ${frame.head}`
    case 'error':
      return `${frame.code}: ${frame.message}`
    case 'live':
    case 'ack':
      return `#${frame.seq}`
    case 'sync':
      return `from #${frame.seq ?? ''}`
    case 'read':
      return frame.ids === undefined ? `up to #${frame.up_to ?? ''}` : `${frame.ids.length} by id`
    case 'join':
    case 'leave':
      return frame.room
    case 'typing':
      return `${frame.typing ? 'begins' : 'ends'} in ${frame.room}`
    case 'presence':
      return frame.state
    case 'ok':
    case 'list':
    case 'ping':
      return ''
  }
}

const volatileGist = ({ type, room, data }: LiveEvent) =>
  [type, room, 'user_id' in data && typeof data.user_id === 'string' ? data.user_id : undefined]
    .filter((part) => part !== undefined)
    .join(', ')

const titleOf = (data: LiveEvent['data']) => (typeof data.title === 'string' ? data.title : '')
