/** HTTP of my inbox: what is in it, following it, and marking it. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf, type UserCaller } from '../auth/authenticate.ts'
import { redeemTicket } from '../auth/tickets.ts'
import type { Database } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { queryInteger } from '../http/pagination.ts'
import { idOrMissing } from '../http/params.ts'
import type { SseResponses, SseSource } from '../http/sse.ts'
import { readChanges } from './changes.ts'
import { channels, notificationTypes, priorities } from './kinds.ts'
import { parseCursor, readAfter, type Cursor } from './log.ts'
import type { Inbox } from './notify.ts'
import { preferenceRoutes, type PreferenceRoutesOptions } from './preference-routes.ts'
import { listNotifications, listRowsDefault, listStatuses, readNotification, readStats } from './queries.ts'
import { notificationParams, notificationSchema } from './schemas.ts'
import { listTemplates } from './templates.ts'

export interface NotificationRoutesOptions extends PreferenceRoutesOptions {
  db: Database
  inbox: Inbox
  sse: SseResponses
  /** Follows a caller's inbox, from behind a place in its log. */
  stream: (caller: UserCaller, since: Cursor | undefined) => SseSource
}

const listRowsMax = 100
const changedRowsMax = 200
/** Of one request that marks. */
const idsMax = 500

const cursorQuery = z
  .string()
  .transform((text, context) => {
    const cursor = parseCursor(text)
    if (cursor === undefined) context.issues.push({ code: 'custom', message: 'is not a cursor', input: text })
    return cursor
  })
  .meta({ description: '`<epoch>.<seq>`, as answers name it.' })

const logCursor = z.string().nullable().meta({ description: 'Where the log stands: `<epoch>.<seq>`.' })
const marked = z.object({ changed: z.array(z.uuid()), unread: z.int(), cursor: logCursor })

export async function notificationRoutes(
  instance: FastifyInstance,
  options: NotificationRoutesOptions,
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { db, inbox, sse, stream } = options
  const common = { onRequest: app.requireUser }
  const tags = ['Notifications']

  app.get(
    '/notifications',
    {
      ...common,
      schema: {
        summary: 'My notifications, the newest first',
        description: [
          'Without `status`: everything that is not archived. `pending` is what is scheduled for me; nothing in an inbox',
          'has `failed`, which is told of other ways. `cursor` of the answer is where the log stands, of the same moment as',
          'the rows: follow it from there. What expires leaves the list, the badge and the log together, within a minute.',
        ].join('\n'),
        tags,
        querystring: z.object({
          status: z.enum(listStatuses).optional(),
          type: z.enum(notificationTypes).optional(),
          limit: queryInteger(1, listRowsMax, listRowsDefault),
          cursor: z.string().max(200).optional(),
        }),
        response: {
          200: z.object({
            notifications: z.array(notificationSchema),
            unread: z.int(),
            cursor: logCursor,
            pagination: z.object({
              limit: z.int(),
              has_more: z.boolean(),
              next_cursor: z.string().nullable(),
            }),
          }),
        },
      },
    },
    async (request) => {
      const caller = userOf(request)
      return db.asCaller(caller, (tx) => listNotifications(tx, caller.userId, request.query))
    },
  )

  app.get(
    '/notifications/changes',
    {
      ...common,
      schema: {
        summary: 'What changed behind a place in my log',
        description: [
          'For clients that poll: the latest version of everything that changed behind `cursor`, in the order of the log;',
          'ask again with the `cursor` of the answer, at once where `has_more`. Without one (`fresh`), and with one that',
          'means nothing in this log or is too old (`reset`), there is only where it stands: read the list (again).',
        ].join('\n'),
        tags,
        querystring: z.object({
          cursor: cursorQuery.optional(),
          limit: queryInteger(1, changedRowsMax, 50),
        }),
        response: {
          200: z.object({
            mode: z.enum(['resume', 'fresh', 'reset']),
            notifications: z.array(notificationSchema),
            cursor: logCursor,
            head: z.int(),
            unread: z.int(),
            has_more: z.boolean(),
          }),
        },
      },
    },
    async (request) => {
      const caller = userOf(request)
      const { cursor, limit } = request.query
      return db.asCaller(caller, (tx) => readChanges(tx, caller.userId, cursor, limit))
    },
  )

  app.get(
    '/notifications/stream',
    {
      onRequest: async (request) => {
        const { ticket } = request.query as { ticket?: unknown }
        if (request.headers.authorization !== undefined || typeof ticket !== 'string')
          return app.requireUser(request)
        const { origin } = request.headers
        await app.admit(request, () => redeemTicket(db, ticket, 'notifications', origin))
      },
      exposeHeadRoute: false,
      schema: {
        summary: 'Follow my inbox, as events',
        description: [
          'The frames of the socket, each with its place in the log as `id`: `hello`, what is behind `Last-Event-ID` (or',
          '`cursor`), `live`, then events as they come. For `EventSource`: with a ticket for `notifications`.',
        ].join('\n'),
        tags,
        querystring: z.object({
          cursor: cursorQuery.optional(),
          ticket: z.string().max(100).optional(),
        }),
      },
    },
    async (request, reply) => {
      const caller = userOf(request)
      const since = lastEventOf(request) ?? request.query.cursor
      // While an answer can still say so: a stream over a database that is away is only silent.
      await db.asCaller(caller, (tx) =>
        tx.commit(() => readAfter(tx, [{ userId: caller.userId, cursor: undefined }], 1)),
      )
      return sse.send(reply, stream(caller, since))
    },
  )

  app.get(
    '/notifications/stats',
    {
      ...common,
      schema: {
        summary: 'How many there are',
        description: 'Of what is not archived.',
        tags,
        response: {
          200: z.object({
            unread: z.int(),
            total: z.int(),
            by_type: z.partialRecord(z.enum(notificationTypes), z.int()),
            by_priority: z.partialRecord(z.enum(priorities), z.int()),
          }),
        },
      },
    },
    async (request) => {
      const caller = userOf(request)
      return db.asCaller(caller, (tx) => tx.commit(() => readStats(tx, caller.userId)))
    },
  )

  app.get(
    '/notifications/templates',
    {
      ...common,
      schema: {
        summary: 'What notifications can say',
        tags,
        response: {
          200: z.object({
            templates: z.array(
              z.object({
                name: z.string(),
                type: z.enum(notificationTypes),
                priority: z.enum(priorities),
                channels: z.array(z.enum(channels)),
                title: z.string(),
                body: z.string(),
                variables: z.record(z.string(), z.unknown()).meta({ description: 'JSON Schema.' }),
              }),
            ),
          }),
        },
      },
    },
    async () => ({
      templates: listTemplates().map(({ channels: named, ...told }) => ({ ...told, channels: [...named] })),
    }),
  )

  for (const [verb, as] of [
    ['read', 'read'],
    ['archive', 'archived'],
  ] as const)
    app.post(
      `/notifications/:id/${verb}`,
      {
        ...common,
        schema: {
          summary: as === 'read' ? 'Mark one as read' : 'Archive one',
          description: 'Doing it again changes nothing.',
          tags,
          params: notificationParams,
          response: { 200: notificationSchema },
        },
      },
      async (request) => {
        const caller = userOf(request)
        const id = idOrMissing(request.params.id, 'notification_not_found')
        // What its user does not see is not marked.
        await inbox.mark(caller, { ids: [id] }, as)
        const notification = await db.asCaller(caller, (tx) =>
          tx.commit(() => readNotification(tx, caller.userId, id)),
        )
        if (notification === undefined) throw new AppError('notification_not_found')
        return notification
      },
    )

  app.post(
    '/notifications/read',
    {
      ...common,
      schema: {
        summary: 'Mark several as read',
        description:
          'Those named, or all up to a place in the log. What is not there, or is read, is left alone.',
        tags,
        body: z
          .strictObject({
            ids: z.array(z.uuid()).min(1).max(idsMax).optional(),
            up_to: z.int().min(0).optional().meta({ description: 'A `seq`.' }),
          })
          .refine(({ ids, up_to }) => (ids === undefined) !== (up_to === undefined), 'either ids or up_to'),
        response: { 200: marked },
      },
    },
    async (request) => {
      const { ids, up_to: upTo = 0 } = request.body
      return inbox.mark(userOf(request), ids === undefined ? { upTo } : { ids }, 'read')
    },
  )

  await app.register(preferenceRoutes, options)
}

/** A browser that reconnects repeats the address that it began with, and says in the header how far it came. */
function lastEventOf(request: FastifyRequest): Cursor | undefined {
  const header = request.headers['last-event-id']
  if (typeof header !== 'string' || header === '') return undefined
  const cursor = parseCursor(header)
  if (cursor !== undefined) return cursor
  throw new AppError('invalid_request', {
    detail: 'Last-Event-ID is not one of this stream.',
    errors: [{ path: 'last-event-id', message: 'is not a cursor' }],
  })
}
