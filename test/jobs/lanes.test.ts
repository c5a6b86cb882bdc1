/** Room: kinds that wait for others' servers have their own, so nobody else waits with them. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { JobHandler } from '../../src/jobs/jobs.ts'
import { eventually, handler, startBench, type Bench } from '../support/jobs.ts'

let bench: Bench
beforeEach(async () => {
  bench = await startBench()
})
afterEach(() => bench.close())

/** A kind whose jobs end when the test says so. */
function gated(runningMax?: number) {
  let now = 0
  let most = 0
  const gates: (() => void)[] = []
  const kind: JobHandler = {
    ...handler(async () => {
      most = Math.max(most, ++now)
      await new Promise<void>((resolve) => gates.push(resolve))
      now--
      return { kind: 'done' }
    }),
    ...(runningMax !== undefined && { runningMax }),
  }
  return { kind, waiting: () => gates.length, most: () => most, endOne: () => gates.shift()?.() }
}

it('a kind with room of its own fills it, and the others go on as if it were not there', async () => {
  const slow = gated(2)
  const quick: string[] = []
  await bench.add(...Array.from({ length: 9 }, (_, n) => ({ kind: 'slow', key: String(n) })))
  await bench.add(...Array.from({ length: 12 }, (_, n) => ({ kind: 'quick', key: String(n) })))
  bench.worker(
    {
      slow: slow.kind,
      quick: handler(({ key }) => {
        quick.push(key)
        return Promise.resolve({ kind: 'done' })
      }),
    },
    { runningMax: 1, pollMs: 60_000 },
  )
  await eventually(() => quick.length).toBe(12)
  expect(slow.waiting()).toBe(2)
  for (let ended = 0; ended < 9; ended++) {
    await eventually(() => slow.waiting()).toBeGreaterThan(0)
    slow.endOne()
  }
  await eventually(() => bench.rows()).toEqual([])
  expect(slow.most()).toBe(2)
})

it('what the others share is shared by them, and takes nothing of another’s room', async () => {
  const [one, own] = [gated(), gated(3)]
  const other = { ...one.kind }
  for (const kind of ['one', 'other', 'own'])
    await bench.add(...Array.from({ length: 5 }, (_, n) => ({ kind, key: String(n) })))
  bench.worker({ one: one.kind, other, own: own.kind }, { runningMax: 2, pollMs: 60_000 })
  await eventually(() => [one.waiting(), own.waiting()]).toEqual([2, 3])
  for (let ended = 0; ended < 10; ended++) {
    await eventually(() => one.waiting()).toBeGreaterThan(0)
    one.endOne()
  }
  await eventually(async () => (await bench.rows()).map(({ kind }) => kind)).toEqual(Array(5).fill('own'))
  expect([one.most(), own.most()]).toEqual([2, 3])
  for (let ended = 0; ended < 5; ended++) {
    await eventually(() => own.waiting()).toBeGreaterThan(0)
    own.endOne()
  }
})
