/**
 * Door of outbox: sends what was stored, and deletes what was confirmed. One an instance, each sink in a lane of its own
 * (lane.ts).
 *
 * Promises: what was committed is sent, or given up for a reason that is counted and logged; a row is never sent by two
 * live instances at once, and after a kill at worst twice; one relay begins a sink's events in the order in which they
 * were stored (what is tried again, or goes by another instance, may come later: a notification's `seq` says which is
 * newer). A database that is away is waited for, and the log says so once.
 *
 * Why this is no kind of `jobs`: a job is one piece of work with an identity, a handler and an end of its own, two
 * transactions each; these are batches of two hundred snapshots, a thousand a second, whose order matters, and of which
 * nobody wants a dead list. One lease, one statement and one commit are shared by a batch.
 */
import { isAway, type Transactions } from '../db/database.ts'
import type { Backoff } from '../jobs/backoff.ts'
import type { Logger } from '../logging.ts'
import { createLane, type Counters, type LaneTimes } from './lane.ts'
import { forget } from './queries.ts'
import { sinkNames, type Sink, type SinkName } from './sink.ts'

export type { EventToSend, Sink, SinkName, SendOutcome } from './sink.ts'

export interface Relay {
  /** Something was committed, or a sink is back. Any number of them are one look. @param sink whose; undefined: of every kind. */
  wake(sink?: SinkName): void
  /** Within two seconds. What was not confirmed by then is sent again by somebody. */
  close(): Promise<void>
  /** Since the start of this process. */
  stats(): RelayStats
}

export interface RelayStats extends Counters {
  /** Older than is kept. */
  expired: number
}

export interface RelayOptions {
  transactions: Transactions
  log: Logger
  /** May tables be reached? */
  ready: () => boolean
  /** Rows of other sinks are left alone: they are another instance's, or wait for their configuration. */
  sinks: Partial<Record<SinkName, Sink | undefined>>
  random?: () => number
  /** For tests. */
  times?: Partial<LaneTimes & { forgetEveryMs: number }>
}

/** From 2.25 to 3.75 s, with its spread. */
const pollMs = 3_000
const backoff: Backoff = { firstMs: 1_000, maxMs: 60_000 }
/** One event at a time costs little, and a receiver that is back should not have to wait for a minute. */
const awayBackoff: Backoff = { firstMs: 1_000, maxMs: 10_000 }
const leaseMs = 30_000
/** The broker has ten seconds for a confirm, the bridge five for an answer. */
const sendingMaxMs = 20_000
const unroutableMs = 10 * 60_000
/** Older events are no news, and a receiver that was away for longer begins anew. */
const keptDays = 7
const forgetEveryMs = 3_600_000
/** Rows of one such statement: there may be millions. */
const forgottenMax = 5_000
/** What is under way when the process ends gets this long, ms; with the storing of it, `closeMaxMs`. */
const closeGraceMs = 1_000
const closeMaxMs = 1_900
/** A kind of event that nobody has asked for is told of this often, ms. */
const unroutableToldEveryMs = 3_600_000

export function createRelay(options: RelayOptions): Relay {
  const { transactions, log, ready, sinks, random = Math.random } = options
  const times = {
    ...{ pollMs, backoff, awayBackoff, leaseMs, sendingMaxMs, unroutableMs, forgetEveryMs },
    ...options.times,
  }
  const stats: RelayStats = { sent: 0, unroutable: 0, refused: 0, failed: 0, expired: 0 }
  const unroutableToldAtMs = new Map<string, number>()
  const failing = new Set<string>()
  let stopping = false
  let closing: Promise<void> | undefined

  /** One line when the first of them fails, and one when all are well again. */
  function database(who: string, error?: unknown): void {
    const failed = failing.size > 0
    if (error === undefined) {
      failing.delete(who)
      if (failed && failing.size === 0) log.info({ event: 'outbox_resumed' }, 'events go out again')
      return
    }
    failing.add(who)
    if (failed || stopping) return
    const level = isAway(error) ? 'warn' : 'error'
    log[level]({ event: 'outbox_waiting', err: error }, 'events wait for the database')
  }

  function unroutable(routingKey: string): void {
    stats.unroutable++
    const nowMs = performance.now()
    if (nowMs - (unroutableToldAtMs.get(routingKey) ?? -Infinity) < unroutableToldEveryMs) return
    unroutableToldAtMs.set(routingKey, nowMs)
    log.warn({ event: 'outbox_unroutable', routingKey }, 'events are given up: no queue is bound for them')
  }

  const lanes = sinkNames.flatMap((name) => {
    const sink = sinks[name]
    if (sink === undefined) return []
    const shared = { transactions, log, ready, counters: stats, unroutable, random, times }
    const told = (error?: unknown) => database(name, error)
    return [{ name, lane: createLane({ name, sink, database: told, ...shared }) }]
  })

  async function forgetOld(): Promise<void> {
    let forgotten = 0
    try {
      if (!ready()) return
      forgotten = await transactions.asSystem('forget events', (tx) =>
        tx.commit(() => forget(tx, { keptDays, limit: forgottenMax })),
      )
      database('forget')
      stats.expired += forgotten
      if (forgotten > 0)
        log.warn({ event: 'outbox_expired', count: forgotten }, 'events that nobody has taken were given up')
    } catch (error) {
      database('forget', error)
    } finally {
      if (!stopping) forgetting = plan(forgotten === forgottenMax ? 0 : times.forgetEveryMs)
    }
  }
  function plan(inMs: number): NodeJS.Timeout {
    return setTimeout(() => void forgetOld(), inMs).unref()
  }
  // Not all instances at the same moment.
  let forgetting = plan(times.forgetEveryMs * random())

  async function close(): Promise<void> {
    clearTimeout(forgetting)
    let impatience: NodeJS.Timeout | undefined
    const longEnough = new Promise((resolve) => {
      impatience = setTimeout(resolve, closeMaxMs)
    })
    await Promise.race([Promise.all(lanes.map(({ lane }) => lane.close(closeGraceMs))), longEnough])
    clearTimeout(impatience)
  }

  return {
    wake(sink) {
      for (const { name, lane } of lanes) if (sink === undefined || sink === name) lane.wake()
    },
    close() {
      stopping = true
      closing ??= close()
      return closing
    },
    stats: () => ({ ...stats }),
  }
}
