/**
 * Door of notifications: putting them into inboxes, and marking them, with all that follows: other ways are planned in
 * the same transaction, and whoever watches is woken when it is committed.
 */
import { enqueue } from '../jobs/jobs.ts'
import type { Transactions, Tx } from '../db/database.ts'
import type { Outbox } from '../outbox/outbox.ts'
import type { Head } from './heads.ts'
import { mark, publish, type NewNotification, type Published, type Selection } from './inbox.ts'
import { printCursor } from './log.ts'
import { appearedOf, type Planner } from './plan.ts'

export type { Head } from './heads.ts'
export type { Content, NewNotification, Published, Selection } from './inbox.ts'

export interface Inbox {
  /** Stores and tells: in a transaction of its own. */
  notify(entries: readonly NewNotification[]): Promise<Published[]>
  /** As the last work of a transaction as the system; call `told` after its commit. */
  notifyIn(tx: Tx, entries: readonly NewNotification[]): Promise<{ published: Published[]; told: () => void }>
  /** @returns which rows changed, and where the log stands now: null where it never began. */
  mark(caller: { userId: string }, selection: Selection, as: 'read' | 'archived'): Promise<Marked>
}

export interface Marked {
  changed: string[]
  unread: number
  cursor: string | null
}

export interface InboxDeps {
  transactions: Transactions
  planner: Planner
  /** These logs moved. */
  wake: (heads: readonly Head[]) => void
  /** There is background work, in so many ms. */
  wakeJobs: (inMs?: number) => void
  /** The planner's, where other services are told. */
  outbox?: Pick<Outbox, 'wake'> | undefined
}

/** Lets what was scheduled appear: appear.ts. */
export const appearKind = 'appear'
/** A timer is not set further ahead, ms: the queue is looked at long before. */
const wakeAheadMaxMs = 60_000

export function createInbox({ transactions, planner, wake, wakeJobs, outbox }: InboxDeps): Inbox {
  const tell = (heads: readonly Head[]) => {
    if (heads.length > 0) wake(heads)
  }

  async function notifyIn(tx: Tx, entries: readonly NewNotification[]) {
    const { published, heads } = await publish(tx, entries)
    const planned = await planner.plan(tx, appearedOf(entries, published))
    const first = firstScheduled(entries, published)
    if (first !== undefined) await enqueue(tx, appearJob(first))
    const told = () => {
      tell(heads)
      if (planned) wakeJobs()
      if (heads.length > 0) outbox?.wake('notification.events')
      if (first !== undefined) wakeJobs(Math.min(Math.max(Date.parse(first) - Date.now(), 0), wakeAheadMaxMs))
    }
    return { published, told }
  }

  return {
    notifyIn,
    async notify(entries) {
      const { published, told } = await transactions.asSystem('notify', (tx) => notifyIn(tx, entries))
      told()
      return published
    },
    async mark(caller, selection, as) {
      const { changed, head } = await transactions.asCaller(caller, (tx) =>
        tx.commit(() => mark(tx, caller.userId, selection, as)),
      )
      if (head === undefined) return { changed, unread: 0, cursor: null }
      if (changed.length > 0) tell([head])
      return { changed, unread: head.unread, cursor: printCursor(head) }
    },
  }
}

/** One job for each time: it moves all that is due by then, and adds the next one. RFC 3339. */
export const appearJob = (at: string) => {
  const time = new Date(at).toISOString()
  return { kind: appearKind, key: time, userId: null, payload: {}, at: time }
}

function firstScheduled(
  entries: readonly NewNotification[],
  published: readonly Published[],
): string | undefined {
  const times = published.flatMap(({ outcome }, index) => {
    const at = entries[index]?.scheduledAt
    return outcome === 'scheduled' && at != null ? [at] : []
  })
  return times.toSorted((one, other) => Date.parse(one) - Date.parse(other))[0]
}
