/** A server of the socket that says what a test tells it to, a clock that a test moves, and a client between the two. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { WebSocketServer, WebSocket, type RawData } from 'ws'
import type { Notification } from '../../src/notifications/schemas.ts'
import { createRealtimeClient, type ClientState } from '../../src/playground/client/realtime.ts'
import type { LiveEvent, RealtimeOptions, Ticket } from '../../src/playground/client/realtime.ts'
import { clientFrameSchema, type ClientFrame, type ServerFrame } from '../../src/realtime/protocol.ts'

export interface Script {
  /** Address of a socket here. */
  url: string
  /** The next connection that nobody has taken yet. */
  next(): Promise<Visit>
  /** Connections so far. */
  visits(): number
}

/** A connection, as the server sees it. */
export interface Visit {
  address: URL
  protocol: string
  socket: WebSocket
  say(...frames: (ServerFrame | string)[]): void
  /** The first frame from the client that matches, past or to come. */
  heard(matches: (frame: ClientFrame) => boolean): Promise<ClientFrame>
  frames: ClientFrame[]
  closed: Promise<void>
}

export async function startScript(): Promise<Script> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  onTestFinished(async () => {
    for (const socket of server.clients) socket.terminate()
    await new Promise((resolve) => server.close(resolve))
  })
  const visits: Visit[] = []
  let taken = 0
  const news = createNews()
  server.on('connection', (socket, request) => {
    const address = new URL(request.url ?? '/', 'ws://127.0.0.1')
    visits.push(visit(socket, address))
    news.tell()
  })
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws?ticket=t`,
    async next() {
      const nth = taken++
      return news.until(() => visits[nth])
    },
    visits: () => visits.length,
  }
}

function visit(socket: WebSocket, address: URL): Visit {
  const news = createNews()
  const frames: ClientFrame[] = []
  socket.on('message', (data: RawData) => {
    frames.push(clientFrameSchema.parse(JSON.parse((data as Buffer).toString())))
    news.tell()
  })
  return {
    address,
    protocol: socket.protocol,
    socket,
    frames,
    say(...said) {
      for (const frame of said) socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
    },
    heard: (matches) => news.until(() => frames.find(matches)),
    closed: once(socket, 'close').then(() => undefined),
  }
}

/** Whoever waits looks again each time that something has happened. */
function createNews() {
  const waiting = new Set<() => void>()
  return {
    tell: () => {
      for (const look of [...waiting]) look()
    },
    until<T>(find: () => T | undefined): Promise<T> {
      return new Promise((resolve) => {
        const look = () => {
          const found = find()
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      })
    },
  }
}

export interface Clock {
  timers: NonNullable<RealtimeOptions['timers']>
  /** What is due meanwhile rings, in its order. */
  advance(ms: number): void
  /** What is set, from now: ms. */
  pending(): number[]
}

export function createClock(): Clock {
  let nowMs = 0
  let last = 0
  const set = new Map<unknown, { atMs: number; ring: () => void }>()
  const due = () => [...set].sort(([, a], [, b]) => a.atMs - b.atMs)
  return {
    timers: {
      set(ring, ms) {
        set.set(++last, { atMs: nowMs + ms, ring })
        return last
      },
      clear: (timer) => void set.delete(timer),
    },
    advance(ms) {
      const endMs = nowMs + ms
      for (let [next] = due(); next !== undefined && next[1].atMs <= endMs; [next] = due()) {
        const [timer, { atMs, ring }] = next
        nowMs = Math.max(nowMs, atMs)
        set.delete(timer)
        ring()
      }
      nowMs = endMs
    },
    pending: () => due().map(([, { atMs }]) => atMs - nowMs),
  }
}

export interface Trial {
  client: ReturnType<typeof createRealtimeClient>
  clock: Clock
  script: Script
  applied: { seq: number | null; title: string; replayed: boolean }[]
  volatile: LiveEvent[]
  states: ClientState[]
  unread: number[]
  /** Everything that was kept, in its order. */
  kept: (string | null)[]
  /** How often the list had to be read, and why. */
  reloads: string[]
  failures: unknown[]
  /** Whether each ticket was asked for with a renewed token. */
  tickets: boolean[]
  network: { online: boolean; change(online: boolean): void }
  /** Looks again after each callback. */
  until<T>(find: () => T | undefined): Promise<T>
  /** The next time that it is in this state, or if it is now. */
  state<Kind extends ClientState['kind']>(kind: Kind): Promise<Extract<ClientState, { kind: Kind }>>
}

export interface TrialOptions {
  script?: Script
  stored?: string | null
  random?: () => number
  apply?: (notification: Notification) => void
  reload?: () => Promise<void>
  ticket?: () => Promise<Ticket>
  save?: (cursor: string | null) => void
  WebSocket?: RealtimeOptions['WebSocket']
}

/** A client that has been started, with everything that it reported. */
export async function startTrial(options: TrialOptions = {}): Promise<Trial> {
  const script = options.script ?? (await startScript())
  const clock = createClock()
  const news = createNews()
  const watchers = new Set<() => void>()
  const noted = <T>(list: T[], entry: T): void => {
    list.push(entry)
    news.tell()
  }
  let stored = options.stored ?? null
  const client = createRealtimeClient({
    async ticket({ renew }) {
      noted(trial.tickets, renew)
      return options.ticket === undefined ? { url: script.url } : options.ticket()
    },
    WebSocket: options.WebSocket ?? WebSocket,
    storage: {
      load: () => stored,
      save(cursor) {
        options.save?.(cursor)
        stored = cursor
        noted(trial.kept, cursor)
      },
    },
    apply(notification, { replayed }) {
      options.apply?.(notification)
      noted(trial.applied, { seq: notification.seq, title: notification.title, replayed })
    },
    async reload(mode) {
      noted(trial.reloads, mode)
      await options.reload?.()
    },
    volatile: (event) => noted(trial.volatile, event),
    unread: (count) => noted(trial.unread, count),
    changed: (state) => noted(trial.states, state),
    failed: (error) => noted(trial.failures, error),
    network: {
      online: () => trial.network.online,
      watch(changed) {
        watchers.add(changed)
        return () => watchers.delete(changed)
      },
    },
    timers: clock.timers,
    random: options.random ?? (() => 1),
  })
  const trial: Trial = {
    client,
    clock,
    script,
    applied: [],
    volatile: [],
    states: [],
    unread: [],
    kept: [],
    reloads: [],
    failures: [],
    tickets: [],
    network: {
      online: true,
      change(online) {
        trial.network.online = online
        for (const changed of watchers) changed()
      },
    },
    until: (find) => news.until(find),
    state: (kind) =>
      news.until(() => {
        const state = client.state()
        return state.kind === kind ? (state as Extract<ClientState, { kind: typeof kind }>) : undefined
      }),
  }
  onTestFinished(() => client.stop())
  client.start()
  return trial
}

const heartbeatS = 25

export const hello = (
  mode: 'resume' | 'fresh' | 'reset',
  { epoch = 'k1', head = 10, unread = 0 } = {},
): ServerFrame => ({ op: 'hello', v: 1, epoch, head, unread, heartbeat: heartbeatS, mode })

/** A stored event. */
export const row = (
  seq: number,
  prev: number,
  { id = `0193c1a4-52b7-7e0a-8d3c-${String(seq).padStart(12, '0')}`, unread = 1 } = {},
): ServerFrame => {
  const data = notificationOf(id, seq)
  return { op: 'event', seq, prev, id, type: data.type, time: data.updated_at, unread, data }
}

export const notificationOf = (id: string, seq: number, also: Partial<Notification> = {}): Notification => ({
  id,
  seq,
  type: 'system',
  priority: 'medium',
  template: null,
  title: `as of ${seq}`,
  body: '',
  icon: null,
  color: null,
  action: null,
  data: {},
  progress: null,
  status: 'sent',
  created_at: '2026-03-01T09:00:00.000Z',
  updated_at: '2026-03-01T09:00:00.000Z',
  scheduled_at: null,
  expires_at: '2026-03-31T09:00:00.000Z',
  delivered_at: null,
  read_at: null,
  archived_at: null,
  removed: false,
  ...also,
})
