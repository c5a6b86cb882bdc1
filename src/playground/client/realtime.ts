/**
 * Door of playground: a client of the socket (`rivulet.v1`) that misses nothing, for browsers and Node.
 *
 *     const client = createRealtimeClient({
 *       ticket: createTicketSource({ api, token: () => token, fetch: (url, init) => fetch(url, init) }),
 *       WebSocket,
 *       storage: { load: () => list.cursor, save: (cursor) => (list.cursor = cursor) },
 *       apply: (notification) => rows.put(notification),
 *       async reload() {
 *         rows.clear()
 *         for (const row of await readList()) rows.put(row)
 *       },
 *     })
 *     client.start()
 *
 * Its states: stopped → connecting → replaying → live; whatever cuts it: waiting → connecting; offline while there is no
 * network; stopped for good by a final close code, a refused ticket, or `stop`. Promises: `apply` gets the last version
 * of everything that changed behind the stored cursor, in the log's order; the cursor is stored after it, never before.
 *
 * Of packages and of the server nothing is imported but types, and all types can be erased: a browser takes these files
 * as they are, with the types stripped.
 */
import type { Notification } from '../../notifications/schemas.ts'
import type { ClientFrame, ServerFrame } from '../../realtime/protocol.ts'
import type { Answer, Ask, ClientState, FrameOf, LiveEvent, Mode } from './contract.ts'
import type { RealtimeClient, RealtimeOptions } from './contract.ts'
import { createAlarms, createLine } from './line.ts'

export type * from './contract.ts'

/** Of silence beyond the server's heartbeat, before the connection is taken for dead. */
const silenceGraceMs = 10_000
/** Acknowledgements are cumulative: one in this time says enough. */
const ackEveryMs = 1_000
/** Between two rooms that are joined again: the server takes 20 messages a second. */
const rejoinEveryMs = 75
/** Questions without an answer yet. */
const askedMax = 64

export function createRealtimeClient(options: RealtimeOptions): RealtimeClient {
  const alarms = createAlarms(options.timers)
  let state: ClientState = { kind: 'stopped', why: 'not started' }
  let cursor: { epoch: string; seq: number } | undefined
  /** The list is being read: until it is there, the cursor means nothing and is not stored. */
  let loading: object | undefined
  /** Since a gap was found: the question, and whether it has been heard. */
  let sync: { rid: number; heard: boolean } | undefined
  /** Where this connection's last gap was. */
  let gapAt: number | undefined
  let silenceMs = 0
  let lastRid = 0
  const asked = new Map<number, (answer: Answer) => void>()
  const rooms = new Set<string>()

  const line = createLine({
    ...options,
    alarms,
    random: options.random ?? Math.random,
    cursor: printed,
    receive,
    left() {
      sync = undefined
      gapAt = undefined
      alarms.clear('ack')
      alarms.clear('rejoin')
      for (const resolve of asked.values()) resolve(notConnected)
      asked.clear()
    },
    changed(next) {
      // The list did not come before the connection went: without a cursor it is asked for again.
      if (next.kind === 'connecting' && loading !== undefined) loading = cursor = undefined
      become(next)
    },
  })

  function become(next: ClientState): void {
    state = next
    options.changed?.(next)
  }

  const connected = () => state.kind === 'replaying' || state.kind === 'live'

  function receive(text: string): void {
    const frame = parse(text)
    if (frame === undefined) return
    options.frame?.(frame, 'in')
    if (frame.op === 'hello') begin(frame)
    else if (frame.op === 'event') {
      if (frame.seq === undefined) options.volatile?.(frame)
      else take(frame, frame.seq)
    } else if (frame.op === 'live') goLive(frame.seq)
    else if (frame.op === 'heartbeat') {
      if (state.kind === 'live' && cursor !== undefined && frame.head > cursor.seq) miss(cursor.seq)
      acknowledge()
    } else if (isAnswer(frame)) settle(frame)
    if (connected()) line.expect(silenceMs)
  }

  function begin({ epoch, head, unread, heartbeat, mode }: FrameOf<'hello'>): void {
    silenceMs = heartbeat * 1_000 + silenceGraceMs
    become({ kind: 'replaying', mode })
    options.unread?.(unread)
    if (mode !== 'resume' || cursor === undefined) {
      cursor = { epoch, seq: head }
      load(mode)
    }
    rejoin([...rooms])
  }

  function load(mode: Mode): void {
    const mine = {}
    loading = mine
    keep(null)
    // What it throws at once is a rejection too.
    const loaded = (async () => options.reload(mode))()
    loaded.then(
      () => {
        if (loading !== mine) return
        loading = undefined
        store()
      },
      (error: unknown) => {
        options.failed?.(error)
        if (loading === mine && line.current() !== undefined) line.cut('the list could not be read')
      },
    )
  }

  function take(event: LiveEvent, seq: number): void {
    if (cursor === undefined || seq <= cursor.seq) return
    if (state.kind === 'live' && (event.prev ?? 0) > cursor.seq) {
      miss(cursor.seq)
      return
    }
    try {
      // An event with a seq carries a notification: the protocol says so, and a browser has no schema to ask.
      options.apply(event.data as Notification, { replayed: state.kind === 'replaying' })
    } catch (error) {
      options.failed?.(error)
      line.cut('an event could not be applied')
      return
    }
    cursor.seq = seq
    if (event.unread !== undefined) options.unread?.(event.unread)
    store()
  }

  function goLive(seq: number): void {
    // Said before our question was heard: what is missing has not come yet.
    if (cursor === undefined || sync?.heard === false) return
    sync = undefined
    cursor.seq = Math.max(cursor.seq, seq)
    store()
    if (state.kind === 'live') return
    become({ kind: 'live' })
    line.works()
  }

  /** There is something behind `from` that did not come. It is asked for, and comes before the next `live`. */
  function miss(from: number): void {
    if (sync !== undefined) return
    if (gapAt === from) {
      line.cut('a gap that stays')
      return
    }
    gapAt = from
    sync = { rid: ++lastRid, heard: false }
    send({ op: 'sync', seq: from, rid: sync.rid })
  }

  function printed(): string | null {
    return cursor === undefined ? null : `${cursor.epoch}.${cursor.seq}`
  }

  function store(): void {
    if (loading !== undefined) return
    keep(printed())
    if (connected() && !alarms.isSet('ack')) alarms.set('ack', ackEveryMs, acknowledge)
  }

  /** Where it cannot be kept, more than needed comes again the next time. */
  function keep(text: string | null): void {
    try {
      options.storage.save(text)
    } catch (error) {
      options.failed?.(error)
    }
  }

  /** Of what is stored. While the list is being read that is nothing: the frame only shows that we live. */
  function acknowledge(): void {
    alarms.clear('ack')
    send({ op: 'ack', seq: loading === undefined ? (cursor?.seq ?? 0) : 0 })
  }

  function send(frame: ClientFrame): void {
    if (!connected()) return
    options.frame?.(frame, 'out')
    line.send(JSON.stringify(frame))
  }

  function settle(answer: Answer): void {
    if (typeof answer.rid !== 'number') return
    if (answer.rid === sync?.rid) {
      if (answer.op === 'ok') sync.heard = true
      else line.cut('no sync')
      return
    }
    asked.get(answer.rid)?.(answer)
    asked.delete(answer.rid)
  }

  function ask(frame: Ask): Promise<Answer> {
    if (!connected() || asked.size >= askedMax) return Promise.resolve(notConnected)
    const rid = ++lastRid
    return new Promise((resolve) => {
      asked.set(rid, resolve)
      send({ ...frame, rid })
    })
  }

  async function join(room: string): Promise<Answer> {
    const answer = await ask({ op: 'join', room })
    // Anything else passes: the next connection joins again.
    if (answer.op === 'error' && refusals.has(answer.code)) rooms.delete(room)
    return answer
  }

  function rejoin([room, ...others]: readonly string[]): void {
    if (room === undefined) return
    if (rooms.has(room)) void join(room)
    alarms.set('rejoin', rejoinEveryMs, () => rejoin(others))
  }

  return {
    start() {
      if (state.kind !== 'stopped') return
      cursor = parseCursor(options.storage.load())
      line.start()
    },
    stop: () => line.halt('by its user'),
    drop() {
      if (line.current() !== undefined) line.cut('dropped')
    },
    state: () => state,
    cursor: printed,
    ask,
    join(room) {
      rooms.add(room)
      return join(room)
    },
    leave(room) {
      rooms.delete(room)
      return ask({ op: 'leave', room })
    },
  }
}

/** Of a room: it is not for us. */
const refusals: ReadonlySet<string> = new Set(['forbidden', 'invalid_request'])

const notConnected: FrameOf<'error'> = {
  op: 'error',
  code: 'not_connected',
  message: 'There is no connection, or too much is asked at once.',
}

const isAnswer = (frame: ServerFrame): frame is Answer => frame.op === 'ok' || frame.op === 'error'

/** @returns undefined for what is no frame of any version. */
function parse(text: string): ServerFrame | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && 'op' in value ? (value as ServerFrame) : undefined
  } catch {
    return undefined
  }
}

function parseCursor(text: string | null): { epoch: string; seq: number } | undefined {
  const [, epoch, digits] = /^([A-Za-z0-9]{1,20})\.(\d{1,15})$/.exec(text ?? '') ?? []
  return epoch === undefined || digits === undefined ? undefined : { epoch, seq: Number(digits) }
}
