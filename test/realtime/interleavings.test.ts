/**
 * The seam that is none: a viewer comes while its log moves. Every order in which commits, their wake-ups, the coming of
 * the viewer, and the beginning and the end of each read can follow each other is played over a real database, and it ends
 * with everything, in the log's order, no version twice. What is too much to play in full is played by chance.
 */
import { describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { randomOf } from '../soak/random.ts'
import { ownDatabase } from '../support/own-database.ts'
import { expectAll, startWatching, type Watcher, type Watching } from '../support/watching.ts'

let database: Database
ownDatabase(4, (own) => ({ database } = own))

interface Scenario {
  /** What each commit publishes. A name that comes again is the same row: it moves. */
  commits: readonly (readonly string[])[]
  since: 'start' | undefined
  /** Wake-ups come in the order of their commits, as over the bus. */
  inOrder?: boolean
  pageRows?: number
}

interface Play {
  /** What may happen next. Empty: it is over. */
  choices(): string[]
  take(choice: string): Promise<void>
  finish(): Promise<void>
}

async function begin({ commits, since, inOrder = false, pageRows = 50 }: Scenario): Promise<Play> {
  const watching = await startWatching(database, { pageRows })
  const { hub, userId, reads } = watching
  const pending = new Map<number, number>()
  let committed = 0
  let watcher: Watcher | undefined

  return {
    choices: () => [
      ...(committed < commits.length ? ['commit'] : []),
      ...(watcher === undefined ? ['come'] : []),
      ...[...pending.keys()].slice(0, inOrder ? 1 : undefined).map((n) => `wake ${n}`),
      ...reads.map(({ executed }, n) => `${executed ? 'deliver' : 'execute'} ${n}`),
    ],
    async take(choice) {
      const [verb, number] = choice.split(' ')
      const n = Number(number)
      if (verb === 'commit') {
        pending.set(committed, await watching.publish(commits[committed] ?? []))
        committed++
      } else if (verb === 'come') watcher = watching.come(since)
      else if (verb === 'execute') await reads[n]?.execute()
      else if (verb === 'deliver') reads[n]?.deliver()
      else {
        hub.wake(userId, pending.get(n) ?? 0)
        pending.delete(n)
      }
      await watching.settle()
    },
    async finish() {
      if (watcher === undefined) throw new Error('nobody came')
      expectAll(watcher, await watching.stored())
      await watching.close()
    },
  }
}

/** Plays every order. @returns how many there are. */
async function playAll(scenario: Scenario): Promise<number> {
  /** Which choice was taken at each step, and of how many. */
  const path: { taken: number; of: number }[] = []
  for (let plays = 1; ; plays++) {
    const play = await begin(scenario)
    const said: string[] = []
    for (let step = 0; ; step++) {
      const choices = play.choices()
      if (choices.length === 0) break
      const choice = (path[step] ??= { taken: 0, of: choices.length })
      said.push(choices[choice.taken] ?? '')
      await play.take(said.at(-1) ?? '')
    }
    await finish(play, said)
    while ((path.at(-1)?.taken ?? 0) + 1 >= (path.at(-1)?.of ?? Infinity)) path.pop()
    const last = path.at(-1)
    if (last === undefined) return plays
    last.taken++
  }
}

async function playSome(scenario: Scenario, plays: number): Promise<void> {
  for (let n = 0; n < plays; n++) {
    const random = randomOf(7, 'orders', n)
    const play = await begin(scenario)
    const said: string[] = []
    for (;;) {
      const [first, ...others] = play.choices()
      if (first === undefined) break
      said.push(random.pick([first, ...others]))
      await play.take(said.at(-1) ?? '')
    }
    await finish(play, said)
  }
}

async function finish(play: Play, said: readonly string[]): Promise<void> {
  try {
    await play.finish()
  } catch (error) {
    throw new Error(`played: ${said.join(', ')}`, { cause: error })
  }
}

/** With INTERLEAVINGS=all: every order of three commits too, 7,083 for each, which takes a quarter of an hour. */
const thorough = process.env['INTERLEAVINGS'] === 'all'

describe.each([
  ['without a cursor', undefined],
  ['with one', 'start'],
] as const)('a viewer that comes %s', (_, since) => {
  it('while one is published: every order', async () => {
    expect(await playAll({ commits: [['a']], since })).toBe(10)
  })

  it('while two are published at once, a row to a page: every order', async () => {
    expect(await playAll({ commits: [['a', 'b']], since, pageRows: 1 })).toBeGreaterThan(9)
  })

  it('while a row appears and moves: every order', { timeout: 120_000 }, async () => {
    expect(await playAll({ commits: [['a'], ['a']], since })).toBe(318)
  })

  it('while three commits publish and move rows: orders by chance', { timeout: 120_000 }, async () => {
    const commits = [['a'], ['b', 'a'], ['base', 'c']]
    await playSome({ commits, since }, 60)
    await playSome({ commits, since, pageRows: 1 }, 60)
  })

  it.runIf(thorough)('while three are published: every order', { timeout: 7_200_000 }, async () => {
    const plays = await playAll({ commits: [['a'], ['b'], ['a']], since, inOrder: true })
    process.stdout.write(`${plays} orders\n`)
  })
})

describe('several viewers who come, are full, go on, go back and go', () => {
  it(
    'all end with everything, whatever gets lost on the way: reads, wake-ups',
    { timeout: 120_000 },
    async () => {
      for (let n = 0; n < 100; n++) {
        const watching = await startWatching(database, { pageRows: 1 + (n % 3) })
        try {
          await muddle(watching, n)
        } catch (error) {
          throw new Error(`muddle ${n}`, { cause: error })
        } finally {
          await watching.close()
        }
      }
    },
  )
})

async function muddle(watching: Watching, n: number): Promise<void> {
  const random = randomOf(7, 'muddle', n)
  const { hub, userId, reads } = watching
  const watchers: Watcher[] = []
  const pending: number[] = []
  const names = ['a', 'b', 'c', 'd', 'base'] as const

  for (let step = 0; step < 40; step++) {
    const act = random.int(0, 11)
    const watcher = watchers[random.int(0, Math.max(0, watchers.length - 1))]
    const read = reads[random.int(0, Math.max(0, reads.length - 1))]
    if (act <= 1) pending.push(await watching.publish([random.pick(names), random.pick(names)]))
    else if (act <= 3) hub.wake(userId, pending.splice(random.int(0, pending.length), 1)[0] ?? 0)
    else if (act === 4 && watchers.length < 3)
      watchers.push(watching.come(random.chance(0.5) ? 'start' : undefined, random.int(1, 4)))
    else if (act === 5) watcher?.resume(random.int(1, 3))
    else if (act === 6 && watcher?.greeting !== undefined) {
      const told = [watcher.greeting.cursor, ...watcher.events.map(({ seq }) => seq)] as [number, ...number[]]
      watcher.sync(random.pick(told))
    } else if (act === 7) watcher?.head()
    else if (act === 8 && watcher !== undefined && random.chance(0.2)) {
      watcher.close()
      watchers.splice(watchers.indexOf(watcher), 1)
    } else if (act === 9 && random.chance(0.1)) read?.fail(new Error('the database is gone'))
    else if (read?.executed === true) read.deliver()
    else await read?.execute()
    await watching.settle()
  }

  for (const watcher of watchers) watcher.resume(Infinity)
  await watching.open()
  // Wake-ups were lost.
  hub.sweep()
  const stored = await watching.stored()
  for (const watcher of watchers)
    await expect.poll(() => expectAll(watcher, stored), { timeout: 5_000, interval: 5 }).toBeUndefined()
}
