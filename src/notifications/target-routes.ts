/** HTTP of where notifications go besides the inbox, as services say it: webhooks, and people's addresses. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { idOrMissing } from '../http/params.ts'
import { emailAddress, webhookBody } from './bodies.ts'
import { userId } from '../http/text.ts'
import { targetProblem } from './channels/guarded-post.ts'
import { createWebhookSecret } from './channels/webhook.ts'
import type { Channel } from './kinds.ts'
import { writeContacts } from './preferences.ts'
import type { Work } from './processed.ts'
import {
  deleteWebhook,
  insertWebhook,
  listWebhooks,
  readWebhookSecret,
  webhooksForAllMax,
  webhooksOfUserMax,
} from './service-queries.ts'
import { webhookSchema } from './service-schemas.ts'

export interface TargetRoutesOptions {
  db: Transactions
  /** What this installation has. */
  channels: readonly Channel[]
  /** Also plain http, and addresses of this machine and its networks. */
  allowPrivateTargets: boolean
}

/** Webhooks of a list: the newest. */
const listedMax = 1_000

export async function targetRoutes(
  instance: FastifyInstance,
  options: TargetRoutesOptions & {
    doOnce: <T extends Record<string, unknown>>(
      request: FastifyRequest,
      reply: FastifyReply,
      work: (tx: Tx) => Promise<Work<T>>,
    ) => Promise<{ result: T }>
  },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, doOnce, allowPrivateTargets } = options
  const common = { onRequest: app.requireService }
  const tags = ['Notifications (services)']

  app.post(
    '/internal/webhooks',
    {
      ...common,
      schema: {
        summary: 'Register a webhook',
        description: [
          'Notifications that name the channel `webhook` are posted there, signed (Standard Webhooks) with the `secret`, which',
          `is shown here and never again. At most ${webhooksForAllMax} for all users, and ${webhooksOfUserMax} for each one.`,
        ].join('\n'),
        tags,
        body: webhookBody,
        response: { 201: z.object({ id: z.uuid(), secret: z.string() }) },
      },
    },
    async (request, reply) => {
      const { url } = request.body
      if (targetProblem(url, allowPrivateTargets) !== undefined)
        throw new AppError('invalid_request', {
          detail: 'Webhooks are https URLs, on the internet.',
          errors: [{ path: 'url', message: 'must be an https URL of a public host' }],
        })
      const { result } = await doOnce(request, reply, async (tx) => {
        const id = await insertWebhook(tx, request.body, createWebhookSecret())
        if (id === undefined)
          throw new AppError('too_many_webhooks', { detail: 'Delete one before you register another.' })
        return { result: { id } }
      })
      // Kept with its webhook, and not beside what was answered.
      const secret = await db.asSystem('webhooks', (tx) => tx.commit(() => readWebhookSecret(tx, result.id)))
      if (secret === undefined) throw new AppError('webhook_not_found')
      return reply.code(201).send({ id: result.id, secret })
    },
  )

  app.get(
    '/internal/webhooks',
    {
      ...common,
      schema: {
        summary: 'Webhooks, the newest first',
        tags,
        response: { 200: z.object({ webhooks: z.array(webhookSchema) }) },
      },
    },
    async () => ({
      webhooks: await db.asSystem('webhooks', (tx) => tx.commit(() => listWebhooks(tx, listedMax))),
    }),
  )

  app.delete(
    '/internal/webhooks/:id',
    {
      ...common,
      schema: {
        summary: 'Remove a webhook',
        tags,
        params: z.object({ id: z.string() }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const id = idOrMissing(request.params.id, 'webhook_not_found')
      const known = await db.asSystem('webhooks', (tx) => tx.commit(() => deleteWebhook(tx, id)))
      if (!known) throw new AppError('webhook_not_found')
      return reply.code(204).send(null)
    },
  )

  app.put(
    '/internal/contacts/:user_id',
    {
      ...common,
      schema: {
        summary: 'Say where e-mail reaches a user',
        description: 'null: nowhere.',
        tags,
        params: z.object({ user_id: userId }),
        body: z.strictObject({ email: emailAddress.nullable() }),
        response: { 200: z.object({ user_id: z.string(), email: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { user_id } = request.params
      const { email } = request.body
      await db.asSystem('contacts', (tx) => tx.commit(() => writeContacts(tx, [{ userId: user_id, email }])))
      return { user_id, email }
    },
  )
}
