/** An upstream's accounts, which answer `GET …/generation` as a test says, and remember who asked. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Books {
  baseUrl: string
  asked: { id: string | null; authorization: string | undefined; path: string }[]
  answer(how: (response: ServerResponse, request: IncomingMessage) => void): void
  /** Nobody listens until `open`. */
  shut(): Promise<void>
  open(): Promise<void>
  close(): Promise<void>
}

export async function startBooks(): Promise<Books> {
  const asked: Books['asked'] = []
  let how: Parameters<Books['answer']>[0] = (response) => void response.writeHead(404).end()
  const make = () =>
    createServer((request, response) => {
      const url = new URL(request.url ?? '', 'http://books')
      asked.push({
        id: url.searchParams.get('id'),
        authorization: request.headers.authorization,
        path: url.pathname,
      })
      how(response, request)
    })
  let server = make()
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  const shut = async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return {
    baseUrl: `http://127.0.0.1:${port}/api/v1`,
    asked,
    answer: (next) => void (how = next),
    shut,
    async open() {
      server = make()
      await listen(port)
    },
    close: shut,
  }
}

/** Writes a bill, or what else JSON can hold. */
export const json =
  (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  (response: ServerResponse) =>
    void response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(typeof body === 'string' ? body : JSON.stringify(body))
