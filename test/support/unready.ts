/** A service over a database that may be away or unfit: nobody waits for it to be ready. */
import { pino } from 'pino'
import { createApp, type App } from '../../src/app.ts'
import { mintToken } from '../../src/auth/tokens.ts'
import { DEMO_MODEL_ID, startDemoModel, type DemoModel } from '../../src/embedded/demo-model.ts'
import { createClient, type Answer, type Client } from './client.ts'
import { jwtSecret, serviceKey, testConfig } from './service.ts'
import { vapid } from './vapid.ts'

export interface UnreadyService {
  app: App
  upstream: DemoModel
  ann: Client
  /** Why it will never be ready; undefined while it may be. */
  failure(): Error | undefined
  /** Asks every route of the API for something valid, all at once, and measures. */
  askEveryRoute(): Promise<Asked[]>
  close(): Promise<void>
}

export interface Asked extends Answer {
  /** Such as `GET /api/chat/conversations`. */
  route: string
  tookMs: number
}

export async function startUnready(
  databaseUrl: string,
  options: { env?: Record<string, string>; exclusive?: boolean } = {},
): Promise<UnreadyService> {
  const upstream = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
  let failure: Error | undefined
  const app = await createApp(
    // What is not configured would say so before it asks the database.
    testConfig({ ...vapid, ...options.env }),
    {
      databaseUrl,
      exclusive: options.exclusive ?? false,
      tokenKeys: { kind: 'secrets', secrets: [jwtSecret] },
      upstream: { baseUrl: upstream.baseUrl, apiKey: 'test', defaultModel: DEMO_MODEL_ID },
      pseudonymKey: jwtSecret,
    },
    pino({ level: 'silent' }),
  )
  app.prepared.catch((error: unknown) => {
    failure = error instanceof Error ? error : new Error(String(error))
  })
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  const ann = createClient(origin, await mintToken(jwtSecret, { sub: 'ann', hours: 1 }))
  const service = createClient(origin, serviceKey)
  return {
    app,
    upstream,
    ann,
    failure: () => failure,
    async askEveryRoute() {
      const routes = await routesOf(ann)
      return Promise.all(routes.map((route) => ask(forServices.test(route.path) ? service : ann, route)))
    },
    async close() {
      await app.close(0)
      await upstream.close()
    },
  }
}

const someId = '01900000-0000-7000-8000-000000000000'

/** What a route needs beside its ids. A new route that needs a body and is not named here is answered 400. */
const bodies: Record<string, unknown> = {
  'POST /api/chat/conversations': {},
  'PUT /api/chat/conversations/{id}': { title: 'A title' },
  'PATCH /api/chat/conversations/{id}': { title: 'A title' },
  'POST /api/chat/conversations/{id}/fork': { message_id: someId },
  'POST /api/chat/conversations/{id}/context/assessment': { assessment_id: 'a1' },
  'POST /api/chat/conversations/auto-initialize': { user_id: 'ann', assessment_id: 'a1' },
  'POST /api/chat/internal/events': { type: 'analysis_started', user_id: 'ann', assessment_id: 'a1' },
  'POST /api/chat/conversations/{id}/messages': { content: 'Hello?' },
  'PUT /api/chat/conversations/{id}/messages/{message_id}/reaction': { reaction: 'like' },
  'POST /api/chat/conversations/{id}/messages/{message_id}/reactions': { reaction: 'like' },
  'POST /api/chat/ticket': { for: `message:${someId}` },
  'POST /api/chat/notifications/read': { ids: [someId] },
  'PUT /api/chat/notifications/preferences': { channels: {} },
  'POST /api/chat/notifications/push-subscriptions': {
    endpoint: 'https://push.example/1',
    keys: { p256dh: vapid.VAPID_PUBLIC_KEY, auth: 'A'.repeat(22) },
  },
  'DELETE /api/chat/notifications/push-subscriptions': { endpoint: 'https://push.example/1' },
  'POST /api/chat/internal/notifications': { user_id: 'ann', type: 'reminder', title: 'A title' },
  'POST /api/chat/internal/notifications/bulk': { user_ids: ['ann'], type: 'reminder', title: 'A title' },
  'POST /api/chat/internal/notifications/broadcast': { type: 'reminder', title: 'A title' },
  'PUT /api/chat/internal/rooms/{room}/members': { add: ['ann'] },
  'POST /api/chat/internal/webhooks': { url: 'https://hook.example/' },
  'PUT /api/chat/internal/contacts/{user_id}': { email: 'ann@example.com' },
}

const forServices = /\/internal\/|\/auto-initialize$|\/assessment-ready\//

/** These answer all the same. */
const withoutDatabase = /\/health|\/internal\/realtime\/|\/(models|ws|templates|push-key)$/

async function routesOf(client: Client): Promise<{ method: string; path: string }[]> {
  const { body } = await client.get<{ paths: Record<string, Record<string, unknown>> }>('/docs/openapi.json')
  return Object.entries(body.paths)
    .filter(([path]) => path.startsWith('/api/chat/') && !withoutDatabase.test(path))
    .flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path })),
    )
}

async function ask(client: Client, { method, path }: { method: string; path: string }): Promise<Asked> {
  const route = `${method} ${path}`
  const startedAt = performance.now()
  const answer = await client.request(
    method,
    path.replace('{room}', `team:${someId}`).replaceAll(/\{\w+\}/g, someId),
    bodies[route],
  )
  return { ...answer, route, tookMs: performance.now() - startedAt }
}
