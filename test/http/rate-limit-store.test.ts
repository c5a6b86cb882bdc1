/** Counting without Redis, by a clock of the test's own. */
import { expect, it } from 'vitest'
import { createLimitStore } from '../../src/http/rate-limit-store.ts'

function storeAt(options: { windowsMax?: number } = {}) {
  const clock = { ms: 1_000 }
  return { clock, store: createLimitStore({ nowMs: () => clock.ms, ...options }) }
}

it('begins a window with its first request, and another when it has ended', async () => {
  const { clock, store } = storeAt()
  expect(await store.take('messages:ann', 60_000, 2)).toEqual({ count: 1, leftMs: 60_000 })
  clock.ms += 59_999
  expect(await store.take('messages:ann', 60_000, 2)).toEqual({ count: 2, leftMs: 1 })
  expect(await store.take('messages:ann', 60_000, 2)).toEqual({ count: 3, leftMs: 1 })
  clock.ms += 1
  expect(await store.take('messages:ann', 60_000, 2)).toEqual({ count: 1, leftMs: 60_000 })
})

it('does not count what it refuses: one given back makes room for exactly one', async () => {
  const { store } = storeAt()
  const take = async () => (await store.take('messages:ann', 60_000, 2)).count
  expect([await take(), await take(), await take(), await take()]).toEqual([1, 2, 3, 3])
  await store.giveBack('messages:ann')
  expect([await take(), await take()]).toEqual([2, 3])
})

it('gives nothing back that was not taken', async () => {
  const { clock, store } = storeAt()
  await store.giveBack('messages:ann')
  await store.take('messages:ann', 60_000, 2)
  clock.ms += 60_000
  await store.giveBack('messages:ann')
  expect((await store.take('messages:ann', 60_000, 2)).count).toBe(1)
  for (let n = 0; n < 3; n++) await store.giveBack('messages:ann')
  expect((await store.take('messages:ann', 60_000, 2)).count).toBe(1)
})

it('keeps a bounded number of windows: the oldest goes first, and no other limit pays for it', async () => {
  const { store } = storeAt({ windowsMax: 100 })
  await store.take('messages:ann', 60_000, 500)
  for (let n = 0; n < 101; n++) await store.take(`bad_tokens:${n}`, 60_000, 500)
  expect((await store.take('bad_tokens:100', 60_000, 500)).count).toBe(2)
  expect((await store.take('bad_tokens:1', 60_000, 500)).count).toBe(2)
  expect((await store.take('bad_tokens:0', 60_000, 500)).count).toBe(1)
  expect((await store.take('messages:ann', 60_000, 500)).count).toBe(2)
})
