/** A server that somebody registered: takes POSTs, keeps what it was sent, and answers as a test says. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Certificate } from './certificate.ts'

export interface Received {
  method: string | undefined
  path: string | undefined
  headers: IncomingHttpHeaders
  body: Buffer
}

export interface Receiver {
  /** Origin, such as https://127.0.0.1:4711. */
  origin: string
  port: number
  received: Received[]
  /** How it answers from now on; at first 204. */
  answer(how: (response: ServerResponse, request: IncomingMessage) => void): void
  /** Connections that anybody has made, TLS or not. */
  connections(): number
  /** Those that are open now. */
  open(): number
  /** Resolves when the connections of now are closed. */
  allClosed(): Promise<void>
  close(): Promise<void>
}

/** @param host the address it listens at: all of 127.0.0.0/8 is this machine. */
export async function startReceiver(certificate?: Certificate, host = '127.0.0.1'): Promise<Receiver> {
  const received: Received[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  let answer: Parameters<Receiver['answer']>[0] = (response) => response.writeHead(204).end()
  const take = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await buffer(request)
    received.push({ method: request.method, path: request.url, headers: request.headers, body })
    answer(response, request)
  }
  const onRequest = (request: IncomingMessage, response: ServerResponse) =>
    // Whoever goes away in the middle of a request is no concern of a receiver.
    void take(request, response).catch(() => undefined)
  const server =
    certificate === undefined ? createServer(onRequest) : createSecureServer(certificate, onRequest)
  server.on('connection', (socket: Socket) => {
    connections++
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `${certificate === undefined ? 'http' : 'https'}://${host}:${port}`,
    port,
    received,
    answer(how) {
      answer = how
    },
    connections: () => connections,
    open: () => sockets.size,
    async allClosed() {
      await Promise.all([...sockets].map((socket) => once(socket, 'close')))
    },
    async close() {
      server.closeAllConnections()
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
