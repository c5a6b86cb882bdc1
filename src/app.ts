/**
 * The composition root: the machines (machines.ts), and the features that ask them over HTTP, in reading order. `close`
 * ends both, in the opposite order.
 */
import type { FastifyInstance } from 'fastify'
import { assessmentRoutes } from './assessments/routes.ts'
import { eventRoutes } from './assessments/service-routes.ts'
import { authenticate, createServiceKeyCheck } from './auth/authenticate.ts'
import { ticketRoutes } from './auth/routes.ts'
import { createTickets } from './auth/tickets.ts'
import { createTokenVerifier } from './auth/tokens.ts'
import { secretCharsMin, type Config } from './config.ts'
import { conversationRoutes } from './conversations/routes.ts'
import { reap } from './generation/engine.ts'
import { findStream } from './generation/queries.ts'
import { generationRoutes } from './generation/routes.ts'
import { registerJsonBodies } from './http/body.ts'
import { refuseUnknownRoutes, registerErrorHandler } from './http/error-handler.ts'
import { collectMethods } from './http/method-not-allowed.ts'
import { registerOpenapi, registerOpenapiPage } from './http/openapi.ts'
import { registerOverload } from './http/overload.ts'
import { createPace } from './http/pace.ts'
import { createRateLimits } from './http/rate-limit.ts'
import { createOriginCheck, registerSecurity } from './http/security.ts'
import { createServer } from './http/server.ts'
import { createSseResponses } from './http/sse.ts'
import type { Logger } from './logging.ts'
import { createMachines, type Resolved } from './machines.ts'
import { reactionRoutes } from './messages/reactions.ts'
import { messageRoutes } from './messages/routes.ts'
import { notificationRoutes } from './notifications/routes.ts'
import { notificationServiceRoutes } from './notifications/service-routes.ts'
import { healthRoutes } from './operations/health.ts'
import { measureRequests, scrapeRoutes } from './operations/scrape.ts'
import { asyncapiDocument } from './realtime/asyncapi.ts'
import { addMembers } from './realtime/queries.ts'
import { foreignOrigin, socketRoutes } from './realtime/routes.ts'
import { realtimeServiceRoutes } from './realtime/service-routes.ts'
import { createInboxStream } from './realtime/stream.ts'
import { isUpgradeTo } from './realtime/upgrade.ts'
import { playgroundRoutes } from './playground/routes.ts'
import { modelRoutes } from './upstream/routes.ts'
import { usageRoutes } from './usage/routes.ts'

export type { Resolved } from './machines.ts'

export interface App {
  http: FastifyInstance
  /** @returns its origin. */
  listen(at: { host: string; port: number }): Promise<string>
  /** Resolves when the database is migrated and the wall proven. */
  prepared: Promise<void>
  /** No new turns; running answers get `graceMs`; every viewer its terminal frame; then everything is released. */
  close(graceMs: number): Promise<void>
}

/**
 * Connections that wait to be accepted. With Node's 511 the system drops what comes beyond, and clients try again after 1,
 * 3, 7, 15 and 31 s: of 5,000 who came back at once the last one was in after 30 s. The system has a limit of its own
 * (net.core.somaxconn).
 */
const backlog = 4_096

/** What viewers get to read their last frame when the process ends, ms. */
const viewersGraceMs = 3_000
/** What other requests get to finish after that, ms. */
const lingerMs = 1_000

export async function createApp(config: Config, resolved: Resolved, log: Logger): Promise<App> {
  const machines = createMachines(config, resolved, log)
  const { db, links, chain, models, engine, jobs, realtime, metrics, limitStore, shared } = machines
  const { resume, turns, watched, tellDevices, notifications } = machines
  const stopping = new AbortController()
  const sse = createSseResponses({
    pingMs: config.STREAM_PING_MS,
    pace: createPace({ coalesceMs: config.STREAM_COALESCE_MS }),
  })
  metrics.watch({ viewers: () => sse.viewers() })

  const origins = config.CORS_ORIGINS ?? (config.NODE_ENV === 'production' ? [] : undefined)
  const http = createServer({
    log,
    trustedProxies: config.TRUSTED_PROXIES,
    origins,
    mayUpgrade: isUpgradeTo(links.socket),
  })
  realtime.attach(http.server)
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
      tickets: config.RATE_LIMIT_TICKETS_PER_MINUTE,
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
    broker: machines.neighbours.broker,
    draining: () => stopping.signal.aborted,
    upstreamModelsUrl: `${resolved.upstream.baseUrl.replace(/\/$/, '')}/models`,
  }
  await http.register(healthRoutes, health)
  if (config.ENABLE_METRICS) await http.register(scrapeRoutes, { metrics })
  await http.register(
    async (api) => {
      // Without a prefix these are the same URLs as above.
      if (config.BASE_PATH !== '') await api.register(healthRoutes, { ...health, hide: true })
      const { receive, byHand } = machines.assessments
      await api.register(eventRoutes, { receive })
      await api.register(assessmentRoutes, { db, byHand, links, limits })
      await api.register(conversationRoutes, { db, engine, chain, links, limits, tellDevices })
      await api.register(modelRoutes, { chain, models })
      await api.register(usageRoutes, { db, now: () => new Date() })
      const tickets = createTickets(db)
      const allowsOrigin = createOriginCheck(origins)
      await api.register(ticketRoutes, {
        db,
        tickets,
        links,
        limits,
        assertOrigin(origin, host) {
          if (!allowsOrigin(origin, host)) throw foreignOrigin()
        },
        streamOf: (tx, messageId) => findStream(tx, messageId, links),
      })
      await api.register(socketRoutes, {
        tickets,
        sockets: realtime.sockets,
        limits,
        allowsOrigin,
      })
      const targets = {
        channels: notifications.channels,
        allowPrivateTargets: config.ALLOW_PRIVATE_TARGETS,
      }
      await api.register(notificationRoutes, {
        db,
        inbox: notifications.inbox,
        sse,
        stream: (caller, since) => createInboxStream(realtime.hub, caller, since),
        pushKey: config.VAPID_PUBLIC_KEY,
        ...targets,
      })
      await api.register(notificationServiceRoutes, {
        db,
        inbox: notifications.inbox,
        sweep: () => notifications.sweep(),
        wakeJobs: () => jobs.wake(),
        now: () => new Date(),
        ...targets,
      })
      await api.register(realtimeServiceRoutes, { db, rooms: realtime.rooms })
      await api.register(generationRoutes, { db, engine, resume, sse, links, watched })
      await api.register(reactionRoutes, { db, links })
      await api.register(messageRoutes, {
        turns,
        resume,
        sse,
        limits,
        watched,
        contentCharsMax: config.MAX_MESSAGE_LENGTH,
      })
    },
    { prefix: config.BASE_PATH },
  )
  await http.register(playgroundRoutes, {
    nodeEnv: config.NODE_ENV,
    basePath: config.BASE_PATH,
    embeddedSecret: resolved.embeddedSecret,
    issuer: config.JWT_ISSUER,
    audience: config.JWT_AUDIENCE,
    notify: (entries) => notifications.inbox.notify(entries),
    admit: (room, userId) => db.asSystem('playground', (tx) => addMembers(tx, room, [userId])),
  })
  await registerOpenapiPage(http, {
    asyncapi: asyncapiDocument({ basePath: config.BASE_PATH, version: '1' }),
  })
  registerMethodNotAllowed()

  async function prepare(): Promise<void> {
    await db.prepare(stopping.signal).catch((error: unknown) => {
      if (!stopping.signal.aborted) throw error
    })
    if (stopping.signal.aborted) return
    if (resolved.exclusive) {
      const orphans = await reap(db, 0, log, tellDevices, machines.neighbours.outbox)
      if (orphans > 0)
        log.warn({ event: 'orphans_settled', count: orphans }, 'answers cut off by a crash were settled')
    }
    jobs.wake()
    notifications.start()
  }

  let closing: Promise<void> | undefined
  return {
    http,
    listen: (at) => http.listen({ ...at, backlog }),
    prepared: prepare(),
    close(graceMs) {
      closing ??= (async () => {
        stopping.abort()
        await machines.stop(graceMs)
        await sse.drain(viewersGraceMs)
        // A connection that never asked for anything (a browser's spare one) would hold the stop for ever.
        const lingering = setTimeout(() => http.server.closeAllConnections(), lingerMs)
        await http.close()
        clearTimeout(lingering)
        await machines.release()
      })()
      return closing
    },
  }
}
