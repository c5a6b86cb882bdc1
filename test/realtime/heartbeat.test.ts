/** The wheel: whose turn it is, and what a pause of the process does to its clock. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createWheel } from '../../src/realtime/heartbeat.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => vi.useRealTimers())

function listen() {
  const heard = { beats: [] as number[], looks: [] as number[] }
  return {
    heard,
    beating: {
      beat: (nowMs: number) => void heard.beats.push(nowMs),
      look: (nowMs: number) => void heard.looks.push(nowMs),
    },
  }
}

it('beats each of ten thousand once in 25 s, evenly, and looks at each every 2.5 s', () => {
  const wheel = createWheel(25_000, Date.now)
  const all = Array.from({ length: 10_000 }, listen)
  for (const { beating } of all) wheel.add(beating)
  const perTick: number[] = []
  const beats = () => all.reduce((sum, { heard }) => sum + heard.beats.length, 0)
  for (let tick = 0; tick < 100; tick++) {
    const before = beats()
    vi.advanceTimersByTime(250)
    perTick.push(beats() - before)
  }
  expect(new Set(perTick)).toEqual(new Set([100]))
  expect(all.every(({ heard }) => heard.beats.length === 1 && heard.looks.length === 10)).toBe(true)
  vi.advanceTimersByTime(25_000)
  expect(all.every(({ heard }) => heard.beats.length === 2)).toBe(true)
  expect(all.every(({ heard }) => (heard.beats[1] ?? 0) - (heard.beats[0] ?? 0) === 25_000)).toBe(true)
  wheel.close()
})

it('does not beat who has left', () => {
  const wheel = createWheel(25_000, Date.now)
  const [stays, leaves] = [listen(), listen()]
  wheel.add(stays.beating)
  wheel.delete(leaves.beating, wheel.add(leaves.beating))
  vi.advanceTimersByTime(25_000)
  expect([stays.heard.beats.length, leaves.heard.beats, leaves.heard.looks]).toEqual([1, [], []])
  wheel.close()
})

it('lets one of those that it beats leave, and another come, meanwhile', () => {
  const wheel = createWheel(25_000, Date.now)
  const second = listen()
  const slot = { of: 0 }
  const first = {
    beat() {
      wheel.delete(first, slot.of)
      wheel.add(second.beating)
    },
    look: () => undefined,
  }
  slot.of = wheel.add(first)
  vi.advanceTimersByTime(50_000)
  expect(second.heard.beats.length).toBeGreaterThan(0)
  wheel.close()
})

it('stands still while the process does: a minute of nothing is no minute of waiting', () => {
  const clock = { ms: 0 }
  const wheel = createWheel(25_000, () => clock.ms)
  const { heard, beating } = listen()
  wheel.add(beating)
  const tick = (ms: number) => {
    clock.ms += ms
    vi.advanceTimersByTime(250)
  }
  for (let n = 0; n < 10; n++) tick(250)
  const before = heard.looks.at(-1) ?? 0
  tick(60_000)
  for (let n = 0; n < 10; n++) tick(250)
  expect((heard.looks.at(-1) ?? 0) - before).toBeLessThan(6_000)
  wheel.close()
})
