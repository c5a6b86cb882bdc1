/** What all parts have in common: their orders, their cases, several at once. */
import { createLedger, type Ledger } from './ledger.ts'
import type { World } from './world.ts'

export interface Orders {
  seed: number
  /** How many cases, or whatever the part counts. */
  count: number
  /** This case alone. */
  only: number | undefined
  /** Nobody waits for a heartbeat to grow old, or for a long grace. */
  quick: boolean
  /** RabbitMQ itself may be stopped and started: it is nobody else's. */
  broker?: boolean
  /** Times may be longer by this factor: 1, or more where other work shares the machine. */
  patience: number
  progress: (done: number, of: number) => void
  /** What would outlive this process, and how it is ended: for who interrupts it. */
  releases: Set<() => Promise<void>>
}

export type Part = (world: World, orders: Orders) => Promise<Ledger>

/**
 * Runs the cases from 1 on, `atOnce` at a time, until `enough` says so. A case that throws is a violation.
 *
 * @param run returns how much of the part's count the case was worth.
 */
export async function runCases(
  name: string,
  orders: Orders,
  atOnce: number,
  run: (caseNumber: number, ledger: Ledger) => Promise<number>,
): Promise<Ledger> {
  const ledger = createLedger(name)
  const { only, count, progress } = orders
  let done = 0
  let promised = 0
  let next = only ?? 1
  const worker = async () => {
    // What runs counts as one until it is known: at the end no more cases are begun than needed.
    while (only === undefined ? done + promised < count : next === only) {
      const caseNumber = next++
      promised++
      let worth = 1
      try {
        worth = await run(caseNumber, ledger)
      } catch (error) {
        const words = error instanceof Error ? (error.stack ?? error.message) : String(error)
        ledger.check('a case goes through', caseNumber, false, () => words)
      }
      promised--
      done += worth
      progress(Math.min(done, count), count)
    }
  }
  await Promise.all(Array.from({ length: only === undefined ? atOnce : 1 }, worker))
  return ledger
}

/** At most `atOnce` of what is given to it run at a time. */
export function createGate(atOnce: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let running = 0
  return async (work) => {
    if (running >= atOnce) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await work()
    } finally {
      const following = waiting.shift()
      if (following === undefined) running--
      else following()
    }
  }
}
