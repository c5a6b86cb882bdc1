/**
 * A client of the socket that obeys the five lines of the protocol: it applies an event if its `seq` is beyond its
 * cursor, and then stores the cursor; a gap once it is live is answered with `sync`; the same id keeps its higher seq;
 * `reset` drops what it has; it acknowledges what it applied, and heartbeats.
 *
 *     const socket = await openSocket(service.origin, { token: ann.token })
 *     await socket.live()
 *     await socket.until((frame) => frame.op === 'event' && frame.seq === 3)
 *     const answer = await socket.ask({ op: 'join', room: 'team:design' })
 *     const again = await openSocket(service.origin, { token: ann.token, from: socket })
 *
 * Every frame that comes is parsed by its schema. A socket is cut with the test that opened it.
 */
import { randomBytes } from 'node:crypto'
import { onTestFinished } from 'vitest'
import { WebSocket, type ClientOptions } from 'ws'
import type { Notification } from '../../src/notifications/schemas.ts'
import { serverFrameSchema, subprotocol, type ServerFrame } from '../../src/realtime/protocol.ts'
import { basePath } from './client.ts'

export type FrameOf<Op extends ServerFrame['op']> = Extract<ServerFrame, { op: Op }>

export interface TestSocket {
  /** For what no decent client does. */
  ws: WebSocket
  /** Everything that came, in its order. */
  frames: ServerFrame[]
  /** What it would show: the newest version of each notification, by id. */
  rows: Map<string, Notification>
  /** Numbers of the events that it applied, in the order of their coming. */
  applied: number[]
  /** Events that it had already: not applied. */
  repeated: number
  /** How often it found that something was missing. */
  gaps: number
  /** `<epoch>.<seq>`; undefined before the first hello. */
  cursor(): string | undefined
  /** The badge. */
  unread(): number | undefined
  /** Resolves with the first frame that matches, past or to come. Rejects when the socket closes without one. */
  until(matches: (frame: ServerFrame) => boolean): Promise<ServerFrame>
  hello(): Promise<FrameOf<'hello'>>
  /** The replay is done. */
  live(): Promise<FrameOf<'live'>>
  /** Sent as it is; an object as JSON. */
  send(frame: object | string): void
  /** Sends it with a `rid` of its own. @returns the `ok` or `error` that carries it. */
  ask(frame: object): Promise<FrameOf<'ok' | 'error'>>
  closed: Promise<{ code: number; reason: string }>
  /** Says goodbye. */
  close(): Promise<void>
  /** Is gone without a word, as a cut cable's end. */
  drop(): Promise<void>
}

export interface SocketOptions {
  token?: string | undefined
  ticket?: string
  /** `<epoch>.<seq>` */
  cursor?: string | undefined
  /** Goes on where that one ended: with its rows and its cursor. */
  from?: TestSocket
  protocols?: string[]
  /** The page's. */
  origin?: string
  headers?: Record<string, string>
  /** Default true: acknowledges what it applies, and heartbeats. */
  ack?: boolean
  /** Such as `autoPong: false`. */
  ws?: ClientOptions
}

/** The server refused the upgrade. */
export class Refused extends Error {
  readonly status: number
  readonly headers: Headers
  readonly body: Record<string, unknown>
  constructor(status: number, headers: Headers, body: Record<string, unknown>) {
    super(`refused with ${status}: ${JSON.stringify(body)}`)
    this.status = status
    this.headers = headers
    this.body = body
  }
}

/** @param origin the service's. @throws Refused where the upgrade is answered with something else. */
export async function openSocket(origin: string, options: SocketOptions = {}): Promise<TestSocket> {
  const { protocols = [subprotocol], from } = options
  const ws = new WebSocket(addressOf(origin, options), protocols, {
    perMessageDeflate: false,
    headers: {
      ...(options.token !== undefined && { authorization: `Bearer ${options.token}` }),
      ...options.headers,
    },
    ...(options.origin !== undefined && { origin: options.origin }),
    ...options.ws,
  })
  onTestFinished(() => ws.terminate())
  const socket = obey(ws, options.ack ?? true)
  for (const [id, row] of from?.rows ?? []) socket.rows.set(id, row)
  await opened(ws)
  return socket
}

function addressOf(origin: string, { ticket, cursor, from }: SocketOptions): URL {
  const url = new URL(`${basePath}/ws`, origin.replace(/^http/, 'ws'))
  if (ticket !== undefined) url.searchParams.set('ticket', ticket)
  const since = cursor ?? from?.cursor()
  if (since !== undefined) url.searchParams.set('cursor', since)
  return url
}

function opened(ws: WebSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    ws.once('open', resolve)
    ws.once('unexpected-response', (_request, response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => (text += part))
      response.on('end', () => {
        const headers = new Headers()
        for (const [name, values] of Object.entries(response.headersDistinct))
          for (const value of values ?? []) headers.append(name, value)
        const json = headers.get('content-type')?.includes('json') === true
        const body = json ? (JSON.parse(text) as Record<string, unknown>) : { text }
        reject(new Refused(response.statusCode ?? 0, headers, body))
      })
    })
    ws.on('error', reject)
  })
}

function obey(ws: WebSocket, acks: boolean): TestSocket {
  const waiting: {
    matches: (frame: ServerFrame) => boolean
    resolve: (frame: ServerFrame) => void
    reject: (error: Error) => void
  }[] = []
  let epoch: string | undefined
  let cursor = 0
  let unread: number | undefined
  let isLive = false

  const socket: TestSocket = {
    ws,
    frames: [],
    rows: new Map(),
    applied: [],
    repeated: 0,
    gaps: 0,
    cursor: () => (epoch === undefined ? undefined : `${epoch}.${cursor}`),
    unread: () => unread,
    until(matches) {
      const seen = socket.frames.find(matches)
      if (seen !== undefined) return Promise.resolve(seen)
      return new Promise((resolve, reject) => waiting.push({ matches, resolve, reject }))
    },
    hello: () => socket.until(({ op }) => op === 'hello') as Promise<FrameOf<'hello'>>,
    live: () => socket.until(({ op }) => op === 'live') as Promise<FrameOf<'live'>>,
    send: (frame) => ws.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
    ask(frame) {
      const rid = randomBytes(6).toString('hex')
      socket.send({ ...frame, rid })
      return socket.until((answer) => 'rid' in answer && answer.rid === rid) as Promise<
        FrameOf<'ok' | 'error'>
      >
    },
    closed: new Promise((resolve) =>
      ws.once('close', (code, reason) => resolve({ code, reason: reason.toString() })),
    ),
    async close() {
      ws.close(1000)
      await socket.closed
    },
    async drop() {
      ws.terminate()
      await socket.closed
    },
  }

  function take(frame: ServerFrame): void {
    if (frame.op === 'hello') begin(frame)
    else if (frame.op === 'event' && frame.seq !== undefined) apply(frame, frame.seq)
    else if (frame.op === 'live') {
      isLive = true
      cursor = Math.max(cursor, frame.seq)
    } else if (frame.op === 'heartbeat') {
      // Asked for again from here: a gap is nothing to acknowledge.
      if (isLive && frame.head > cursor) miss()
      acknowledge()
    }
  }

  function begin({ epoch: now, mode, head, unread: badge }: FrameOf<'hello'>): void {
    if (mode === 'reset') socket.rows.clear()
    const [, since = '0'] = /cursor=[^.&]*\.(\d+)/.exec(ws.url) ?? []
    cursor = mode === 'resume' ? Number(since) : head
    epoch = now
    unread = badge
  }

  function apply(frame: FrameOf<'event'>, seq: number): void {
    if (seq <= cursor) {
      socket.repeated++
      return
    }
    if (isLive && (frame.prev ?? 0) > cursor) {
      miss()
      return
    }
    const row = frame.data as Notification
    if ((socket.rows.get(row.id)?.seq ?? 0) < seq) {
      if (row.removed) socket.rows.delete(row.id)
      else socket.rows.set(row.id, row)
    }
    cursor = seq
    unread = frame.unread
    socket.applied.push(seq)
    acknowledge()
  }

  function miss(): void {
    socket.gaps++
    socket.send({ op: 'sync', seq: cursor })
  }

  function acknowledge(): void {
    if (acks && ws.readyState === WebSocket.OPEN) socket.send({ op: 'ack', seq: cursor })
  }

  ws.on('message', (data: Buffer, isBinary) => {
    if (isBinary) throw new Error('a binary frame')
    const frame = serverFrameSchema.parse(JSON.parse(data.toString()))
    take(frame)
    socket.frames.push(frame)
    for (const waiter of waiting.filter(({ matches }) => matches(frame))) {
      waiting.splice(waiting.indexOf(waiter), 1)
      waiter.resolve(frame)
    }
  })
  ws.on('close', (code) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`closed with ${code} before it came: ${JSON.stringify(socket.frames.slice(-3))}`))
  })
  return socket
}
