/**
 * `/playground/realtime`: a page for trying the socket, in development alone.
 *
 * The page is files as they lie here; its scripts are our own sources with the types stripped. Where tokens are signed
 * with the secret of this installation, the page may also mint one, send its bearer a notification, and let them into a
 * room of the playground: for callers on this machine, from pages of this server, and for nobody else.
 */
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { userOf } from '../auth/authenticate.ts'
import { mintToken } from '../auth/tokens.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import { jsonObject, text } from '../http/text.ts'
import type { NewNotification, Published } from '../notifications/inbox.ts'
import { notificationTypes, priorities } from '../notifications/kinds.ts'

export interface PlaygroundOptions {
  nodeEnv: Config['NODE_ENV']
  basePath: string
  /** The installation's own secret. Undefined: keys are configured, and nobody here may act in their name. */
  embeddedSecret: string | undefined
  issuer: string | undefined
  audience: string | undefined
  notify: (entries: readonly NewNotification[]) => Promise<Published[]>
  /** Makes somebody a member of a room. */
  admit: (room: string, userId: string) => Promise<void>
}

/** Long enough for an afternoon of trying. */
const tokenHours = 12
const delaySecondsMax = 3_600

const files = {
  '/playground/realtime.css': { file: 'realtime.css', type: 'text/css; charset=utf-8' },
  ...Object.fromEntries(
    ['realtime-page', 'realtime-device', 'realtime-view', 'client/realtime', 'client/line']
      .concat(['client/rows', 'client/ticket'])
      .map((name) => [
        `/playground/${name}.ts`,
        { file: `${name}.ts`, type: 'text/javascript; charset=utf-8' },
      ]),
  ),
}

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export async function playgroundRoutes(app: FastifyInstance, options: PlaygroundOptions): Promise<void> {
  const { nodeEnv, basePath, embeddedSecret } = options
  if (nodeEnv === 'production') return
  const asFile = { exposeHeadRoute: true, schema: { hide: true } }

  app.get('/playground/realtime', asFile, async (_request, reply) => {
    const page = await readPart('realtime.html')
    return addPageHeaders(reply, 'text/html; charset=utf-8').send(
      page.replace('{api}', basePath).replace('{tokens}', embeddedSecret === undefined ? 'pasted' : 'minted'),
    )
  })
  for (const [url, { file, type }] of Object.entries(files))
    app.get(url, asFile, async (_request, reply) => {
      const part = await readPart(file)
      return addPageHeaders(reply, type).send(file.endsWith('.ts') ? stripTypeScriptTypes(part) : part)
    })
  if (embeddedSecret !== undefined) actions(app, embeddedSecret, options)
}

/** Read each time: what is being edited is seen. */
const readPart = (file: string) => readFile(new URL(file, import.meta.url), 'utf8')

const addPageHeaders = (reply: FastifyReply, type: string) =>
  reply
    .header('content-type', type)
    .header('content-security-policy', policy)
    .header('cross-origin-resource-policy', 'same-origin')
    .header('cache-control', 'no-cache')

const notifyBody = z.strictObject({
  title: text(1, 200),
  body: text(0, 4_000).default(''),
  type: z.enum(notificationTypes).default('system'),
  priority: z.enum(priorities).default('medium'),
  progress: z.int().min(0).max(100).nullable().default(null),
  data: jsonObject.default({}),
  dedupe_key: text(1, 200).optional(),
  delay_s: z.int().min(1).max(delaySecondsMax).optional(),
})

function actions(instance: FastifyInstance, secret: string, options: PlaygroundOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const { issuer, audience, notify, admit } = options
  const asUser = [onThisMachine, app.requireUser]

  app.post(
    '/playground/token',
    { onRequest: onThisMachine, schema: { hide: true, body: z.strictObject({ sub: text(1, 255) }) } },
    async (request) => ({
      token: await mintToken(secret, { sub: request.body.sub, hours: tokenHours, issuer, audience }),
    }),
  )

  app.post(
    '/playground/notify',
    { onRequest: asUser, schema: { hide: true, body: notifyBody } },
    async (request, reply) => {
      const { delay_s: delayS, dedupe_key: dedupeKey = null, ...said } = request.body
      const [published] = await notify([
        {
          userId: userOf(request).userId,
          content: { ...said, template: null, icon: null, color: null, action: null, channels: ['in_app'] },
          dedupeKey,
          scheduledAt: delayS === undefined ? null : new Date(Date.now() + delayS * 1_000).toISOString(),
        },
      ])
      return reply
        .code(201)
        .send({ notification_id: published?.id, outcome: published?.outcome, seq: published?.seq })
    },
  )

  app.post(
    '/playground/room',
    {
      onRequest: asUser,
      schema: {
        hide: true,
        body: z.strictObject({
          room: z.string().regex(/^playground:[a-z0-9-]{1,64}$/, 'must be "playground:<name>"'),
        }),
      },
    },
    async (request, reply) => {
      await admit(request.body.room, userOf(request).userId)
      return reply.code(204).send()
    },
  )
}

const loopbackAddress = /^(127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/
const loopbackHost = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i
/** What proxies add: the caller is somebody behind them. */
const forwarded = [
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-real-ip',
  'via',
]

/**
 * A program on this machine, or a page of this very server: not a page of another site that has a browser here ask, under
 * another name for this address (DNS rebinding) or its own. What these routes answer, no other page may read.
 */
async function onThisMachine(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  void reply.removeHeader('access-control-allow-origin').header('cache-control', 'no-store')
  const { headers, socket } = request
  const host = headers.host ?? ''
  const isHere =
    loopbackAddress.test(socket.remoteAddress ?? '') &&
    loopbackHost.test(host) &&
    (headers.origin === undefined || headers.origin === `http://${host}`) &&
    ['same-origin', 'none'].includes(headers['sec-fetch-site'] ?? 'none') &&
    forwarded.every((name) => headers[name] === undefined) &&
    // As nginx asks on behalf of others where nobody told it better; nothing here does.
    request.raw.httpVersion !== '1.0'
  if (!isHere)
    throw new AppError('forbidden', {
      detail: 'Only this machine may ask for this, and only pages of this server.',
    })
  // A form of another site can send text; a page that sends JSON is asked first, and refused.
  if (!/^application\/json\s*(;|$)/i.test(headers['content-type'] ?? ''))
    throw new AppError('unsupported_media_type', { detail: 'Send JSON.' })
}
