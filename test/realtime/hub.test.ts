/** The hub: what it reads for whom, and what it does not depend on. Orders of events are played in interleavings.test.ts. */
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { ownDatabase } from '../support/own-database.ts'
import { expectAll, startWatching, type Watching } from '../support/watching.ts'

let database: Database
ownDatabase(4, (own) => ({ database } = own))

async function start(options: Parameters<typeof startWatching>[1] = {}): Promise<Watching> {
  const watching = await startWatching(database, options)
  onTestFinished(() => watching.close())
  return watching
}

/** One read, from its beginning to its end. */
async function pass(watching: Watching): Promise<void> {
  const [read] = watching.reads
  if (read === undefined) throw new Error('nothing is being read')
  await read.execute()
  read.deliver()
  await watching.settle()
}

describe('a wake-up', () => {
  it('while a read is under way makes one more follow, however many come', async () => {
    const watching = await start()
    const watcher = watching.come(undefined)
    await watching.settle()
    await pass(watching)
    watching.hub.wake(watching.userId, await watching.publish(['a']))
    await watching.settle()
    const [read] = watching.reads
    await read?.execute()
    for (const name of ['b', 'c', 'd']) watching.hub.wake(watching.userId, await watching.publish([name]))
    expect(watching.reads).toHaveLength(1)
    read?.deliver()
    await watching.settle()
    expect(watcher.events.map(({ seq }) => seq)).toEqual([2])
    await pass(watching)
    expect(watching.reads).toHaveLength(0)
    expectAll(watcher, await watching.stored())
  })

  it('says nothing that was seen: no read', async () => {
    const watching = await start()
    watching.come(undefined)
    await watching.settle()
    await pass(watching)
    watching.hub.wake(watching.userId, 1)
    watching.hub.wake('somebody else', 99)
    await watching.settle()
    expect(watching.reads).toHaveLength(0)
  })

  it('that was lost is found by a sweep', async () => {
    const watching = await start({ held: false })
    const watcher = watching.come(undefined)
    await expect.poll(() => watcher.lives).toEqual([1])
    await watching.publish(['a'])
    watching.hub.sweep()
    await expect.poll(() => watcher.events.length).toBe(1)
    expectAll(watcher, await watching.stored())
  })

  it('that was lost to one device is found though another one came later, and saw further', async () => {
    const watching = await start({ held: false })
    const first = watching.come(undefined)
    await expect.poll(() => first.lives).toEqual([1])
    await watching.publish(['a'])
    const second = watching.come(undefined)
    await expect.poll(() => second.lives).toEqual([2])
    expect(first.events).toEqual([])
    watching.hub.sweep()
    await expect.poll(() => first.events.length).toBe(1)
  })

  it('that was lost to one device is found by its heartbeat, where another one saw further', async () => {
    const watching = await start({ held: false })
    const first = watching.come(undefined)
    await expect.poll(() => first.lives).toEqual([1])
    await watching.publish(['a'])
    const second = watching.come(undefined)
    await expect.poll(() => second.lives).toEqual([2])
    expect(first.head()).toBe(2)
    await expect.poll(() => first.events.length).toBe(1)
    expect([first.head(), second.head()]).toEqual([2, 2])
  })
})

describe('viewers who stand at the same place', () => {
  it('are read for once, and shown the very same event: it is printed once', async () => {
    const watching = await start()
    const watchers = Array.from({ length: 5 }, () => watching.come('start'))
    await watching.settle()
    await pass(watching)
    watching.hub.wake(watching.userId, await watching.publish(['a', 'b']))
    await watching.settle()
    expect(watching.reads).toHaveLength(1)
    await pass(watching)
    const [first] = watchers
    for (const watcher of watchers) {
      expect(watcher.events.at(-1)).toBe(first?.events.at(-1))
      expectAll(watcher, await watching.stored())
    }
  })
})

describe('a viewer that is full', () => {
  it('is read nothing for until it has room, and then goes on behind what it was shown', async () => {
    const watching = await start({ held: false })
    const watcher = watching.come(undefined, 2)
    await expect.poll(() => watcher.lives).toEqual([1])
    watching.hub.wake(watching.userId, await watching.publish(['a', 'b', 'c', 'd']))
    await expect.poll(() => watcher.events.length).toBe(2)
    for (let n = 0; n < 3; n++) watching.hub.wake(watching.userId, await watching.publish([`more ${n}`]))
    watching.hub.sweep()
    await watching.settle()
    expect(watcher.events).toHaveLength(2)
    watcher.resume(Infinity)
    await expect.poll(() => watcher.events.length).toBe(7)
    expectAll(watcher, await watching.stored())
    expect(watcher.lives).toEqual([1, 8])
  })

  it('that goes back meanwhile goes on from there', async () => {
    const watching = await start({ held: false })
    const watcher = watching.come(undefined, 2)
    await expect.poll(() => watcher.lives).toEqual([1])
    watching.hub.wake(watching.userId, await watching.publish(['a', 'b', 'c']))
    await expect.poll(() => watcher.events.length).toBe(2)
    watcher.sync(1)
    watcher.resume(Infinity)
    await expect.poll(() => watcher.lives.length).toBe(1)
    expectAll(watcher, await watching.stored())
    expect(watcher.events.map(({ seq }) => seq)).toEqual([2, 3, 4])
  })
})

describe('going back', () => {
  it('while a page is being read loses nothing between the two places', async () => {
    const watching = await start()
    const watcher = watching.come('start')
    await watching.settle()
    await pass(watching)
    watching.hub.wake(watching.userId, await watching.publish(['a', 'b', 'c']))
    await watching.settle()
    await pass(watching)
    watching.hub.wake(watching.userId, await watching.publish(['d']))
    await watching.settle()
    // Of a read for what is behind 4.
    await watching.reads[0]?.execute()
    watcher.sync(1)
    watching.reads[0]?.deliver()
    await watching.settle()
    await pass(watching)
    expect(watcher.events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5])
    expectAll(watcher, await watching.stored())
  })
})

describe('a database that is away', () => {
  it('costs waiting: those who came meanwhile are greeted, and what they missed comes', async () => {
    const watching = await start()
    const { hub, reads } = watching
    const watcher = watching.come('start')
    await watching.settle()
    expect(hub.away()).toBe(false)
    reads[0]?.fail(new Error('gone'))
    await watching.settle()
    expect([watcher.greeting, hub.away()]).toEqual([undefined, true])
    await watching.publish(['a'])
    await watching.open()
    await expect.poll(() => watcher.lives.length).toBe(1)
    expect(hub.away()).toBe(false)
    expectAll(watcher, await watching.stored())
  })

  it('is found to be back by a sweep where nobody is left to read for', async () => {
    const watching = await start()
    const watcher = watching.come(undefined)
    await watching.settle()
    watching.reads[0]?.fail(new Error('gone'))
    await watching.settle()
    watcher.close()
    expect(watching.hub.away()).toBe(true)
    watching.hub.sweep()
    await expect.poll(() => watching.hub.away()).toBe(false)
  })
})

describe('a viewer that has gone', () => {
  it('is told nothing more, whatever was being read for it', async () => {
    const watching = await start()
    const { hub, reads, userId } = watching
    const watcher = watching.come('start')
    await watching.settle()
    await reads[0]?.execute()
    watcher.close()
    expect([hub.viewers(), [...hub.users()], [...hub.viewersOf(userId)]]).toEqual([0, [], []])
    reads[0]?.deliver()
    await watching.settle()
    expect([watcher.greeting, watcher.events, reads.length]).toEqual([undefined, [], 0])
  })
})
