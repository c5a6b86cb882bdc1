/** The loop that everybody writes first: Fastify, the openai SDK, `for await`. It stores nothing and resumes nothing. */
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import OpenAI from 'openai'
import { tellPort } from '../probe.ts'

const client = new OpenAI({ apiKey: 'bench', baseURL: process.env['UPSTREAM'] ?? '', maxRetries: 0 })
const app = fastify()

app.post('/chat', async (request, reply) => {
  const { content } = request.body as { content: string }
  const stream = await client.chat.completions.create({
    model: 'bench/model',
    messages: [{ role: 'user', content }],
    stream: true,
  })
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta.content
    if (text) reply.raw.write(`data: ${JSON.stringify({ content: text })}\n\n`)
  }
  reply.raw.end('data: [DONE]\n\n')
})

await app.listen({ host: '127.0.0.1', port: 0 })
tellPort((app.server.address() as AddressInfo).port)
