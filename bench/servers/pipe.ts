/** The floor: bytes from the upstream to the client, looked at by nobody. */
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { Agent, request as httpRequest } from 'undici'
import { tellPort } from '../probe.ts'

const dispatcher = new Agent({})
const app = fastify()

app.post('/chat', async (request, reply) => {
  const { content } = request.body as { content: string }
  const { body } = await httpRequest(`${process.env['UPSTREAM'] ?? ''}/chat/completions`, {
    dispatcher,
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'bench/model', messages: [{ role: 'user', content }], stream: true }),
  })
  return reply.type('text/event-stream').send(body)
})

await app.listen({ host: '127.0.0.1', port: 0 })
tellPort((app.server.address() as AddressInfo).port)
