/** Door of notifications: what services ask over HTTP: to send, to one, to many and to everybody, and what became of it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { optionalBody } from '../http/body.ts'
import { idempotencyOf } from '../http/idempotency.ts'
import { idOrMissing } from '../http/params.ts'
import { redrive } from '../jobs/jobs.ts'
import {
  broadcastBody,
  bulkBody,
  bulkBodyBytesMax,
  bulkUsersMax,
  notificationBody,
  olderBody,
} from './bodies.ts'
import { startBroadcast } from './broadcast.ts'
import { composeBroadcast, composeBulk, composeOne, type Composed } from './compose.ts'
import { reviveDeliveries } from './delivery-queries.ts'
import type { Inbox, Published } from './notify.ts'
import { writeContacts } from './preferences.ts'
import { madeOrKnown, once, type Work } from './processed.ts'
import { notificationParams } from './schemas.ts'
import { createSend } from './sending.ts'
import { countedHours, deliverKinds, readDispatchStatus, readInFull } from './service-queries.ts'
import { dispatchStatusSchema, inFullSchema, publishedSchema } from './service-schemas.ts'
import { targetRoutes, type TargetRoutesOptions } from './target-routes.ts'
import type { Tidying } from './tidy.ts'

export interface NotificationServiceOptions extends TargetRoutesOptions {
  db: Transactions
  inbox: Inbox
  sweep: Tidying['sweep']
  wakeJobs: () => void
  now: () => Date
}

const path = '/internal/notifications'
/** Of one request that queues again. */
const redrivenMax = 1_000

export async function notificationServiceRoutes(
  instance: FastifyInstance,
  options: NotificationServiceOptions,
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, inbox, sweep, wakeJobs, now } = options
  const common = { onRequest: app.requireService }
  const tags = ['Notifications (services)']
  const repeated = 'With an `Idempotency-Key` it is done once, and answered the same again.'

  /** Once under its key. A repetition says so. */
  async function doOnce<T extends Record<string, unknown>>(
    request: FastifyRequest,
    reply: FastifyReply,
    work: (tx: Tx) => Promise<Work<T>>,
  ): Promise<{ result: T; replayed: boolean }> {
    const source = `${request.method} ${request.routeOptions.url?.replace(/^.*\/internal/, '/internal') ?? ''}`
    const done = await once(db, source, idempotencyOf(request, [request.body ?? null]), work)
    if (done.replayed) void reply.header('idempotent-replay', 'true')
    return done
  }

  const sendSource = `POST ${path}`
  const sendOne = createSend(db, inbox, sendSource)

  async function send(tx: Tx, { entries, contacts }: Composed) {
    // An address that came along is one that its notification goes to.
    await writeContacts(tx, contacts)
    return inbox.notifyIn(tx, entries)
  }

  app.post(
    path,
    {
      ...common,
      schema: {
        summary: 'Notify a user',
        description: [
          'By a template and its variables, or by a type and words of one’s own. Under a `dedupe_key` there is one row, which',
          'changes; the steps of an assessment (`data.assessment_id`) are one without being told. `send_at` lets it appear',
          `then. Answers 200 instead of 201 where nothing new was said. ${repeated}`,
          '',
          'Older services send `{userId, notification}`.',
        ].join('\n'),
        tags,
        body: z.union([notificationBody, olderBody]),
        response: { 200: publishedSchema, 201: publishedSchema },
      },
      // Of a union of two one would hear that neither fits, and not what is wrong.
      validatorCompiler: () => (body: unknown) =>
        validatorCompiler({ schema: shapeOf(body), method: 'POST', url: path, httpPart: 'body' })(body),
    },
    async (request, reply) => {
      const idempotency = idempotencyOf(request, [request.body])
      const asked = await madeOrKnown(db, sendSource, idempotency, () => composeOne(request.body, now()))
      const { published, replayed } =
        'made' in asked
          ? await sendOne({ ...asked.made, idempotency })
          : { published: asked.known as Published, replayed: true }
      if (replayed) void reply.header('idempotent-replay', 'true')
      const { id, userId, outcome, seq } = published
      return reply
        .code(replayed || outcome === 'same' ? 200 : 201)
        .send({ notification_id: id, user_id: userId, outcome, seq })
    },
  )

  app.post(
    `${path}/bulk`,
    {
      ...common,
      bodyLimit: bulkBodyBytesMax,
      schema: {
        summary: 'Notify many users',
        description: `At most ${bulkUsersMax}: \`user_ids\` are all told the same, or each of \`notifications\` says what it says. All of them or none. ${repeated}`,
        tags,
        body: bulkBody,
        response: {
          200: z.object({
            accepted: z.int(),
            new: z.int(),
            changed: z.int(),
            same: z.int(),
            scheduled: z.int(),
          }),
        },
      },
    },
    async (request, reply) => {
      const { result } = await doOnce(request, reply, async (tx) => {
        // Behind the look whether it was done: what is repeated later may be too late by now.
        const composed = composeBulk(request.body, now())
        const { published, told } = await send(tx, composed)
        const counts = { accepted: published.length, new: 0, changed: 0, same: 0, scheduled: 0 }
        for (const { outcome } of published) counts[outcome]++
        return { result: counts, told }
      })
      return result
    },
  )

  app.post(
    `${path}/broadcast`,
    {
      ...common,
      schema: {
        summary: 'Notify everyone who ever connected',
        description: `It is begun here, and told chunk by chunk in the background. ${repeated}`,
        tags,
        body: broadcastBody,
        response: { 202: z.object({ broadcast_id: z.uuid() }) },
      },
    },
    async (request, reply) => {
      const { result } = await doOnce(request, reply, async (tx) => {
        const id = await startBroadcast(tx, composeBroadcast(request.body, now()))
        return { result: { broadcast_id: id }, told: wakeJobs }
      })
      return reply.code(202).send(result)
    },
  )

  app.post(
    `${path}/cleanup`,
    {
      ...common,
      schema: {
        summary: 'Expire what is due, and purge what expired long ago',
        description: 'It happens by itself every minute. Doing it again finds nothing to do.',
        tags,
        body: optionalBody(z.strictObject({})),
        response: { 200: z.object({ expired: z.int(), purged: z.int() }) },
      },
    },
    async (request, reply) => {
      // Many short transactions, which may be repeated: once is only what is answered.
      const swept = await sweep()
      const { result } = await doOnce(request, reply, () => Promise.resolve({ result: swept }))
      return result
    },
  )

  app.get(
    `${path}/status`,
    {
      ...common,
      schema: {
        summary: 'How deliveries are doing',
        description: `Counts of the last ${countedHours} hours; the newest deliveries that were given up, and broadcasts.`,
        tags,
        response: { 200: dispatchStatusSchema },
      },
    },
    async () => ({
      channels: [...options.channels],
      ...(await db.asSystem('status', (tx) => tx.commit(() => readDispatchStatus(tx)))),
    }),
  )

  app.get(
    `${path}/:id`,
    {
      ...common,
      schema: {
        summary: 'One notification, and its deliveries',
        tags,
        params: notificationParams,
        response: { 200: inFullSchema },
      },
    },
    async (request) => {
      const id = idOrMissing(request.params.id, 'notification_not_found')
      const found = await db.asSystem('status', (tx) => tx.commit(() => readInFull(tx, id)))
      if (found === undefined) throw new AppError('notification_not_found')
      return found
    },
  )

  app.post(
    `${path}/redrive`,
    {
      ...common,
      schema: {
        summary: 'Queue deliveries again that were given up',
        description: `Those of \`dead\` in …/status that \`ids\` names, or all. ${repeated}`,
        tags,
        body: optionalBody(z.strictObject({ ids: z.array(z.uuid()).min(1).max(redrivenMax).optional() })),
        response: { 200: z.object({ queued: z.int() }) },
      },
    },
    async (request, reply) => {
      const { ids } = request.body
      const { result } = await doOnce(request, reply, async (tx) => {
        const queued = await redrive(tx, deliverKinds, ids)
        await reviveDeliveries(
          tx,
          queued.map(({ key }) => key),
        )
        return { result: { queued: queued.length }, told: wakeJobs }
      })
      return result
    },
  )

  await app.register(targetRoutes, { ...options, doOnce })
}

const shapeOf = (body: unknown) =>
  typeof body === 'object' && body !== null && ('userId' in body || 'notification' in body)
    ? olderBody
    : notificationBody
