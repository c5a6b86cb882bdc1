/** Door of assessments: events over HTTP, for services without a broker. The same function takes them. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import { parseEvent } from './event.ts'
import type { Receive } from './receive.ts'
import { receivedAnswer } from './schemas.ts'

const example = {
  event_id: 'e-4711',
  type: 'analysis_complete',
  user_id: 'ann',
  assessment_id: 'a1',
  occurred_at: '2026-11-20T10:05:00.000Z',
  version: 1,
  results: {
    riasec: { R: 85, I: 92, A: 78, S: 40, E: 55, C: 30 },
    ocean: { O: 88, C: 75, E: 82, A: 60, N: 20 },
  },
}

export async function eventRoutes(
  instance: FastifyInstance,
  { receive }: { receive: Receive },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()

  app.post(
    '/internal/events',
    {
      onRequest: app.requireService,
      schema: {
        summary: 'An event of an assessment',
        description: [
          '`{event_id, type, user_id, assessment_id, occurred_at, version?, results?}`, as the queue takes it: `type` is',
          '`assessment_submitted`, `analysis_started`, `analysis_complete` or `analysis_failed`; camelCase is read, too, and further',
          'keys are left alone. It is done once, whichever way and however often it comes. 202: what it begins goes on in',
          'the background; 200: it was received before.',
        ].join('\n'),
        tags: ['Assessments'],
        body: z.record(z.string(), z.unknown()).meta({ examples: [example] }),
        response: { 200: receivedAnswer, 202: receivedAnswer },
      },
    },
    async (request, reply) => {
      const parsed = parseEvent(request.body)
      if ('why' in parsed) {
        const { path, message } = parsed
        throw new AppError('invalid_request', {
          detail: `${path} ${message}.`,
          errors: [{ path, message }],
        })
      }
      const received = await receive(parsed.event)
      if (received.kind === 'foreign')
        throw new AppError('assessment_not_found', { detail: 'This assessment is not one of this user.' })
      if (received.kind === 'reused')
        throw new AppError('idempotency_key_reused', { detail: 'Another event had this event_id.' })
      const { duplicate } = received
      return reply.code(duplicate ? 200 : 202).send({ accepted: true, event_id: parsed.event.id, duplicate })
    },
  )
}
