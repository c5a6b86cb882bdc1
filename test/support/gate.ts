/** Transactions whose beginning and whose answer a test lets pass, one by one. */
import type { Transactions } from '../../src/db/database.ts'

/** Its states: asked → executed (committed, nobody knows) → delivered. */
export interface Held {
  executed: boolean
  execute(): Promise<void>
  /** After `execute`. */
  deliver(): void
  /** The answer is lost. */
  fail(error: Error): void
}

export interface Gate {
  transactions: Transactions
  /** In the order in which they were asked for. */
  held: Held[]
  /** From now on everything passes. */
  open(): Promise<void>
}

/** @param why which of the system's transactions are held; the others pass. */
export function createGate(transactions: Transactions, why: string): Gate {
  const held: Held[] = []
  let isOpen = false

  function hold<T>(run: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    let result: Promise<T> | undefined
    const leave = () => held.splice(held.indexOf(one), 1)
    const one: Held = {
      executed: false,
      async execute() {
        result = run()
        await result
        one.executed = true
      },
      deliver() {
        leave()
        if (result === undefined) throw new Error('not executed')
        resolve(result)
      },
      fail(error) {
        leave()
        reject(error)
      },
    }
    held.push(one)
    return promise
  }

  return {
    held,
    transactions: {
      asCaller: (caller, fn) => transactions.asCaller(caller, fn),
      asSystem: (name, fn) =>
        name === why && !isOpen
          ? hold(() => transactions.asSystem(name, fn))
          : transactions.asSystem(name, fn),
    },
    async open() {
      isOpen = true
      for (const one of [...held]) {
        if (!one.executed) await one.execute()
        one.deliver()
      }
    },
  }
}
