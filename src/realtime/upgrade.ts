/**
 * Door of realtime: an HTTP connection that asks to become a socket, from its first byte until it is one, or was refused.
 *
 * It goes through the server like a request, so that who may and who may not, and how that is said, is what it is on
 * every other route; whoever answers it may take the connection over instead. A client may be gone at any moment: an
 * error of its connection is nobody's.
 */
import { ServerResponse, type IncomingMessage, type Server } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { AppError } from '../errors.ts'

export interface Taken {
  socket: Socket
  /** What the client sent behind its request. */
  head: Buffer
}

export interface Upgrades {
  /** Listens to this server's upgrades. */
  attach(server: Server): void
  /** @throws AppError upgrade_required or invalid_request for what cannot become a socket */
  check(request: IncomingMessage): void
  /** From here on the connection is the caller's. Undefined: its client is gone. */
  take(request: IncomingMessage): Taken | undefined
}

/** Which requests may leave HTTP: those for this path. @param path as routes have it, without a slash at its end. */
export const isUpgradeTo =
  (path: string) =>
  ({ method, url = '', headers }: IncomingMessage): boolean =>
    method === 'GET' &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    url.replace(/[?#].*$/s, '').replace(/\/$/, '') === path

/** What is left of a refused connection, ms: its client reads the answer, and closes. */
const hangUpMs = 1_000
const keyPattern = /^[+/0-9A-Za-z]{22}==$/
const protocolsPattern =
  /^[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+([ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*[ \t]*$/

export function createUpgrades(): Upgrades {
  const pending = new WeakMap<IncomingMessage, Taken & { response: ServerResponse }>()

  return {
    attach(server) {
      server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
        socket.on('error', ignore)
        const response = new ServerResponse(request)
        response.shouldKeepAlive = false
        if (!(socket instanceof Socket) || !assign(response, socket)) {
          socket.destroy()
          return
        }
        response.once('finish', () => hangUp(response, socket))
        pending.set(request, { socket, head, response })
        server.emit('request', request, response)
      })
    },

    check(request) {
      const { headers } = request
      if (!pending.has(request))
        throw new AppError('upgrade_required', {
          detail: 'Open this URL as a WebSocket.',
          headers: { upgrade: 'websocket', connection: 'upgrade' },
        })
      if (headers['sec-websocket-version'] !== '13')
        throw new AppError('upgrade_required', {
          detail: 'This server speaks version 13 of the WebSocket protocol.',
          headers: { upgrade: 'websocket', 'sec-websocket-version': '13' },
        })
      if (!keyPattern.test(headers['sec-websocket-key'] ?? ''))
        throw new AppError('invalid_request', { detail: 'Sec-WebSocket-Key is not 16 bytes of base64.' })
      if (!isProtocolList(headers['sec-websocket-protocol']))
        throw new AppError('invalid_request', {
          detail: 'Sec-WebSocket-Protocol is not a list of different names.',
        })
    },

    take(request) {
      const found = pending.get(request)
      if (found === undefined) return undefined
      pending.delete(request)
      const { socket, head, response } = found
      response.detachSocket(socket)
      if (socket.destroyed || !socket.readable || !socket.writable) {
        socket.destroy()
        return undefined
      }
      socket.off('error', ignore)
      return { socket, head }
    },
  }
}

const ignore = () => undefined

/** @returns false where it is still being answered what it asked before: nobody who means well does not wait for that. */
function assign(response: ServerResponse, socket: Socket): boolean {
  try {
    response.assignSocket(socket)
    return true
  } catch {
    return false
  }
}

/** What it still sends is read and dropped: a connection that is closed with bytes unread loses the answer. */
function hangUp(response: ServerResponse, socket: Socket): void {
  response.detachSocket(socket)
  socket.resume()
  socket.end()
  socket.setTimeout(hangUpMs, () => socket.destroy())
}

/** As RFC 6455 has it, which the library would refuse with an answer of its own. */
function isProtocolList(header: string | undefined): boolean {
  if (header === undefined) return true
  if (!protocolsPattern.test(header)) return false
  const names = header.split(',').map((name) => name.trim())
  return new Set(names).size === names.length
}
