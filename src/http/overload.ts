/**
 * Overload: a process that cannot keep up refuses new requests, so that what it has begun gets done. Whoever asks how
 * it is gets an answer all the same, and streams that run go on: they were let in before.
 */
import { getHeapStatistics } from 'node:v8'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import { AppError } from '../errors.ts'

/** How late the event loop is, on average over `sampleMs`: at a second nothing is answered in time any more. */
const eventLoopDelayMaxMs = 1_000
/** Of what V8 may take: beyond, it does little else but look for garbage, and then ends the process. */
const heapShareMax = 0.9
/** How often both are looked at, ms. */
const sampleMs = 1_000
/** Long enough for several looks, s. */
const retryS = 5

const neverRefused = ['/health', '/health/live', '/health/ready', '/metrics']

/** Call before the routes are registered. @param basePath under which they are answered too. */
export async function registerOverload(
  app: FastifyInstance,
  basePath: string,
  thresholds: { eventLoopDelayMaxMs?: number; heapShareMax?: number; sampleMs?: number } = {},
): Promise<void> {
  const exempt = new Set(neverRefused.flatMap((path) => [path, basePath + path]))
  const limit = getHeapStatistics().heap_size_limit
  await app.register(underPressure, {
    maxEventLoopDelay: thresholds.eventLoopDelayMaxMs ?? eventLoopDelayMaxMs,
    maxHeapUsedBytes: Math.floor(limit * (thresholds.heapShareMax ?? heapShareMax)),
    sampleInterval: thresholds.sampleMs ?? sampleMs,
    // A promise: what it rejects with is the request's error.
    pressureHandler: async (request) => {
      if (exempt.has(request.routeOptions.url ?? '')) return
      throw new AppError('overloaded', {
        detail: 'This instance cannot keep up at the moment: try again a little later.',
        retryAfter: retryS,
      })
    },
  })
}
