/** Tickets over HTTP: what each answer of the server means to the client of the socket. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, it, onTestFinished } from 'vitest'
import { createTicketSource } from '../../src/playground/client/ticket.ts'

/** A server that answers everything with this, and notes what it was asked. */
async function startAnswering(status: number, body: object) {
  const asked: { line: string; authorization: string | undefined; body: string }[] = []
  const server = createServer((request, response) => {
    void text(request).then((sent) => {
      const { method = '', url = '', headers } = request
      asked.push({ line: `${method} ${url}`, authorization: headers.authorization, body: sent })
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const origin = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, asked, api: `http://${origin}/api/chat` }
}

const token = ({ renew }: { renew: boolean }) => (renew ? 'new' : 'old')

it('an address from the server becomes one for a socket', async () => {
  const { api, origin, asked } = await startAnswering(200, { url: '/api/chat/ws?ticket=t', expires_in: 30 })
  const ticket = await createTicketSource({ api, token, fetch })({ renew: false })
  expect(ticket).toEqual({ url: `ws://${origin}/api/chat/ws?ticket=t` })
  expect(asked).toEqual([
    { line: 'POST /api/chat/ticket', authorization: 'Bearer old', body: '{"for":"socket"}' },
  ])
})

it('asks for a new token where the old one has expired', async () => {
  const { api, asked } = await startAnswering(200, { url: '/ws' })
  await createTicketSource({ api, token, fetch })({ renew: true })
  expect(asked[0]?.authorization).toBe('Bearer new')
})

it.each([400, 401, 403, 404])('%i is a refusal: waiting changes nothing', async (status) => {
  const { api } = await startAnswering(status, { code: 'some_code' })
  expect(await createTicketSource({ api, token, fetch })({ renew: false })).toEqual({ refused: 'some_code' })
})

it.each([
  [429, { retry_after: 7 }, 7_000],
  [503, { retry_after: 2 }, 2_000],
  [500, {}, 0],
])('%i %j is to be tried again, not before %i ms', async (status, body, retryAfterMs) => {
  const { api } = await startAnswering(status, body)
  expect(await createTicketSource({ api, token, fetch })({ renew: false })).toEqual({ retryAfterMs })
})

it('what is no answer of ours is a failure, to be tried again', async () => {
  const { api } = await startAnswering(200, {})
  expect(await createTicketSource({ api, token, fetch })({ renew: false })).toEqual({ retryAfterMs: 0 })
})
