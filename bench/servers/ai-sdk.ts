/** The AI SDK as its documentation shows it: `streamText`, piped to the response. It stores nothing. */
import type { AddressInfo } from 'node:net'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { pipeUIMessageStreamToResponse, streamText, toUIMessageStream } from 'ai'
import fastify from 'fastify'
import { tellPort } from '../probe.ts'

const upstream = createOpenAICompatible({
  name: 'bench',
  apiKey: 'bench',
  baseURL: process.env['UPSTREAM'] ?? '',
})
const app = fastify()

app.post('/chat', async (request, reply) => {
  const { content } = request.body as { content: string }
  const result = streamText({ model: upstream('bench/model'), prompt: content, maxRetries: 0 })
  reply.hijack()
  await pipeUIMessageStreamToResponse({
    response: reply.raw,
    stream: toUIMessageStream({ stream: result.stream }),
  })
})

await app.listen({ host: '127.0.0.1', port: 0 })
tellPort((app.server.address() as AddressInfo).port)
