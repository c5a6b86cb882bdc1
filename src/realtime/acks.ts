/**
 * What devices say that they have: `delivered_at` of the rows, for all users of this process in one statement a second.
 *
 * No log moves by it, so no head is locked; a row that somebody else changes at the moment is left out, since that
 * version is another one. A process that is killed forgets a second's worth: the cursor with which a device comes
 * back says the same again.
 */
import type { Transactions, Tx } from '../db/database.ts'
import { sql } from '../db/sql.ts'
import type { Logger } from '../logging.ts'

export interface Ack {
  userId: string
  epoch: string
  /** Its device has everything behind `after`, up to `upTo`. */
  after: number
  upTo: number
}

export interface Acks {
  note(ack: Ack): void
  /** Writes what is noted. */
  close(): Promise<void>
}

/** Numbers behind a cursor that a device comes with: what it was shown and did not acknowledge then is among them. */
export const lookBackMax = 500
/** Users of one statement: the others' turn is a second later. */
const usersMax = 1_000

export function createAcks(options: { transactions: Transactions; log: Logger; everyMs?: number }): Acks {
  const { transactions, log, everyMs = 1_000 } = options
  /** One for each user, so it is bounded by who is here. */
  const noted = new Map<string, Ack>()
  let failing = false
  let writing: Promise<void> | undefined

  function note(ack: Ack): void {
    const known = noted.get(ack.userId)
    // Of another log: that one is over.
    const merged =
      known?.epoch === ack.epoch
        ? { ...ack, after: Math.min(known.after, ack.after), upTo: Math.max(known.upTo, ack.upTo) }
        : ack
    noted.set(ack.userId, merged)
  }

  async function write(): Promise<void> {
    const some = [...noted.values().take(usersMax)]
    if (some.length === 0) return
    for (const { userId } of some) noted.delete(userId)
    try {
      await transactions.asSystem('acknowledge', (tx) => tx.commit(() => markDelivered(tx, some)))
      failing = false
    } catch (error) {
      // What was noted meanwhile of another log is newer.
      for (const ack of some) if ((noted.get(ack.userId)?.epoch ?? ack.epoch) === ack.epoch) note(ack)
      if (!failing) log.warn({ event: 'acks_unwritten', err: error }, 'what devices acknowledge waits')
      failing = true
    }
  }

  const timer = setInterval(() => {
    writing ??= write().finally(() => {
      writing = undefined
    })
  }, everyMs)
  timer.unref()

  return {
    note,
    async close() {
      clearInterval(timer)
      await writing
      while (noted.size > 0 && !failing) await write()
    },
  }
}

async function markDelivered(tx: Tx, acks: readonly Ack[]): Promise<void> {
  await tx.execute(sql`
    with ack as (
      select * from unnest(${acks.map(({ userId }) => userId)}::text[], ${acks.map(({ epoch }) => epoch)}::text[],
        ${acks.map(({ after }) => after)}::bigint[], ${acks.map(({ upTo }) => upTo)}::bigint[]) as a (user_id, epoch, after, up_to)
    ), delivered as (
      select n.id from ack a
      join chat.inbox_heads h on h.user_id = a.user_id and h.epoch = a.epoch
      -- One look into the log for each: joined, all of the table is read where PostgreSQL takes it for small.
      cross join lateral (
        select id from chat.notifications
        where user_id = a.user_id and seq > a.after and seq <= a.up_to and delivered_at is null and removed_at is null
        offset 0 for no key update skip locked) n
    )
    update chat.notifications n set delivered_at = now() from delivered d where n.id = d.id`)
}
