/**
 * Door of db: group commit. What many ask for at the same time is stored together: whoever comes while as many transactions
 * are under way as may be goes with the next one, so many a second are few commits, and one alone waits for nobody.
 *
 * Promises: each is answered by itself, and asks are begun in the order in which they came. Where a transaction of several
 * fails, each of them is stored alone: one that cannot be stored, or waits for a lock, costs no other more than time.
 */
import { AppError } from '../errors.ts'
import { isLocked } from './failures.ts'
import { CommitInDoubt } from './transact.ts'

export interface GroupCommitOptions<Ask, Answer> {
  /** In one transaction. @returns an answer for each ask, in their order. */
  store: (asks: readonly Ask[]) => Promise<readonly Answer[]>
  /** Transactions under way: while one waits for the disk, the next one works. */
  atOnceMax?: number
  /** Asks of one: with more, all wait for the slowest. */
  groupMax?: number
}

/** Asks that are stored alone, at once. */
const aloneMax = 3

interface Waiting<Ask, Answer> {
  ask: Ask
  resolve: (answer: Answer) => void
  reject: (error: unknown) => void
}

export function createGroupCommit<Ask, Answer>({
  store,
  atOnceMax = 2,
  groupMax = 100,
}: GroupCommitOptions<Ask, Answer>): (ask: Ask) => Promise<Answer> {
  const waiting: Waiting<Ask, Answer>[] = []
  let running = 0
  let beginning = false

  /** At the end of this turn: who else comes in it goes along. */
  function begin(): void {
    if (beginning || running >= atOnceMax || waiting.length === 0) return
    beginning = true
    setImmediate(() => {
      beginning = false
      running++
      void run(waiting.splice(0, groupMax)).finally(() => {
        running--
        begin()
      })
      begin()
    })
  }

  async function run(group: readonly Waiting<Ask, Answer>[]): Promise<void> {
    try {
      const answers = await store(group.map(({ ask }) => ask))
      for (const [index, { resolve }] of group.entries()) resolve(answers[index] as Answer)
    } catch (error) {
      // Whether these were stored nobody knows: they are not tried again. Those who wait were not begun.
      if (error instanceof CommitInDoubt) refuse(group, error)
      else if (isGone(error)) refuse([...group, ...waiting.splice(0)], error)
      else if (group.length === 1) refuse(group, error)
      else await eachAlone(group)
    }
  }

  /** A few at a time: those that wait for a lock must not have all connections. */
  async function eachAlone(group: readonly Waiting<Ask, Answer>[]): Promise<void> {
    const left = group.values()
    const one = async () => {
      for (const single of left) await run([single])
    }
    await Promise.all(Array.from({ length: aloneMax }, one))
  }

  return (ask) =>
    new Promise((resolve, reject) => {
      waiting.push({ ask, resolve, reject })
      begin()
    })
}

function refuse<Ask, Answer>(asks: readonly Waiting<Ask, Answer>[], error: unknown): void {
  for (const { reject } of asks) reject(error)
}

/** Of a database that is gone nobody hears more by asking it once for each, or again for those who wait. */
const isGone = (error: unknown): boolean =>
  error instanceof AppError && error.code === 'database_unavailable' && !isLocked(error.cause)
