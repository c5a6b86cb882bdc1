/** Group commit: what is asked for at the same time is stored together, and answered one by one. */
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { createGroupCommit } from '../../src/db/group-commit.ts'
import { CommitInDoubt } from '../../src/db/transact.ts'
import { AppError } from '../../src/errors.ts'

/** Groups are stored when they are let; until then they wait. */
function startGroups(options: { groupMax?: number; atOnceMax?: number } = {}) {
  const begun: { asks: readonly number[]; end: (error?: Error) => void }[] = []
  const ask = createGroupCommit<number, string>({
    ...options,
    store: (asks) =>
      new Promise((resolve, reject) => {
        begun.push({
          asks,
          end: (error) => (error === undefined ? resolve(asks.map((n) => `stored ${n}`)) : reject(error)),
        })
      }),
  })
  const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  return { ask, begun, turn, groups: () => begun.map(({ asks }) => asks) }
}

it('begins with one that comes alone at once, and takes those together that come meanwhile', async () => {
  const { ask, begun, turn, groups } = startGroups({ atOnceMax: 1 })
  const first = ask(1)
  await turn()
  const others = [ask(2), ask(3), ask(4)]
  await turn()
  expect(groups()).toEqual([[1]])
  begun[0]?.end()
  expect(await first).toBe('stored 1')
  await turn()
  expect(groups()).toEqual([[1], [2, 3, 4]])
  begun[1]?.end()
  expect(await Promise.all(others)).toEqual(['stored 2', 'stored 3', 'stored 4'])
})

it('has no more under way, and no more in one, than it may', async () => {
  const { ask, begun, turn, groups } = startGroups({ atOnceMax: 2, groupMax: 3 })
  const all = Array.from({ length: 10 }, (_, n) => ask(n))
  await turn()
  await turn()
  expect(groups()).toEqual([
    [0, 1, 2],
    [3, 4, 5],
  ])
  begun[1]?.end()
  await turn()
  await turn()
  expect(groups().at(-1)).toEqual([6, 7, 8])
  begun[2]?.end()
  begun[0]?.end()
  await turn()
  await turn()
  begun[3]?.end()
  expect(await Promise.all(all)).toEqual(Array.from({ length: 10 }, (_, n) => `stored ${n}`))
})

it('stores each alone where they cannot be stored together: only the one that cannot be fails', async () => {
  const { ask, begun, turn, groups } = startGroups()
  const all = Promise.allSettled([ask(1), ask(2), ask(3)])
  await turn()
  begun[0]?.end(new Error('one of them'))
  await turn()
  expect(groups()).toEqual([[1, 2, 3], [1], [2], [3]])
  begun[1]?.end()
  begun[2]?.end(new Error('this one'))
  begun[3]?.end()
  expect(await all).toMatchObject([
    { value: 'stored 1' },
    { reason: { message: 'this one' } },
    { value: 'stored 3' },
  ])
})

it('asks a database that is gone only once, and one that waited for a lock again', async () => {
  const { ask, begun, turn, groups } = startGroups()
  const gone = Promise.allSettled([ask(1), ask(2)])
  await turn()
  begun[0]?.end(new AppError('database_unavailable'))
  expect((await gone).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(groups()).toHaveLength(1)
  const locked = Promise.all([ask(3), ask(4)])
  await turn()
  const cause = Object.assign(new Error('canceling statement due to lock timeout'), { code: '55P03' })
  begun[1]?.end(new AppError('database_unavailable', { cause }))
  await turn()
  begun[2]?.end()
  begun[3]?.end()
  expect(await locked).toEqual(['stored 3', 'stored 4'])
})

it('refuses those who wait, too, where the database is gone, and takes new ones', async () => {
  const { ask, begun, turn, groups } = startGroups({ atOnceMax: 1 })
  const first = ask(1)
  await turn()
  const gone = Promise.allSettled([first, ask(2), ask(3)])
  begun[0]?.end(new AppError('database_unavailable'))
  expect((await gone).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  await turn()
  const next = ask(4)
  await turn()
  begun[1]?.end()
  expect(await next).toBe('stored 4')
  expect(groups()).toEqual([[1], [4]])
})

it('does not try again what may be stored, and goes on with those who wait', async () => {
  const { ask, begun, turn, groups } = startGroups({ atOnceMax: 1 })
  const inDoubt = Promise.allSettled([ask(1), ask(2)])
  await turn()
  const next = ask(3)
  begun[0]?.end(new CommitInDoubt())
  expect((await inDoubt).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  await turn()
  expect(groups()).toEqual([[1, 2], [3]])
  begun[1]?.end()
  expect(await next).toBe('stored 3')
})

it('has only a few under way alone', async () => {
  const { ask, begun, turn, groups } = startGroups()
  const all = Promise.allSettled([1, 2, 3, 4, 5].map(ask))
  await turn()
  begun[0]?.end(new Error('one of them'))
  await turn()
  expect(groups()).toEqual([[1, 2, 3, 4, 5], [1], [2], [3]])
  begun[2]?.end()
  await turn()
  expect(groups().at(-1)).toEqual([4])
  for (const index of [1, 3, 4]) begun[index]?.end()
  await turn()
  begun[5]?.end()
  expect((await all).map(({ status }) => status)).toEqual(Array.from({ length: 5 }, () => 'fulfilled'))
})

it('goes on after a failure', async () => {
  const { ask, begun, turn } = startGroups({ atOnceMax: 1 })
  const failing = ask(1)
  failing.catch(() => undefined)
  await turn()
  const next = ask(2)
  begun[0]?.end(new Error('no'))
  await expect(failing).rejects.toThrow('no')
  await delay(0)
  await turn()
  begun[1]?.end()
  expect(await next).toBe('stored 2')
})
