/** Door of operations: is the process alive, may it get traffic, and what does it depend on? */
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Database } from '../db/database.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

const databasePatienceMs = 1_500
const upstreamPatienceMs = 3_000

const dependencySchema = z.object({
  status: z.enum(['up', 'down', 'not_configured']),
  latency_ms: z.number().optional(),
})
const healthSchema = z.object({
  status: z.enum(['healthy', 'degraded']),
  timestamp: z.iso.datetime(),
  service: z.string(),
  version: z.string(),
  uptime_s: z.number(),
  dependencies: z.object({
    database: dependencySchema,
    rabbitmq: dependencySchema.extend({
      dead_letters: z
        .int()
        .optional()
        .meta({ description: 'Events that could not be dealt with: see why, and send them again.' }),
    }),
    redis: dependencySchema,
    openrouter: dependencySchema.optional(),
  }),
})
const readySchema = z.object({
  status: z.enum(['ready', 'starting', 'draining', 'database_unavailable', 'wall_breached']),
})

export async function healthRoutes(
  instance: FastifyInstance,
  {
    db,
    redis,
    broker,
    draining,
    upstreamModelsUrl,
    hide = false,
  }: {
    db: Database
    redis: { ping(): Promise<void> } | undefined
    broker: BrokerHealth | undefined
    draining: () => boolean
    upstreamModelsUrl: string
    /** Left out of the API page: the same routes under another prefix. */
    hide?: boolean
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()

  const databaseStatus = async () =>
    measure(async () => {
      if (db.state() !== 'ready') throw new Error(db.state())
      await db.ping(databasePatienceMs)
    })

  app.get(
    '/health',
    {
      schema: {
        summary: 'What the service depends on',
        description: '503 only without the database. `?full=true` (service scope) also asks the upstream.',
        tags: ['Health'],
        security: [],
        hide,
        querystring: z.object({ full: z.enum(['true', 'false']).default('false') }),
        response: { 200: healthSchema, 503: healthSchema },
      },
      onRequest: async (request) => {
        if ((request.query as { full?: unknown }).full === 'true') await app.requireService(request)
      },
    },
    async (request, reply) => {
      const full = request.query.full === 'true'
      const [database, rabbitmq, shared, openrouter] = await Promise.all([
        databaseStatus(),
        brokerStatus(broker),
        redis === undefined ? undefined : measure(() => redis.ping()),
        full
          ? measure(async () => {
              const response = await fetch(upstreamModelsUrl, {
                signal: AbortSignal.timeout(upstreamPatienceMs),
                redirect: 'manual',
              })
              await response.body?.cancel()
              if (!response.ok) throw new Error(`HTTP ${response.status}`)
            })
          : undefined,
      ])
      const degraded = [database, rabbitmq, shared, openrouter].some(
        (dependency) => dependency?.status === 'down',
      )
      return reply.code(database.status === 'up' ? 200 : 503).send({
        status: degraded ? 'degraded' : 'healthy',
        timestamp: new Date().toISOString(),
        service: 'rivulet',
        version,
        uptime_s: Math.round(process.uptime()),
        dependencies: {
          database,
          rabbitmq,
          redis: shared ?? { status: 'not_configured' },
          ...(openrouter !== undefined && { openrouter }),
        },
      })
    },
  )

  app.get(
    '/health/live',
    {
      schema: {
        summary: 'The process runs',
        tags: ['Health'],
        security: [],
        hide,
        response: { 200: z.object({ status: z.literal('live') }) },
      },
    },
    async () => ({ status: 'live' as const }),
  )

  app.get(
    '/health/ready',
    {
      schema: {
        summary: 'It may get traffic',
        tags: ['Health'],
        security: [],
        hide,
        response: { 200: readySchema, 503: readySchema },
      },
    },
    async (_request, reply) => {
      if (draining()) return reply.code(503).send({ status: 'draining' })
      if (db.state() === 'breached') return reply.code(503).send({ status: 'wall_breached' })
      if (db.state() === 'opening') return reply.code(503).send({ status: 'starting' })
      const { status } = await databaseStatus()
      return status === 'up'
        ? { status: 'ready' as const }
        : reply.code(503).send({ status: 'database_unavailable' })
    },
  )
}

export interface BrokerHealth {
  state: () => 'up' | 'down'
  deadLetters: () => Promise<number | undefined>
}

async function brokerStatus(broker: BrokerHealth | undefined) {
  if (broker === undefined) return { status: 'not_configured' as const }
  if (broker.state() === 'down') return { status: 'down' as const }
  const dead_letters = await broker.deadLetters()
  return { status: 'up' as const, ...(dead_letters !== undefined && { dead_letters }) }
}

async function measure(ask: () => Promise<void>): Promise<z.infer<typeof dependencySchema>> {
  const startedAt = performance.now()
  try {
    await ask()
    return { status: 'up', latency_ms: Math.round((performance.now() - startedAt) * 10) / 10 }
  } catch {
    return { status: 'down' }
  }
}
