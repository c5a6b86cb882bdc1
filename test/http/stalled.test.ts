import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import fastify, { type FastifyInstance } from 'fastify'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createPace } from '../../src/http/pace.ts'
import { createSseResponses, type SseSource } from '../../src/http/sse.ts'

const stalledMs = 400
const pingMs = 50

let app: FastifyInstance
let asked = 0
let source: SseSource

beforeEach(async () => {
  const sse = createSseResponses({ pingMs, stalledMs, pace: createPace({ coalesceMs: 20 }) })
  app = fastify({ forceCloseConnections: true })
  app.get('/', (_request, reply) => sse.send(reply, source))
  await app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(() => app.close())

/** Both ends of a connection that has asked. */
async function ask(): Promise<{ client: Socket; served: Socket }> {
  const client = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  client.on('error', () => undefined)
  const [served] = (await once(app.server, 'connection')) as [Socket]
  client.write('GET / HTTP/1.1\r\nhost: test\r\n\r\n')
  return { client, served }
}

/** More than any socket's buffers hold. */
const endless: SseSource = {
  next() {
    asked++
    return { frame: `data: ${'x'.repeat(10_000)}\n\n`, last: false }
  },
  watch: () => () => undefined,
}
const silent: SseSource = { next: () => undefined, watch: () => () => undefined }

describe('a reader that has stopped reading', () => {
  it('holds its socket for a while, and nothing more is made for it; then it is cut', async () => {
    source = endless
    const { client, served } = await ask()
    // It is asked for frames until the buffers are full, and then no more.
    let before = -1
    await expect
      .poll(
        () => {
          const still = asked === before && asked > 0
          before = asked
          return still
        },
        { interval: 100, timeout: 5_000 },
      )
      .toBe(true)
    const startedAt = performance.now()
    await once(served, 'close')
    expect(performance.now() - startedAt).toBeLessThan(stalledMs + 20 * pingMs)
    expect(asked).toBe(before)
    client.destroy()
  })

  it('is another one than a reader who has read all there is: that one is kept', async () => {
    source = silent
    const { client, served } = await ask()
    let text = ''
    client.on('data', (bytes: Buffer) => (text += bytes.toString()))
    const startedAt = performance.now()
    await expect.poll(() => performance.now() - startedAt > 2 * stalledMs && text.includes('ping')).toBe(true)
    expect(served.destroyed).toBe(false)
    client.destroy()
  })
})
