/**
 * A stop that another instance asked for, and told of over the bus. Where no flush is due within the hour only the
 * message can have brought it; where it must come without one, a flush is due within a second.
 */
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest'
import { pino } from 'pino'
import type { Bus } from '../../src/bus/bus.ts'
import { createPostgresBus } from '../../src/bus/postgres-bus.ts'
import { gated } from '../../src/embedded/demo-model.ts'
import { requestStop, tellStops } from '../../src/generation/engine.ts'
import { openDatabase, startEngine } from '../support/engines.ts'
import { storedLog, storedText } from '../support/races.ts'
import { startService, type Service } from '../support/service.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const hourMs = 3_600_000

let service: Service
beforeAll(async () => {
  service = await startService()
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())

async function join(instanceId: string): Promise<Bus> {
  const bus = createPostgresBus({ url: service.databaseUrl, instanceId, log: pino({ level: 'silent' }) })
  onTestFinished(() => bus.close())
  await new Promise<void>((resolve) => bus.onGap(resolve))
  return bus
}

/** An answer that is being written by one instance, and the bus of another one, which may stop it. */
async function speak(flushMs: number, databaseUrl = service.databaseUrl) {
  const [ownersBus, bus] = [await join('owner'), await join('stopper')]
  const gate = gated({ tokens: ['t1 ', 't2 ', 't3 '] })
  service.upstream.script(gate)
  const owner = await startEngine(service, { databaseUrl, bus: ownersBus, flushMs })
  const begun = await owner.begin()
  const stopper = await openDatabase(service.databaseUrl)
  const stop = async () => {
    const stops = { transactions: stopper, find: () => undefined, tell: tellStops(bus) }
    expect(await requestStop(stops, { userId: 'ann' }, begun.generation.id)).toBeUndefined()
  }
  return { ...begun, gate, bus, ownersBus, stop }
}

it('closes the upstream without waiting for the next flush, and keeps the text', async () => {
  const { generation, upstreamRequest, gate, stop } = await speak(hourMs)
  gate.release(2)
  await expect.poll(() => generation.log.head()).toBe(2)
  await stop()
  await upstreamRequest.ended
  expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
  expect((await generation.settled).message).toMatchObject({ status: 'stopped', content: 't1 t2 ' })
})

it('is not stopped by a message alone: the row decides', async () => {
  const { generation, upstreamRequest, gate, bus } = await speak(hourMs)
  gate.release(1)
  await expect.poll(() => generation.log.head()).toBe(1)
  tellStops(bus)(generation.id)
  // It has looked: that flush has stored what there was.
  await expect.poll(async () => storedText(await storedLog(service.sql, generation.id))).toBe('t1 ')
  gate.release(2)
  gate.end()
  await upstreamRequest.ended
  expect(upstreamRequest.closedAt).toBeUndefined()
  expect((await generation.settled).message).toMatchObject({ status: 'complete', content: 't1 t2 t3 ' })
})

it.each([undefined, null, 'x', {}, { generation_id: 1 }, { generation_id: 'of nobody' }])(
  'survives a message that makes no sense: %j',
  async (message) => {
    const { generation, bus, ownersBus, stop } = await speak(hourMs)
    const heard = new Promise((resolve) => ownersBus.subscribe('stop', resolve))
    bus.publish('stop', message)
    await heard
    await stop()
    expect((await generation.settled).message.status).toBe('stopped')
  },
)

it('is looked for again where it came during a flush, which may have looked too early', async () => {
  const proxy = await startTcpProxy(service.databaseUrl)
  onTestFinished(() => proxy.close())
  const { generation, gate, bus, ownersBus, stop } = await speak(hourMs, proxy.url)
  gate.release(1)
  await expect.poll(() => generation.log.head()).toBe(1)
  const withheld = proxy.withholdCommit('t1 ')
  tellStops(bus)(generation.id)
  const reset = await withheld
  const heard = new Promise((resolve) => ownersBus.subscribe('stop', resolve))
  await stop()
  await heard
  reset()
  expect((await generation.settled).message).toMatchObject({ status: 'stopped', content: 't1 ' })
})

it('comes with the next flush where the bus is closed', async () => {
  const { generation, upstreamRequest, bus, ownersBus, stop } = await speak(1_000)
  await Promise.all([bus.close(), ownersBus.close()])
  await stop()
  await upstreamRequest.ended
  expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
  expect((await generation.settled).message.status).toBe('stopped')
})
