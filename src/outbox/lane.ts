/**
 * One sink's way out of the table: look (store what became of the last batch, take the next one) → send → look.
 *
 * States of the sink: well → away after a batch of which nothing got an answer, and well again with the first that does.
 * While it is away one event is tried at a time, less and less often, so that the others need no further patience when it
 * is back. One that says itself that it is down is not tried at all.
 */
import { backoffMs, type Backoff } from '../jobs/backoff.ts'
import type { Transactions } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import { conclude, take, type Conclusion, type TakenEvent } from './queries.ts'
import type { Sink, SinkName, SendOutcome } from './sink.ts'

export interface LaneDeps {
  name: SinkName
  sink: Sink
  transactions: Transactions
  log: Logger
  /** May tables be reached? */
  ready: () => boolean
  /** Whether the database answered. */
  database: (error?: unknown) => void
  counters: Counters
  /** Told of each kind of event that nobody has asked for, whenever one is given up. */
  unroutable: (routingKey: string) => void
  random: () => number
  times: LaneTimes
}

export interface Counters {
  /** Confirmed by their receivers. */
  sent: number
  /** Given up, since nobody had asked for such events. */
  unroutable: number
  /** Given up, since their receiver will never take them. */
  refused: number
  /** Attempts that ended without an answer: those events are tried again. */
  failed: number
}

export interface LaneTimes {
  /** Between two looks of an idle lane, ms: what other instances left is found that late at most. */
  pollMs: number
  /** Of an event that is tried again. */
  backoff: Backoff
  /** Of a sink that is away. */
  awayBackoff: Backoff
  /** What was taken is somebody else's after this long, ms. More than `sendingMaxMs` and the storing of what came of it. */
  leaseMs: number
  /** A batch has this long, ms: longer than any sink's own timeout. What is not begun in half of it is left for the next. */
  sendingMaxMs: number
  /** An event that nobody has asked for is tried again for so long, ms: a receiver may be about to begin. */
  unroutableMs: number
}

export interface Lane {
  /** Something was committed. */
  wake(): void
  /** Nothing more is begun; what is under way gets `graceMs`. What was confirmed by then is deleted. */
  close(graceMs: number): Promise<void>
}

/** Rows of one statement, and events in memory: 200 notifications are a few hundred kilobytes. */
const batchMax = 200
/** After a look the next one waits for company, ms: a thousand events a second are then fifty looks and not a thousand. */
const gatherMs = 20
/** A sink that says that it is down is asked this often, ms: asking costs nothing. */
const downMs = 250
/** After an error of the database nobody asks it for so long, however often the lane is woken, ms. */
const databaseMs = 500
/** One that was stored while the broker was away is old at its first attempt: it gets some more. */
const unroutableAttemptsMin = 12

/** `away`: tried, and no answer. `cut`: the process ended before there was one. */
type Fate = SendOutcome | 'away' | 'cut'

export function createLane(deps: LaneDeps): Lane {
  const { name, sink, transactions, log, ready, database, counters, random, times } = deps
  let timer: NodeJS.Timeout | undefined
  let timerAtMs = Infinity
  let lookedAtMs = -Infinity
  let looking: Promise<void> | undefined
  let wokenMeanwhile = false
  let stopping = false
  let cut: () => void = () => undefined
  /** Of a batch that was sent: stored by the next look that reaches the database. */
  let unstored: Conclusion | undefined
  let failures = 0
  /** It was said that something fails, and not yet that all is well again. */
  let troubled = false
  /** Nothing is taken before then. */
  let awayUntilMs = -Infinity

  function schedule(inMs: number): void {
    const atMs = performance.now() + inMs
    if (stopping || atMs >= timerAtMs) return
    clearTimeout(timer)
    timerAtMs = atMs
    timer = setTimeout(look, inMs)
    timer.unref()
  }

  const waitMs = () => Math.max(awayUntilMs - performance.now(), sink.isUp() ? 0 : downMs)
  const gatheringMs = () => Math.max(lookedAtMs + gatherMs - performance.now(), 0)
  /** Not all instances at the same moment. */
  const idleMs = () => times.pollMs * (0.75 + random() / 2)

  function wake(): void {
    if (looking !== undefined) wokenMeanwhile = true
    else if (waitMs() <= 0) schedule(gatheringMs())
  }

  function look(): void {
    timerAtMs = Infinity
    looking = pass()
      .catch((error: unknown) => {
        database(error)
        awayUntilMs = Math.max(awayUntilMs, performance.now() + databaseMs)
        return databaseMs
      })
      .then((nextMs) => {
        looking = undefined
        schedule(nextMs)
        if (wokenMeanwhile) wake()
        wokenMeanwhile = false
      })
  }

  /** @returns when to look again, ms. */
  async function pass(): Promise<number> {
    const sinkInMs = waitMs()
    const limit = stopping || sinkInMs > 0 ? 0 : failures > 0 ? 1 : batchMax
    if (!ready() || (limit === 0 && unstored === undefined)) return Math.max(sinkInMs, downMs)
    lookedAtMs = performance.now()
    const concluded = unstored
    const events = await transactions.asSystem('outbox', (tx) =>
      tx.commit(async () => {
        const [, taken] = await Promise.all([
          concluded && conclude(tx, concluded),
          limit > 0 ? take(tx, name, { limit, leaseMs: times.leaseMs }) : [],
        ])
        return taken
      }),
    )
    unstored = undefined
    database()
    if (events.length > 0) {
      const fates = await send(events)
      unstored = concludeFrom(events, fates)
      noteHealth([...fates.values()])
      return events.length === batchMax ? 0 : gatheringMs()
    }
    return Math.min(idleMs(), ...againInMs(concluded), sinkInMs > 0 ? sinkInMs : Infinity)
  }

  /** Begins them in their order. @returns what became of those that were begun. */
  async function send(events: readonly TakenEvent[]): Promise<Map<string, Fate>> {
    const fates = new Map<string, Fate>()
    const { promise: over, resolve: end } = Promise.withResolvers<Fate>()
    // Since before they were leased, however long that took.
    const clock = setTimeout(() => end('away'), lookedAtMs + times.sendingMaxMs - performance.now())
    cut = () => end('cut')
    const beginUntilMs = lookedAtMs + times.sendingMaxMs / 2
    const left = events.values()
    let unanswered = false
    const one = async () => {
      for (const event of left) {
        if (stopping || unanswered || performance.now() > beginUntilMs) return
        let why: unknown
        const answer = Promise.try(() => sink.send(event)).catch((error: unknown): Fate => {
          why = error
          return 'away'
        })
        const fate = await Promise.race([answer, over])
        fates.set(event.id, fate)
        if (fate !== 'away') continue
        unanswered = true
        noteTrouble(why)
      }
    }
    await Promise.all(Array.from({ length: Math.min(sink.atOnceMax ?? batchMax, events.length) }, one))
    clearTimeout(clock)
    cut = () => undefined
    return fates
  }

  function concludeFrom(events: readonly TakenEvent[], fates: ReadonlyMap<string, Fate>): Conclusion {
    const conclusion: Conclusion = { gone: [], again: [] }
    for (const event of events) {
      const { id, leasedUntil, attempt } = event
      const fate = fates.get(id)
      if (isOver(event, fate)) conclusion.gone.push(id)
      // It may have arrived: it stays leased for a while rather than go out twice at once.
      else if (fate !== 'cut')
        conclusion.again.push({
          id,
          leasedUntil,
          afterMs: fate === undefined ? null : backoffMs(times.backoff, attempt, random),
        })
    }
    return conclusion
  }

  function isOver({ id, routingKey, attempt, ageMs }: TakenEvent, fate: Fate | undefined): boolean {
    if (typeof fate === 'object') {
      counters.refused++
      log.warn(
        { event: 'outbox_refused', sink: name, eventId: id, routingKey, why: fate.refused },
        'an event was refused',
      )
      return true
    }
    switch (fate) {
      case 'sent':
        counters.sent++
        return true
      case 'unroutable': {
        const over = ageMs >= times.unroutableMs && attempt >= unroutableAttemptsMin
        if (over) deps.unroutable(routingKey)
        return over
      }
      case 'away':
        counters.failed++
        return false
      case 'cut':
      case undefined:
        return false
      default:
        return fate satisfies never
    }
  }

  /** Any answer is a sign of life: what one event does not get, another may. */
  function noteHealth(fates: readonly Fate[]): void {
    const failed = fates.includes('away')
    if (fates.some((fate) => fate !== 'away' && fate !== 'cut')) {
      failures = 0
      if (troubled && !failed) {
        troubled = false
        log.info({ event: 'outbox_sink_back', sink: name }, 'events are sent again')
      }
    } else if (failed) {
      failures++
      awayUntilMs = performance.now() + backoffMs(times.awayBackoff, failures, random)
    }
  }

  function noteTrouble(error: unknown): void {
    if (troubled || stopping) return
    troubled = true
    log.warn({ event: 'outbox_sink_away', sink: name, err: error }, 'events wait for their receiver')
  }

  schedule(idleMs())
  return {
    wake,
    async close(graceMs) {
      stopping = true
      clearTimeout(timer)
      const impatience = setTimeout(() => cut(), graceMs)
      await looking
      clearTimeout(impatience)
      if (unstored !== undefined) await pass().catch(() => undefined)
    },
  }
}

/** Of those that are tried again. */
const againInMs = (concluded: Conclusion | undefined): number[] =>
  (concluded?.again ?? []).map(({ afterMs }) => afterMs ?? 0)
