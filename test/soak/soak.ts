/**
 * `npm run soak [-- --seed N] [--only cuts,kills,…] [--case N] [--quick] [--broker]`: hours of bad luck in a quarter of an hour.
 *
 * It brings its own PostgreSQL, and ends by itself: exit code 1 where anything was violated, with the command that
 * shows it again.
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { prepareDatabase, startCluster } from '../support/cluster.ts'
import type { Ledger } from './ledger.ts'
import { parts } from './parts.ts'
import { printTable, printViolations, showProgress } from './report.ts'
import { createWorld } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    only: { type: 'string' },
    case: { type: 'string' },
    quick: { type: 'boolean', default: false },
    broker: { type: 'boolean', default: false },
  },
})
const seed = values.seed === undefined ? randomInt(1, 1_000_000) : numberOf('seed', values.seed)
const only = values.case === undefined ? undefined : numberOf('case', values.case)
const { quick, broker } = values
const names = values.only?.split(',') ?? parts.map(({ name }) => name)
for (const name of names)
  if (!parts.some((part) => part.name === name))
    refuse(`--only: ${name} is none of ${parts.map((part) => part.name).join(', ')}`)
if (only !== undefined && names.length !== 1) refuse('--case goes with one part: --only kills --case 37')

const out = { write: (text: string) => void process.stdout.write(text), isTTY: process.stdout.isTTY }
const releases = new Set<() => Promise<void>>()
let isInterrupted = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void interrupted())

out.write(`soak with seed ${seed}${quick ? ', quick' : ''}\n`)
const ledgers = await soak().catch((error: unknown) => {
  // What an interruption takes away is missed by whoever was at work.
  if (isInterrupted) return new Promise<never>(() => undefined)
  throw error
})
out.write('\n')
printTable(ledgers, out.write)
printViolations(ledgers, { seed, quick }, out.write)
const violated = ledgers.reduce((sum, { violations }) => sum + violations.length, 0)
out.write(
  violated === 0 ? `\nNothing was violated (seed ${seed}).\n` : `\n${violated} violations (seed ${seed}).\n`,
)
// At once: a case that failed may have left something waiting.
process.exit(violated === 0 ? 0 : 1)

async function soak(): Promise<Ledger[]> {
  const cluster = await startCluster()
  releases.add(() => cluster.stop())
  const database = await cluster.create()
  await prepareDatabase(cluster.urlOf(database))
  const world = await createWorld(cluster.urlOf(database))
  try {
    const found: Ledger[] = []
    for (const part of parts.filter(({ name }) => names.includes(name))) {
      const count = quick ? part.quick : part.full
      const progress = showProgress(part, count, out)
      const orders = { seed, count, only, quick, broker, patience: 1, progress: progress.update, releases }
      const ledger = await part.run(world, orders)
      for (const death of world.deaths())
        ledger.check('no instance ends by itself', undefined, false, () => death)
      progress.end(ledger.violations.length)
      found.push(ledger)
    }
    return found
  } finally {
    await world.close()
    await cluster.stop()
  }
}

/** Servers that would outlive us. Our instances end with us. A signal to the whole group may arrive twice. */
async function interrupted(): Promise<void> {
  if (isInterrupted) return
  isInterrupted = true
  await Promise.allSettled([...releases].map((release) => release()))
  process.exit(130)
}

function numberOf(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) refuse(`--${name} is a whole number`)
  return Number(text)
}

function refuse(words: string): never {
  process.stderr.write(`${words}\n`)
  process.exit(2)
}
