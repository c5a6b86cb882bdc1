/**
 * The WebSocket server: which requests become sockets, and all of them together.
 *
 * Promises: no more than `socketsMax`, and of one user no more than `userSocketsMax`, for which the oldest goes; whoever is
 * refused gets an HTTP answer; `drain` closes all with 1012, a slice at a time, and ends those who do not answer.
 *
 * A socket costs its memory ten thousand times: listeners are functions of this file, which find their connection by the
 * socket; nothing of the request is kept; there is no timer of its own.
 */
import type { IncomingMessage, Server } from 'node:http'
import { WebSocketServer, type RawData, type WebSocket } from 'ws'
import type { UserCaller } from '../auth/caller.ts'
import { AppError } from '../errors.ts'
import type { Cursor } from '../notifications/log.ts'
import { createConnection, type Connection, type ConnectionDeps } from './connection.ts'
import { closeCodes, subprotocol } from './protocol.ts'
import { createUpgrades } from './upgrade.ts'

export interface Sockets {
  attach(server: Server): void
  /** Before its sender is known. @throws AppError why this request cannot become a socket */
  check(request: IncomingMessage): void
  /**
   * @param since what the client says it has; undefined: nothing.
   * @throws AppError as `check`; only then it is the caller who answers.
   */
  accept(request: IncomingMessage, caller: UserCaller, since: Cursor | undefined): void
  count(): number
  /** From now on nobody is let in. Resolves when all are closed: after `graceMs` they are cut. */
  drain(graceMs: number): Promise<void>
}

export interface SocketsOptions extends ConnectionDeps {
  socketsMax: number
  userSocketsMax: number
  /** Why nobody can be let in at the moment, if so. */
  refusal: () => AppError | undefined
}

/** Of a message, bytes; and the frames that it may come in. */
const messageBytesMax = 16 * 1024
const messageFramesMax = 32
/** Pieces of the network that wait to become a frame. */
const bufferedChunksMax = 1_024
/** A client that was told that it is closed gets so long to say goodbye, ms. */
const goodbyeMs = 3_000
/** What one turn of the event loop does of a drain, ms: others are served in between. */
const sliceMs = 5
/** When to try again where all places are taken, and where this instance stops, s. */
const crowdedRetryS = 10
const stoppingRetryS = 1

const libraryOptions = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: messageBytesMax,
  maxFragments: messageFramesMax,
  maxBufferedChunks: bufferedChunksMax,
  // Counted, and answered by the connection.
  autoPong: false,
  closeTimeout: goodbyeMs,
  handleProtocols: (offered: Set<string>) =>
    offered.has(subprotocol) ? subprotocol : (offered.values().next().value ?? false),
}

export function createSockets(options: SocketsOptions): Sockets {
  const { socketsMax, userSocketsMax, refusal, hub, nowMs } = options
  const upgrades = createUpgrades()
  const server = new WebSocketServer(libraryOptions)
  /** Until they are closed; without a connection: not one of ours to talk to. */
  const open = new Map<WebSocket, Connection | undefined>()
  let draining = false
  let emptied: () => void = () => undefined

  function assertRoom(): void {
    const refused = draining ? stopping() : open.size >= socketsMax ? crowded() : refusal()
    if (refused !== undefined) throw refused
  }

  function begin(ws: WebSocket, caller: UserCaller, since: Cursor | undefined): void {
    ws.on('close', onClose)
    ws.on('error', onError)
    if (ws.protocol !== '' && ws.protocol !== subprotocol) {
      open.set(ws, undefined)
      ws.close(closeCodes.version, 'version')
      return
    }
    ws.on('message', onMessage)
    ws.on('ping', onPing)
    ws.on('pong', onPong)
    open.set(ws, createConnection(ws, caller, since, options))
    const own = [...hub.viewersOf(caller.userId)].filter((viewer) => 'take' in viewer)
    for (const oldest of own.slice(0, -userSocketsMax)) oldest.close('replaced')
  }

  function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
    open.get(this)?.take(Buffer.isBuffer(data) ? data : Buffer.concat([data].flat().map(bytesIn)), isBinary)
  }
  function onPing(this: WebSocket, data: Buffer): void {
    open.get(this)?.pinged(data)
  }
  function onPong(this: WebSocket): void {
    open.get(this)?.ponged()
  }
  /** Its close follows, with the library's own code: 1007 for what is no UTF-8, 1009 for what is too long. */
  function onError(this: WebSocket): void {
    open.get(this)?.end()
  }
  function onClose(this: WebSocket): void {
    open.get(this)?.end()
    open.delete(this)
    if (open.size === 0) emptied()
  }

  return {
    attach: (server) => upgrades.attach(server),
    check(request) {
      upgrades.check(request)
      assertRoom()
    },
    accept(request, caller, since) {
      assertRoom()
      const taken = upgrades.take(request)
      if (taken === undefined) return
      server.handleUpgrade(request, taken.socket, taken.head, (ws) => begin(ws, caller, since))
    },
    count: () => open.size,
    async drain(graceMs) {
      draining = true
      if (open.size === 0) return
      const empty = new Promise<void>((resolve) => {
        emptied = resolve
      })
      let sinceMs = nowMs()
      for (const connection of [...open.values()]) {
        connection?.close('restart')
        if (nowMs() - sinceMs < sliceMs) continue
        await new Promise<void>((resolve) => setImmediate(resolve))
        sinceMs = nowMs()
      }
      const cut = setTimeout(() => {
        for (const ws of open.keys()) ws.terminate()
      }, graceMs)
      await empty
      clearTimeout(cut)
    },
  }
}

const bytesIn = (part: Buffer | ArrayBuffer): Buffer => (Buffer.isBuffer(part) ? part : Buffer.from(part))

const stopping = () =>
  new AppError('shutting_down', {
    detail: 'This instance is stopping: another one will let you in.',
    retryAfter: stoppingRetryS,
  })

const crowded = () =>
  new AppError('overloaded', {
    detail: 'This instance has as many sockets as it takes.',
    retryAfter: crowdedRetryS,
  })
