/** The real service on a real socket, over a database of its own and the scripted upstream. */
import { randomBytes } from 'node:crypto'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { inject } from 'vitest'
import { createApp, type App, type Resolved } from '../../src/app.ts'
import { mintToken } from '../../src/auth/tokens.ts'
import { loadConfig, type Config } from '../../src/config.ts'
import {
  DEMO_MODEL_ID,
  PAID_MODEL_ID,
  startDemoModel,
  type DemoModel,
} from '../../src/embedded/demo-model.ts'
import { createClient, type Client } from './client.ts'
import { templateName } from './global-setup.ts'
import { unlimited } from './unlimited.ts'

export const jwtSecret = 'test-secret-of-at-least-32-characters'
export const serviceKey = 'test-service-key-of-at-least-32-characters'

export interface Service {
  /** Origin, such as http://127.0.0.1:4711. */
  origin: string
  upstream: DemoModel
  app: App
  /** The database as its superuser: no wall. */
  sql: Sql
  databaseUrl: string
  /** A client that acts as this user. */
  as(user: string, claims?: { tier?: string }): Promise<Client>
  anonymous: Client
  close(): Promise<void>
}

export interface ServiceOptions {
  env?: Record<string, string>
  resolved?: Partial<Resolved>
  /** The default model; the demo one unless said otherwise. */
  upstreamModel?: string
  /** Collects what is logged, one parsed line each. */
  logs?: Record<string, unknown>[]
}

export async function cloneDatabase(): Promise<{ url: string; drop: () => Promise<void> }> {
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = postgres(inject('postgresUrl'), { max: 1, onnotice: () => undefined })
  await admin.unsafe(`create database ${name} template ${templateName}`)
  await admin.end()
  const url = new URL(inject('postgresUrl'))
  url.pathname = `/${name}`
  return {
    url: url.href,
    async drop() {
      const cleaner = postgres(inject('postgresUrl'), { max: 1, onnotice: () => undefined })
      await cleaner.unsafe(`drop database if exists ${name} with (force)`)
      await cleaner.end()
    },
  }
}

export async function startService(options: ServiceOptions = {}): Promise<Service> {
  const database = await cloneDatabase()
  const upstream = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
  const config = testConfig(options.env)
  const log = pino(
    { level: options.logs === undefined ? 'silent' : 'trace' },
    { write: (line: string) => options.logs?.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const app = await createApp(
    config,
    {
      databaseUrl: database.url,
      exclusive: true,
      tokenKeys: { kind: 'secrets', secrets: [jwtSecret] },
      upstream: {
        baseUrl: upstream.baseUrl,
        apiKey: 'test',
        defaultModel: options.upstreamModel ?? DEMO_MODEL_ID,
      },
      pseudonymKey: jwtSecret,
      ...options.resolved,
    },
    log,
  )
  await app.prepared
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  const sql = postgres(database.url, { max: 2, onnotice: () => undefined })
  return {
    origin,
    upstream,
    app,
    sql,
    databaseUrl: database.url,
    anonymous: createClient(origin),
    async as(user, claims = {}) {
      return createClient(origin, await mintToken(jwtSecret, { sub: user, hours: 1, ...claims }))
    },
    async close() {
      await app.close(0)
      await upstream.close()
      await sql.end()
      await database.drop()
    },
  }
}

export function testConfig(env: Record<string, string> = {}): Config {
  return loadConfig({
    LOG_LEVEL: 'silent',
    UPSTREAM_RETRY_MS: '1',
    ALLOWED_MODELS: `${DEMO_MODEL_ID},${PAID_MODEL_ID}`,
    INTERNAL_SERVICE_KEY: serviceKey,
    ...unlimited,
    ...env,
  })
}
