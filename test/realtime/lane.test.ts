/** A lane: batches, one at a time; nobody is forgotten, and nobody waits for somebody else's failure longer than needed. */
import { expect, it, onTestFinished } from 'vitest'
import { createLane } from '../../src/realtime/lane.ts'

function start(
  options: { batchMax?: number; work?: (batch: readonly string[]) => Promise<(() => void)[]> } = {},
) {
  const batches: string[][] = []
  const failures: unknown[] = []
  const lane = createLane<string>({
    batchMax: options.batchMax ?? 100,
    nowMs: () => performance.now(),
    random: () => 0,
    work(batch) {
      batches.push([...batch])
      return options.work?.(batch) ?? Promise.resolve([])
    },
    failed: (error) => void failures.push(error),
  })
  onTestFinished(() => lane.close())
  return { lane, batches, failures }
}

it('takes what is added in one turn together, each once, and what is too much next', async () => {
  const { lane, batches } = start({ batchMax: 2 })
  for (const item of ['a', 'b', 'a', 'c', 'd', 'e', 'a']) lane.add(item)
  await expect.poll(() => batches.flat().length).toBe(5)
  expect(batches).toEqual([['a', 'b'], ['c', 'd'], ['e']])
})

it('has one batch in flight: what is added meanwhile goes with the next one, also what is in flight', async () => {
  const done: (() => void)[] = []
  const { lane, batches } = start({ work: () => new Promise((resolve) => done.push(() => resolve([]))) })
  lane.add('a')
  await expect.poll(() => done.length).toBe(1)
  for (const item of ['a', 'b', 'c']) lane.add(item)
  lane.delete('c')
  await new Promise((resolve) => setImmediate(resolve))
  expect(batches).toEqual([['a']])
  done[0]?.()
  await expect.poll(() => done.length).toBe(2)
  expect(batches[1]).toEqual(['a', 'b'])
  done[1]?.()
})

it('tries a batch that failed again, with what came meanwhile, and says so once', async () => {
  let fails = 2
  const { lane, batches, failures } = start({
    work: () => (fails-- > 0 ? Promise.reject(new Error(`failure ${fails}`)) : Promise.resolve([])),
  })
  lane.add('a')
  await expect.poll(() => failures.length).toBe(1)
  lane.add('b')
  await expect.poll(() => batches.length).toBe(3)
  expect(batches.at(-1)?.toSorted()).toEqual(['a', 'b'])
  expect(failures).toHaveLength(1)
})

it('does what a batch leaves in slices: the event loop turns in between', async () => {
  let turns = 0
  let done = 0
  const piece = () => {
    for (const endMs = performance.now() + 2; performance.now() < endMs;);
    done++
  }
  const { lane } = start({ work: () => Promise.resolve(Array.from({ length: 50 }, () => piece)) })
  const turn = () => {
    turns++
    if (done < 50) setImmediate(turn)
  }
  lane.add('a')
  setImmediate(turn)
  await expect.poll(() => done).toBe(50)
  // 100 ms of work in slices of 5 ms and what a piece takes.
  expect(turns).toBeGreaterThanOrEqual(10)
})

it('does nothing any more once it is closed', async () => {
  const { lane, batches } = start()
  lane.add('a')
  await lane.close()
  lane.add('b')
  await new Promise((resolve) => setImmediate(resolve))
  expect(batches.flat()).not.toContain('b')
})
