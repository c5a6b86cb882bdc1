/** The short soak: the same parts as `npm run soak`, each with a small count and a fixed seed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cloneDatabase } from '../support/service.ts'
import type { Ledger } from './ledger.ts'
import { parts, replay } from './parts.ts'
import { createWorld, type World } from './world.ts'

const seed = Number(process.env['SEED'] ?? 20_261_121)
/** Other test files share the machine: times are judged by `npm run soak`, here only what is out of all proportion. */
const patience = 10
/** What mostly waits runs beside what mostly works; within a lane one part comes after the other. */
const lanes = [
  ['cuts', 'instances', 'stops', 'once'],
  ['kills'],
  ['restarts', 'shutdown'],
  ['inbox', 'serial'],
  ['events'],
]

let world: World
let drop: () => Promise<void>
const ledgers = new Map<string, Promise<Ledger>>()

beforeAll(async () => {
  const database = await cloneDatabase()
  drop = database.drop
  world = await createWorld(database.url)
  for (const lane of lanes) {
    let before: Promise<unknown> = Promise.resolve()
    for (const part of lane.flatMap((name) => parts.filter((candidate) => candidate.name === name))) {
      const ledger = before.then(() => part.run(world, ordersFor(part.quick)))
      before = ledger.catch(() => undefined)
      ledgers.set(part.name, ledger)
    }
  }
})
afterAll(async () => {
  await Promise.allSettled(ledgers.values())
  await world.close()
  await drop()
})

const ordersFor = (count: number) => ({
  seed,
  count,
  only: undefined,
  quick: true,
  patience,
  progress: () => undefined,
  releases: new Set<never>(),
})

describe(`with bad luck (seed ${seed})`, () => {
  it.each(parts)(
    '$name: $promise',
    async ({ name }) => {
      const ledger = await ledgers.get(name)
      const violations = ledger?.violations.map(
        ({ property, caseNumber, detail }) =>
          `${property}\n${replay(seed, name, caseNumber, true)}\n${detail}`,
      )
      expect(violations).toEqual([])
      expect(ledger?.rows().length).toBeGreaterThan(0)
      expect(world.deaths()).toEqual([])
    },
    240_000,
  )
})
