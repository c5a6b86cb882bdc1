/** HTTP of what I want to be sent, and of the browsers that take web push. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import type { Database } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { idOrMissing } from '../http/params.ts'
import { targetProblem } from './channels/guarded-post.ts'
import {
  endpointSchema,
  preferencesBody,
  preferencesSchema,
  readPreferences,
  subscribe,
  subscriptionBody,
  subscriptionsMax,
  unsubscribe,
  writePreferences,
} from './preferences.ts'

export interface PreferenceRoutesOptions {
  db: Database
  /** Our public key; undefined: this installation has no web push. */
  pushKey: string | undefined
  /** Also plain http, and addresses of this machine and its networks. */
  allowPrivateTargets: boolean
}

export async function preferenceRoutes(
  instance: FastifyInstance,
  { db, pushKey, allowPrivateTargets }: PreferenceRoutesOptions,
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const common = { onRequest: app.requireUser }
  const tags = ['Notifications']

  app.get(
    '/notifications/preferences',
    {
      ...common,
      schema: { summary: 'What I want to be sent', tags, response: { 200: preferencesSchema } },
    },
    async (request) => {
      const caller = userOf(request)
      return db.asCaller(caller, (tx) => tx.commit(() => readPreferences(tx, caller.userId)))
    },
  )

  app.put(
    '/notifications/preferences',
    {
      ...common,
      schema: {
        summary: 'Say what I want to be sent',
        description: 'What is not named stays; `channels` is replaced as a whole.',
        tags,
        body: preferencesBody,
        response: { 200: preferencesSchema },
      },
    },
    async (request) => {
      const caller = userOf(request)
      return db.asCaller(caller, (tx) => tx.commit(() => writePreferences(tx, caller.userId, request.body)))
    },
  )

  app.get(
    '/notifications/push-key',
    {
      ...common,
      schema: {
        summary: 'The key that a browser subscribes to web push with',
        tags,
        response: { 200: z.object({ public_key: z.string() }) },
      },
    },
    async () => {
      if (pushKey === undefined) throw noPush()
      return { public_key: pushKey }
    },
  )

  app.post(
    '/notifications/push-subscriptions',
    {
      ...common,
      schema: {
        summary: 'Register a browser for web push',
        description: `What the browser made, as JSON. Of more than ${subscriptionsMax} the oldest goes.`,
        tags,
        body: subscriptionBody,
        response: { 200: z.object({ id: z.uuid() }), 201: z.object({ id: z.uuid() }) },
      },
    },
    async (request, reply) => {
      if (pushKey === undefined) throw noPush()
      const { userId } = userOf(request)
      const problem = targetProblem(request.body.endpoint, allowPrivateTargets)
      if (problem !== undefined)
        throw new AppError('invalid_request', {
          detail: 'A push service has an https URL, on the internet.',
          errors: [{ path: 'endpoint', message: 'must be an https URL of a public host' }],
        })
      // A browser that changes hands is another user's until then, whom this one does not see.
      const { id, isNew } = await db.asSystem('subscribe', (tx) => subscribe(tx, userId, request.body))
      return reply.code(isNew ? 201 : 200).send({ id })
    },
  )

  app.delete(
    '/notifications/push-subscriptions',
    {
      ...common,
      schema: {
        summary: 'Forget a browser, by its endpoint',
        tags,
        body: z.strictObject({ endpoint: endpointSchema }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const { endpoint } = request.body
      await db.asCaller(caller, (tx) => tx.commit(() => unsubscribe(tx, caller, { endpoint })))
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/notifications/push-subscriptions/:id',
    {
      ...common,
      schema: {
        summary: 'Forget a browser, by its id',
        tags,
        params: z.object({ id: z.string() }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const id = idOrMissing(request.params.id, 'push_subscription_not_found')
      const known = await db.asCaller(caller, (tx) => tx.commit(() => unsubscribe(tx, caller, { id })))
      if (!known) throw new AppError('push_subscription_not_found')
      return reply.code(204).send(null)
    },
  )
}

const noPush = () => new AppError('push_not_configured', { detail: 'This installation sends no web push.' })
