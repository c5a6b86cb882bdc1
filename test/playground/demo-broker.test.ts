/** The broker that the demo looks for: where it is none, or none for us, it says so soon, and never with a password. */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { openDemoBroker } from '../../src/playground/demo-broker.ts'
import { hasRabbit, rabbitUrl } from '../support/rabbitmq.ts'

const withRabbit = await hasRabbit()

afterEach(() => vi.unstubAllEnvs())

/** Of the process's environment, which it reads. */
async function open(url: string, signal = new AbortController().signal) {
  vi.stubEnv('RABBITMQ_URL', url)
  const releases = new AsyncDisposableStack()
  onTestFinished(() => releases.disposeAsync())
  return openDemoBroker(releases, signal)
}

/** Takes connections, and says nothing. */
async function silence(): Promise<{ port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).once('close', () => sockets.delete(socket))
    socket.resume()
  }).listen(0, '127.0.0.1')
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, sockets }
}

describe('where a RabbitMQ should be', () => {
  it('and something is silent, it is waited for two seconds, and let go', async () => {
    const { port, sockets } = await silence()
    const askedAt = performance.now()
    const found = await open(`amqp://ann:s3cret@127.0.0.1:${port}`)
    expect(found).toEqual({ why: `RabbitMQ at 127.0.0.1:${port}: no answer in time` })
    expect(performance.now() - askedAt).toBeLessThan(4_000)
    await expect.poll(() => sockets.size).toBe(0)
  })

  it('and something is silent, an interruption is not waited with', async () => {
    const { port, sockets } = await silence()
    const interrupted = new AbortController()
    const opening = open(`amqp://127.0.0.1:${port}`, interrupted.signal)
    await expect.poll(() => sockets.size).toBe(1)
    interrupted.abort(new Error('interrupted'))
    await expect(opening).rejects.toThrow('interrupted')
    await expect.poll(() => sockets.size).toBe(0)
  })

  it('and the configuration is wrong, the default is tried, and that is said', async () => {
    const found = await open('http://elsewhere')
    if ('url' in found) expect(found.url).toBe('amqp://guest:guest@127.0.0.1:5672')
    else expect(found.why).toMatch(/^RabbitMQ at 127\.0\.0\.1:5672: .*; RABBITMQ_URL was not read/)
  })

  it.skipIf(!withRabbit)('and it does not let us in, that is said without the password', async () => {
    const url = new URL(rabbitUrl)
    url.username = 'nobody'
    url.password = 's3cret'
    expect(await open(url.href)).toEqual({ why: `RabbitMQ at ${url.host}: it does not let us in` })
  })
})
