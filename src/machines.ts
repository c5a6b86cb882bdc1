/**
 * The machines: all that runs whether or not anybody asks over HTTP, built in reading order. What is made here is stopped
 * by `stop`, and released by `release` in the opposite order.
 */
import { v7 as uuidv7 } from 'uuid'
import { createAssessments } from './assessments/assessments.ts'
import { createPseudonyms } from './auth/pseudonym.ts'
import { type TokenKeys } from './auth/tokens.ts'
import { createPostgresBus } from './bus/postgres-bus.ts'
import { createRedisBus } from './bus/redis-bus.ts'
import { type Config } from './config.ts'
import { createTokenCounts } from './context/counts.ts'
import type { TellDevices } from './conversations/changes.ts'
import { createTitles, titleKind } from './conversations/title-job.ts'
import { createDatabase } from './db/database.ts'
import {
  createEngine,
  createJournal,
  createMirrors,
  createReaper,
  createWatched,
  heedStops,
  tellStops,
} from './generation/engine.ts'
import { createLinks } from './http/links.ts'
import { createSharedCounts } from './http/rate-limit-redis.ts'
import { createLimitStore } from './http/rate-limit-store.ts'
import { createJobs } from './jobs/jobs.ts'
import type { Logger } from './logging.ts'
import { createSendQueue } from './messages/queue.ts'
import { createNeighbours } from './neighbours.ts'
import { createChatNews } from './notifications/from-chat.ts'
import { createNotifications } from './notifications/notifications.ts'
import { observeAttempts } from './operations/attempt-status.ts'
import { createMetrics } from './operations/metrics.ts'
import { createRealtime } from './realtime/realtime.ts'
import { createAttempts } from './upstream/attempts.ts'
import { createBreakers } from './upstream/breakers.ts'
import { createModelChain } from './upstream/chain.ts'
import { createFreeBudget } from './upstream/free-budget.ts'
import { createFreeTurns } from './upstream/free-turns.ts'
import { createLatencies } from './upstream/latency.ts'
import { createCatalogue } from './upstream/models.ts'
import { createUpstream } from './upstream/openrouter.ts'
import { createBilling } from './upstream/reconcile.ts'
import { createReconcileHandler, reconcileKind } from './usage/reconcile.ts'

/** What the environment may leave open, and main.ts fills in with embedded parts. */
export interface Resolved {
  databaseUrl: string
  /** Nobody else uses this database: what a dead process left running can be settled at the start. */
  exclusive: boolean
  tokenKeys: TokenKeys
  upstream: { baseUrl: string; apiKey: string; defaultModel: string }
  /** Key of the pseudonyms that upstreams see. */
  pseudonymKey: string
  /** Tokens are signed with a secret of this installation: in development its pages may mint some. */
  embeddedSecret?: string | undefined
}

export type Machines = ReturnType<typeof createMachines>

/** Before events are taken the database has so long to answer, ms. */
const pingMs = 1_500
/** How often the logs of other instances' generations are read, ms. */
const mirrorPollMs = 100

export function createMachines(config: Config, resolved: Resolved, log: Logger) {
  const links = createLinks(config.BASE_PATH)
  const db = createDatabase({
    url: resolved.databaseUrl,
    poolMax: config.DB_POOL_MAX,
    log,
    embedded: resolved.exclusive,
  })
  const neighbours = createNeighbours(config, db, log)
  const { outbox } = neighbours
  const upstream = createUpstream({
    ...resolved.upstream,
    referer: config.OPENROUTER_REFERER,
    title: config.OPENROUTER_TITLE,
    timeouts: {
      connectMs: config.UPSTREAM_CONNECT_TIMEOUT_MS,
      firstTextMs: config.UPSTREAM_FIRST_TEXT_TIMEOUT_MS,
      idleMs: config.UPSTREAM_IDLE_TIMEOUT_MS,
      totalMs: config.UPSTREAM_TOTAL_TIMEOUT_MS,
    },
  })
  const models = createCatalogue({ ...resolved.upstream, log })
  const chain = createModelChain({
    defaultModel: resolved.upstream.defaultModel,
    fallbackModel: config.FALLBACK_MODEL,
    emergencyModel: config.EMERGENCY_FALLBACK_MODEL,
    premiumModel: config.PREMIUM_MODEL ?? config.EMERGENCY_FALLBACK_MODEL,
    allowed: config.ALLOWED_MODELS,
    freeOnly: config.USE_FREE_MODELS_ONLY,
    catalogue: models,
  })
  const latencies = createLatencies()
  const counts = createTokenCounts({ transactions: db, log })
  const instanceId = uuidv7()
  const nowMs = () => performance.now()
  const journal = createJournal({
    transactions: db.settling,
    log,
    instanceId,
    nowMs,
    flushMs: config.JOURNAL_FLUSH_MS,
    stallMs: config.JOURNAL_STALL_MS,
  })
  const bus =
    config.REDIS_URL === undefined
      ? createPostgresBus({ url: resolved.databaseUrl, instanceId, log })
      : createRedisBus({ url: config.REDIS_URL, keyPrefix: config.REDIS_KEY_PREFIX, instanceId, log })
  heedStops(bus, journal)
  const { SMTP_URL: smtpUrl, EMAIL_FROM: from } = config
  const { VAPID_PUBLIC_KEY: publicKey, VAPID_PRIVATE_KEY: privateKey, VAPID_SUBJECT: subject } = config
  const notifications = createNotifications({
    transactions: db,
    wake: (heads) => realtime.wake(heads),
    wakeJobs: (inMs) => jobs.wake(inMs),
    email: smtpUrl === undefined || from === undefined ? undefined : { smtpUrl, from },
    webPush:
      publicKey === undefined || privateKey === undefined || subject === undefined
        ? undefined
        : { publicKey, privateKey, subject },
    publicUrl: config.PUBLIC_URL,
    allowPrivateTargets: config.ALLOW_PRIVATE_TARGETS,
    outbox,
  })
  const realtime = createRealtime({
    transactions: db,
    ready: () => db.state() === 'ready',
    bus,
    log,
    instanceId,
    inbox: {
      mark: (caller, selection, as) => notifications.inbox.mark(caller, selection, as),
      list: (caller, query) => notifications.list(caller, query),
    },
    socketsMax: config.MAX_SOCKETS,
    userSocketsMax: config.MAX_SOCKETS_PER_USER,
  })
  const mirrors = createMirrors({
    transactions: db,
    pollMs: mirrorPollMs,
    onError: (error) =>
      log.error({ event: 'mirror_failed', err: error }, 'other instances cannot be watched'),
  })
  const tellDevices: TellDevices = (userId, change) => {
    realtime.rooms.emit({ users: [userId] }, 'conversation.updated', change, `conversation:${change.id}`)
    if (change.reason === 'deleted') realtime.rooms.kick(`conversation:${change.id}`)
  }
  const watched = createWatched({ transactions: db, log, nowMs })
  const reaper = createReaper({ transactions: db.settling, log, tellDevices, outbox })
  const metrics = createMetrics({
    knownModels: [...chain.known, config.AUTO_TITLE_MODEL].filter((model) => model !== undefined),
    db,
    log,
  })
  const billing = createBilling(resolved.upstream)
  const shared =
    config.REDIS_URL === undefined
      ? undefined
      : createSharedCounts({ url: config.REDIS_URL, keyPrefix: config.REDIS_KEY_PREFIX, log })
  const limitStore = createLimitStore({ shared })
  const asking = {
    upstream,
    breakers: createBreakers({ nowMs }),
    observe: observeAttempts(metrics.recorder, models.isFree),
    freeBudget: createFreeBudget({
      baseUrl: resolved.upstream.baseUrl,
      max: config.FREE_REQUESTS_PER_MINUTE,
      counts: limitStore,
    }),
    nowMs,
  }
  const pseudonymOf = createPseudonyms(resolved.pseudonymKey)
  const titles = createTitles({
    ...asking,
    model: config.AUTO_TITLE_MODEL,
    freeOnly: config.USE_FREE_MODELS_ONLY,
    catalogue: models,
    transactions: db,
    pseudonymOf,
    tellDevices,
    log,
  })
  const limits = {
    runningGenerationsMax: config.RATE_LIMIT_RUNNING_GENERATIONS,
    historyTokensMax: config.MAX_CONVERSATION_HISTORY_TOKENS,
    answerTokensMax: config.MAX_TOKENS,
  }
  const assessments = createAssessments({
    ...asking,
    transactions: db,
    engine: { find: (generationId) => engine.find(generationId) },
    openings: () => turns,
    archive: neighbours.archive,
    inbox: notifications.inbox,
    outbox,
    jobs: { wake: (inMs) => jobs.wake(inMs) },
    chain,
    models,
    limits,
    temperature: config.TEMPERATURE,
    pseudonymOf,
    tellDevices,
    log,
  })
  const jobs = createJobs({
    transactions: db,
    log,
    handlers: {
      [reconcileKind]: createReconcileHandler({ billing, log }),
      [titleKind]: titles.handler,
      ...notifications.jobHandlers,
      ...createChatNews(notifications.inbox),
      ...assessments.jobHandlers,
    },
    gaveUp: metrics.recorder.jobGivenUp,
  })
  const engine = createEngine({
    ask: createAttempts({
      ...asking,
      latencies,
      freeTurns: createFreeTurns(),
      random: Math.random,
      retryMs: config.UPSTREAM_RETRY_MS,
      fallbackAfterMs: Math.min(config.UPSTREAM_FALLBACK_AFTER_MS, config.UPSTREAM_FIRST_TEXT_TIMEOUT_MS),
    }),
    isFree: models.isFree,
    estimateMs: latencies.estimate,
    transactions: db.settling,
    journal,
    jobs,
    outbox,
    log,
    tellDevices,
    observe: metrics.recorder.generationSettled,
    tellStop: tellStops(bus),
    nowMs,
  })
  metrics.watch({
    generationsRunning: () => engine.running(),
    sockets: () => realtime.sockets.count(),
    journalLagMs: () => journal.lagMs(),
    neighbours: () => neighbours,
  })
  const resume = {
    transactions: db,
    mirrors,
    find: (generationId: string) => engine.find(generationId),
    links,
  }
  const turns = {
    db,
    engine,
    chain,
    models,
    estimateMs: latencies.estimate,
    counts,
    links,
    queue: createSendQueue(),
    limits,
    temperature: config.TEMPERATURE,
    instanceId,
    pseudonymOf,
    titles,
    jobs,
    outbox,
    profiles: neighbours.profiles,
    tellDevices,
  }

  void models.refresh()
  neighbours.broker?.consume({
    handle: (delivery) => assessments.handle(delivery),
    mayConsume: () =>
      db.ping(pingMs).then(
        () => db.state() === 'ready',
        () => false,
      ),
  })

  return {
    db,
    links,
    chain,
    models,
    engine,
    jobs,
    notifications,
    realtime,
    metrics,
    limitStore,
    /** Counts in Redis, where there is one. */
    shared,
    resume,
    turns,
    watched,
    tellDevices,
    assessments,
    neighbours,

    /** No new work, and no new sockets; running answers get `graceMs`. */
    async stop(graceMs: number): Promise<void> {
      await Promise.all([engine.drain(graceMs), jobs.close(), realtime.drain(), neighbours.stop()])
      // Viewers of other instances' answers are simply ended: they resume elsewhere.
      mirrors.close()
      reaper.close()
    },
    /** When nobody asks any more. */
    async release(): Promise<void> {
      await watched.close()
      shared?.close()
      await upstream.close()
      await billing.close()
      await models.close()
      await counts.close()
      await realtime.close()
      await notifications.close()
      await neighbours.close()
      await bus.close()
      await db.close()
      metrics.close()
    },
  }
}
