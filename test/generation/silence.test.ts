/** What is said while nothing is said. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { gated } from '../../src/embedded/demo-model.ts'
import { createLog, type Log } from '../../src/generation/log.ts'
import { createSilence, type Silence } from '../../src/generation/silence.ts'
import { startService } from '../support/service.ts'

let silence: Silence | undefined
afterEach(() => silence?.over())

function waiting(log: Log): number {
  let count = 0
  for (let next = log.next(0); next !== undefined; next = log.next(next.seq))
    if (next.event.type === 'status' && next.event.state === 'waiting') count++
  return count
}

describe('a silence', () => {
  const times = { firstMs: 100, againMs: 150 }
  const begin = () => {
    const log = createLog('g')
    silence = createSilence(log, { model: () => 'm', nowMs: () => performance.now(), ...times })
    return log
  }

  it('is told once when it is long, and then again and again', async () => {
    const log = begin()
    const startedAt = performance.now()
    await expect.poll(() => waiting(log), { interval: 5 }).toBe(1)
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(times.firstMs - 2)
    await expect.poll(() => waiting(log), { interval: 5 }).toBe(3)
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(times.firstMs + 2 * times.againMs - 4)
  })

  it('begins anew with each text', async () => {
    const log = begin()
    for (let text = 0; text < 8; text++) {
      await delay(40)
      silence?.broken()
    }
    expect(waiting(log)).toBe(0)
    await expect.poll(() => waiting(log), { interval: 5 }).toBe(1)
  })

  it('is over with the answer', async () => {
    const log = begin()
    silence?.over()
    await delay(2 * times.firstMs)
    expect(waiting(log)).toBe(0)
  })
})

it(
  'a slow model is told of after 10 s, in its place in the stream, and is resumed with it',
  { timeout: 30_000 },
  async () => {
    const service = await startService()
    try {
      const ann = await service.as('ann')
      const gate = gated()
      service.upstream.script(gate)
      const id = await ann.conversation()
      const startedAt = performance.now()
      const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
      const status = await stream.until(({ data }) => data.type === 'status')
      expect(Math.abs(performance.now() - startedAt - 10_000)).toBeLessThan(1_000)
      expect(status.data).toMatchObject({ state: 'waiting', model: 'rivulet/demo:free' })
      gate.release(1)
      gate.end()
      const types = (await stream.ended).map(({ data }) => data.type)
      expect(types).toEqual(['user_message', 'assistant_start', 'status', 'assistant_chunk', 'complete'])
      const url = stream.headers.get('content-location') ?? ''
      const resumed = await ann.stream(`${url}?after=${stream.frames[1]?.id ?? ''}`, undefined)
      expect((await resumed.ended).map(({ data }) => data.type)).toEqual([
        'status',
        'assistant_chunk',
        'complete',
      ])
    } finally {
      await service.close()
    }
  },
)
