/**
 * The composition root: builds the machines, registers the features, in reading order. What is made here is
 * released in `close`, in the opposite order.
 */
import type { FastifyInstance } from 'fastify'
import { v7 as uuidv7 } from 'uuid'
import { authenticate, createServiceKeyCheck } from './auth/authenticate.ts'
import { createPseudonyms } from './auth/pseudonym.ts'
import { createTokenVerifier, type TokenKeys } from './auth/tokens.ts'
import { secretCharsMin, type Config } from './config.ts'
import { createTokenCounts } from './context/counts.ts'
import { conversationRoutes } from './conversations/routes.ts'
import { createTitles, titleKind } from './conversations/title-job.ts'
import { createDatabase } from './db/database.ts'
import { createEngine, createJournal, createMirrors, createReaper, reap } from './generation/engine.ts'
import { generationRoutes } from './generation/routes.ts'
import { registerJsonBodies } from './http/body.ts'
import { refuseUnknownRoutes, registerErrorHandler } from './http/error-handler.ts'
import { createLinks } from './http/links.ts'
import { collectMethods } from './http/method-not-allowed.ts'
import { registerOpenapi, registerOpenapiPage } from './http/openapi.ts'
import { registerOverload } from './http/overload.ts'
import { createPace } from './http/pace.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { createSharedCounts } from './http/rate-limit-redis.ts'
import { createLimitStore } from './http/rate-limit-store.ts'
import { registerSecurity } from './http/security.ts'
import { createServer } from './http/server.ts'
import { createSseResponses } from './http/sse.ts'
import { createJobs } from './jobs/jobs.ts'
import type { Logger } from './logging.ts'
import { createSendQueue } from './messages/queue.ts'
import { messageRoutes } from './messages/routes.ts'
import { healthRoutes } from './operations/health.ts'
import { observeAttempts } from './operations/attempt-status.ts'
import { createMetrics } from './operations/metrics.ts'
import { measureRequests, scrapeRoutes } from './operations/scrape.ts'
import { createAttempts } from './upstream/attempts.ts'
import { createBreakers } from './upstream/breakers.ts'
import { createModelChain } from './upstream/chain.ts'
import { createFreeBudget } from './upstream/free-budget.ts'
import { createFreeTurns } from './upstream/free-turns.ts'
import { createLatencies } from './upstream/latency.ts'
import { createCatalogue } from './upstream/models.ts'
import { createUpstream } from './upstream/openrouter.ts'
import { createBilling } from './upstream/reconcile.ts'
import { modelRoutes } from './upstream/routes.ts'
import { createReconcileHandler, reconcileKind } from './usage/reconcile.ts'
import { usageRoutes } from './usage/routes.ts'

/** What the environment may leave open, and main.ts fills in with embedded parts. */
export interface Resolved {
  databaseUrl: string
  /** Nobody else uses this database: what a dead process left running can be settled at the start. */
  exclusive: boolean
  tokenKeys: TokenKeys
  upstream: { baseUrl: string; apiKey: string; defaultModel: string }
  /** Key of the pseudonyms that upstreams see. */
  pseudonymKey: string
}

export interface App {
  http: FastifyInstance
  /** Resolves when the database is migrated and the wall proven. */
  prepared: Promise<void>
  /** No new turns; running answers get `graceMs`; every viewer its terminal frame; then everything is released. */
  close(graceMs: number): Promise<void>
}

/** What viewers get to read their last frame when the process ends, ms. */
const viewersGraceMs = 3_000
/** What other requests get to finish after that, ms. */
const lingerMs = 1_000
/** How often the logs of other instances' generations are read, ms. */
const mirrorPollMs = 100

export async function createApp(config: Config, resolved: Resolved, log: Logger): Promise<App> {
  const links = createLinks(config.BASE_PATH)
  const stopping = new AbortController()
  const db = createDatabase({
    url: resolved.databaseUrl,
    poolMax: config.DB_POOL_MAX,
    log,
    embedded: resolved.exclusive,
  })
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
  const mirrors = createMirrors({
    transactions: db,
    pollMs: mirrorPollMs,
    onError: (error) =>
      log.error({ event: 'mirror_failed', err: error }, 'other instances cannot be watched'),
  })
  const reaper = createReaper({ transactions: db.settling, log })
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
    log,
  })
  const jobs = createJobs({
    transactions: db,
    log,
    handlers: { [reconcileKind]: createReconcileHandler({ billing, log }), [titleKind]: titles.handler },
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
    log,
    observe: metrics.recorder.generationSettled,
    nowMs,
  })
  const sse = createSseResponses({
    pingMs: config.STREAM_PING_MS,
    pace: createPace({ coalesceMs: config.STREAM_COALESCE_MS }),
  })
  metrics.watch({
    generationsRunning: () => engine.running(),
    viewers: () => sse.viewers(),
    journalLagMs: () => journal.lagMs(),
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
    limits: {
      runningGenerationsMax: config.RATE_LIMIT_RUNNING_GENERATIONS,
      historyTokensMax: config.MAX_CONVERSATION_HISTORY_TOKENS,
      answerTokensMax: config.MAX_TOKENS,
    },
    temperature: config.TEMPERATURE,
    instanceId,
    pseudonymOf,
    titles,
  }

  const origins = config.CORS_ORIGINS ?? (config.NODE_ENV === 'production' ? [] : undefined)
  const http = createServer({ log, trustedProxies: config.TRUSTED_PROXIES, origins })
  registerErrorHandler(http)
  registerJsonBodies(http)
  const registerMethodNotAllowed = collectMethods(http)
  await registerSecurity(http, origins)
  if (config.ENABLE_METRICS) measureRequests(http, metrics)
  refuseUnknownRoutes(http)
  await registerOverload(http, config.BASE_PATH)
  const limits = await createRateLimits(http, {
    max: {
      messages: config.RATE_LIMIT_MESSAGES_PER_HOUR,
      conversations: config.RATE_LIMIT_CONVERSATIONS_PER_DAY,
      free_generations: config.RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE,
      bad_tokens: config.RATE_LIMIT_BAD_TOKENS_PER_MINUTE,
    },
    store: limitStore,
  })
  await http.register(authenticate, {
    verifier: await createTokenVerifier(resolved.tokenKeys, {
      issuer: config.JWT_ISSUER,
      audience: config.JWT_AUDIENCE,
    }),
    isServiceKey: createServiceKeyCheck(config.INTERNAL_SERVICE_KEY, secretCharsMin),
    countFailure: (request) => limits.countBadToken(request),
  })
  await registerOpenapi(http)

  const health = {
    db,
    redis: shared,
    draining: () => stopping.signal.aborted,
    upstreamModelsUrl: `${resolved.upstream.baseUrl.replace(/\/$/, '')}/models`,
  }
  await http.register(healthRoutes, health)
  if (config.ENABLE_METRICS) await http.register(scrapeRoutes, { metrics })
  await http.register(
    async (api) => {
      // Without a prefix these are the same URLs as above.
      if (config.BASE_PATH !== '') await api.register(healthRoutes, { ...health, hide: true })
      await api.register(conversationRoutes, { db, engine, chain, links, limits })
      await api.register(modelRoutes, { chain, models })
      await api.register(usageRoutes, { db, now: () => new Date() })
      await api.register(generationRoutes, { db, engine, resume, sse, links })
      await api.register(messageRoutes, {
        turns,
        resume,
        sse,
        limits,
        contentCharsMax: config.MAX_MESSAGE_LENGTH,
      })
    },
    { prefix: config.BASE_PATH },
  )
  await registerOpenapiPage(http)
  registerMethodNotAllowed()

  async function prepare(): Promise<void> {
    await db.prepare(stopping.signal).catch((error: unknown) => {
      if (!stopping.signal.aborted) throw error
    })
    if (stopping.signal.aborted) return
    if (resolved.exclusive) {
      const orphans = await reap(db, 0, log)
      if (orphans > 0)
        log.warn({ event: 'orphans_settled', count: orphans }, 'answers cut off by a crash were settled')
    }
    jobs.wake()
  }
  void models.refresh()

  let closing: Promise<void> | undefined
  return {
    http,
    prepared: prepare(),
    close(graceMs) {
      closing ??= (async () => {
        stopping.abort()
        await Promise.all([engine.drain(graceMs), jobs.close()])
        // Viewers of other instances' answers are simply ended: they resume elsewhere.
        mirrors.close()
        reaper.close()
        await sse.drain(viewersGraceMs)
        // A connection that never asked for anything (a browser's spare one) would hold the stop for ever.
        const lingering = setTimeout(() => http.server.closeAllConnections(), lingerMs)
        await http.close()
        clearTimeout(lingering)
        shared?.close()
        await upstream.close()
        await billing.close()
        await models.close()
        await counts.close()
        await db.close()
        metrics.close()
      })()
      return closing
    },
  }
}
