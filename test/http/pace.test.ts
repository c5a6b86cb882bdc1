import type { EventLoopUtilization } from 'node:perf_hooks'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createPace, type Pace } from '../../src/http/pace.ts'
import { gated } from '../../src/embedded/demo-model.ts'
import { textOf } from '../support/client.ts'
import { startService } from '../support/service.ts'

describe('a pace', () => {
  let spent: { idle: number; active: number }
  let pace: Pace
  const measure = (since?: EventLoopUtilization): EventLoopUtilization => {
    const idle = spent.idle - (since?.idle ?? 0)
    const active = spent.active - (since?.active ?? 0)
    return { idle, active, utilization: active / (idle + active) }
  }

  beforeEach(() => {
    vi.useFakeTimers()
    spent = { idle: 0, active: 0 }
    pace = createPace({ coalesceMs: 20, measure })
  })
  afterEach(() => vi.useRealTimers())

  it('writes at once while there is time to spare', () => {
    spent = { idle: 40, active: 60 }
    const write = vi.fn()
    pace.soon(write)
    expect(write).toHaveBeenCalledTimes(1)
  })

  it('writes once for all that came within 20 ms while the process is busy, everybody at the same moment', () => {
    spent = { idle: 5, active: 95 }
    const [one, other] = [vi.fn(), vi.fn()]
    for (let n = 0; n < 5; n++) pace.soon(one)
    vi.advanceTimersByTime(10)
    pace.soon(other)
    expect([one, other].map(({ mock }) => mock.calls.length)).toEqual([0, 0])
    vi.advanceTimersByTime(10)
    expect([one, other].map(({ mock }) => mock.calls.length)).toEqual([1, 1])
  })

  it('is at once again when the process has come to rest', () => {
    spent = { idle: 5, active: 95 }
    pace.soon(() => undefined)
    vi.advanceTimersByTime(20)
    spent = { idle: 105, active: 95 }
    const write = vi.fn()
    pace.soon(write)
    expect(write).toHaveBeenCalledTimes(1)
  })

  it('does not write for whoever has gone', () => {
    spent = { idle: 0, active: 100 }
    const write = vi.fn()
    pace.soon(write)
    pace.forget(write)
    vi.advanceTimersByTime(100)
    expect(write).not.toHaveBeenCalled()
  })
})

describe('a busy process', () => {
  it('sends the first text at once, and the rest in few frames; nothing is lost', async () => {
    const service = await startService({ env: { STREAM_COALESCE_MS: '300' } })
    let busy = true
    const spin = () => {
      if (busy) setImmediate(spin)
    }
    try {
      const ann = await service.as('ann')
      const gate = gated()
      service.upstream.script(gate)
      spin()
      const stream = await ann.stream(`/conversations/${await ann.conversation()}/messages`, {
        content: 'go',
      })
      gate.release(1)
      await stream.until(({ data }) => data.type === 'assistant_chunk')
      for (let n = 0; n < 30; n++) {
        gate.release(1)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      gate.end()
      const frames = await stream.ended
      const chunks = frames.filter(({ data }) => data.type === 'assistant_chunk')
      expect(chunks.length).toBeLessThan(10)
      expect(textOf(chunks)).toBe(Array.from({ length: 31 }, (_, n) => `t${n + 1} `).join(''))
      // Numbers tell what a frame holds: the seq of the last token in it.
      expect(chunks.at(-1)?.seq).toBe((chunks[0]?.seq ?? 0) + 30)
    } finally {
      busy = false
      await service.close()
    }
  })
})
