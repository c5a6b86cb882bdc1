/** A service over a database that may be away or unfit: nobody waits for it to be ready. */
import { pino } from 'pino'
import { createApp, type App } from '../../src/app.ts'
import { mintToken } from '../../src/auth/tokens.ts'
import { DEMO_MODEL_ID, startDemoModel, type DemoModel } from '../../src/embedded/demo-model.ts'
import { createClient, type Answer, type Client } from './client.ts'
import { jwtSecret, testConfig } from './service.ts'

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
    testConfig(options.env),
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
  const origin = await app.http.listen({ host: '127.0.0.1', port: 0 })
  const ann = createClient(origin, await mintToken(jwtSecret, { sub: 'ann', hours: 1 }))
  return {
    app,
    upstream,
    ann,
    failure: () => failure,
    async askEveryRoute() {
      const routes = await routesOf(ann)
      return Promise.all(routes.map((route) => ask(ann, route)))
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
  'POST /api/chat/conversations/{id}/messages': { content: 'Hello?' },
  'POST /api/chat/ticket': { for: `message:${someId}` },
}

/** These answer all the same. */
const withoutDatabase = /\/health|\/models$/

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
  const answer = await client.request(method, path.replaceAll(/\{\w+\}/g, someId), bodies[route])
  return { ...answer, route, tookMs: performance.now() - startedAt }
}
