/**
 * Door of operations: the metrics. What happens is told to `recorder`; what is, is asked for at the moment of a scrape.
 *
 * A scrape waits for nobody. What only the database knows is read in the background, at most once a minute, and is old
 * or left out while the database is away.
 */
import { Gauge, Registry } from 'prom-client'
import type { Database } from '../db/database.ts'
import type { Logger } from '../logging.ts'
import { createCounters, type Counters } from './counters.ts'
import { gaugesOf } from './gauge.ts'
import { watchNeighbours, type Neighbours } from './neighbours.ts'
import { watchProcess } from './process.ts'
import { countForMetrics, type Counts } from './queries.ts'
import type { Recorder } from './recorder.ts'
import { createSample } from './sample.ts'

export interface Metrics {
  recorder: Recorder
  requestEnded: Counters['requestEnded']
  /** Who is asked at a scrape, as they come to be. */
  watch(sources: Partial<Sources>): void
  scrape(): Promise<string>
  contentType: string
  close(): void
}

/** Asked at each scrape: they answer at once, from memory. */
export interface Sources {
  generationsRunning: () => number
  viewers: () => number
  sockets: () => number
  journalLagMs: () => number
  neighbours: () => Neighbours
}

/** Between two counts in the database, ms. */
const countEveryMs = 60_000
/** How long a count is shown when no newer one can be had, ms. */
const countKeptMs = 5 * 60_000
/** Between two questions whether it is there, ms: less than scrapes are apart. */
const pingEveryMs = 1_000
const pingTimeoutMs = 1_000
/** An answer older than this says nothing about now, ms. */
const pingKeptMs = 2 * 60_000

export function createMetrics(options: {
  /** Models with series of their own; all others are `other`. */
  knownModels: Iterable<string>
  db: Pick<Database, 'asSystem' | 'ping' | 'connections' | 'state'>
  log: Logger
}): Metrics {
  const { knownModels, db, log } = options
  const registry = new Registry()
  const counters = createCounters(registry, knownModels)
  const sources: Partial<Sources> = {}

  const counts = createSample({
    read: () => db.asSystem('metrics', (tx) => countForMetrics(tx)),
    everyMs: countEveryMs,
    keptMs: countKeptMs,
    onError: (error) =>
      log.warn({ event: 'metrics_uncounted', err: error }, 'what the metrics show of the database is old'),
  })
  const up = createSample({
    read: () =>
      db.ping(pingTimeoutMs).then(
        () => 1,
        () => 0,
      ),
    everyMs: pingEveryMs,
    keptMs: pingKeptMs,
    onError: () => undefined,
  })

  const gauge = gaugesOf(registry)

  gauge('rivulet_generations_running', 'Answers that this process is writing.', () =>
    sources.generationsRunning?.(),
  )
  gauge('rivulet_viewers', 'Open event streams of this process.', () => sources.viewers?.())
  gauge('rivulet_sockets', 'Open WebSockets of this process.', () => sources.sockets?.())
  gauge('rivulet_journal_lag_seconds', 'Age of the oldest event that is not stored yet.', () => {
    const lagMs = sources.journalLagMs?.()
    return lagMs === undefined ? undefined : lagMs / 1000
  })

  watchNeighbours(registry, () => sources.neighbours?.() ?? {})

  const latest = (name: keyof Counts) => () => (db.state() === 'ready' ? counts.latest()?.[name] : undefined)
  gauge(
    'conversations_active_total',
    'Conversations with status active, of all users: the same on every instance. Counted once a minute.',
    latest('conversationsActive'),
  )
  gauge(
    'rivulet_user_tokens_hour_max',
    'The most tokens that one user used within the last hour: the same on every instance. Counted once a minute.',
    latest('userTokensHourMax'),
  )
  gauge(
    'rivulet_jobs_queued',
    'Jobs that are due and that nobody is at: the same on every instance. Counted once a minute.',
    latest('jobsQueued'),
  )
  gauge(
    'rivulet_jobs_dead',
    'Jobs on the dead list, expected ones too: the same on every instance. Counted once a minute.',
    latest('jobsDead'),
  )
  gauge(
    'rivulet_outbox_pending',
    'Events for other services that are not sent yet: the same on every instance. Counted once a minute.',
    latest('outboxPending'),
  )

  gauge(
    'rivulet_database_up',
    'Whether the database may be used, and answered when it was last asked: at the scrape before.',
    () => (db.state() === 'ready' ? up.latest() : 0),
  )
  new Gauge({
    name: 'rivulet_database_connections',
    help: 'Open connections by pool and by what they do.',
    labelNames: ['pool', 'state'],
    registers: [registry],
    collect() {
      for (const { pool, open, idle } of db.connections()) {
        this.set({ pool, state: 'busy' }, open - idle)
        this.set({ pool, state: 'idle' }, idle)
      }
    },
  })
  new Gauge({
    name: 'rivulet_database_waiting',
    help: 'Transactions that wait for a connection.',
    labelNames: ['pool'],
    registers: [registry],
    collect() {
      for (const { pool, waiting } of db.connections()) this.set({ pool }, waiting)
    },
  })

  return {
    recorder: counters,
    requestEnded: counters.requestEnded,
    watch: (more) => void Object.assign(sources, more),
    scrape: () => registry.metrics(),
    contentType: registry.contentType,
    close: watchProcess(registry),
  }
}
