/** The process: configuration, embedded parts where the environment leaves a place open, listen, graceful stop. */
import closeWithGrace from 'close-with-grace'
import { createApp, type Resolved } from './app.ts'
import { ConfigError, loadConfig, type Config } from './config.ts'
import { printBanner, type Embedded } from './embedded/banner.ts'
import { DEMO_MODEL_ID, startDemoModel } from './embedded/demo-model.ts'
import { EmbeddedPostgresError, startEmbeddedPostgres } from './embedded/postgres.ts'
import { loadSecret } from './embedded/secret.ts'
import { createLogger } from './logging.ts'

const openrouterUrl = 'https://openrouter.ai/api/v1'
const defaultModel = 'meta-llama/llama-3.3-70b-instruct:free'
/** The whole stop, ms: orchestrators kill after 30 s. */
const stopWithinMs = 28_000

async function main(): Promise<void> {
  const config = loadConfig()
  const log = createLogger(config)
  const { resolved, embedded, release } = await resolve(config)
  const app = await createApp(config, resolved, log)

  closeWithGrace({ delay: stopWithinMs, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) {
      log.fatal({ event: 'process_failed', err }, 'an error nobody caught: stopping')
      process.exitCode = 1
    } else log.info({ event: 'process_stopping', signal }, 'stopping: answers being generated may finish')
    await app.close(err === undefined ? config.SHUTDOWN_GRACE_MS : 0)
    await release()
  })

  app.prepared.catch((error: unknown) => {
    log.fatal(
      { event: 'database_unusable', err: error },
      'the database cannot be used: this instance stays unready',
    )
  })
  if (embedded.database !== undefined) await app.prepared
  await app.http.listen({ host: config.HOST, port: config.PORT })
  await printBanner({ config, embedded, address: app.http.server.address() })
}

/** Fills what the environment leaves open with embedded parts. What is configured is never replaced. */
async function resolve(
  config: Config,
): Promise<{ resolved: Resolved; embedded: Embedded; release: () => Promise<void> }> {
  const embedded: Embedded = {}
  const releases: (() => Promise<void>)[] = []

  let databaseUrl = config.DATABASE_URL
  if (databaseUrl === undefined) {
    const postgres = await startEmbeddedPostgres({
      dataDir: config.DATA_DIR,
      onNotice: (message) => process.stdout.write(`${message}\n`),
    })
    releases.push(() => postgres.stop())
    databaseUrl = postgres.url
    embedded.database = postgres.directory
  }

  let baseUrl =
    config.OPENROUTER_BASE_URL ?? (config.OPENROUTER_API_KEY === undefined ? undefined : openrouterUrl)
  let model = config.DEFAULT_MODEL ?? defaultModel
  if (baseUrl === undefined) {
    const demo = await startDemoModel()
    releases.push(() => demo.close())
    baseUrl = demo.baseUrl
    model = config.DEFAULT_MODEL ?? DEMO_MODEL_ID
    embedded.model = model
  }

  let tokenKeys: Resolved['tokenKeys']
  if (config.JWKS_URL !== undefined) tokenKeys = { kind: 'jwks', url: config.JWKS_URL }
  else if (config.JWT_PUBLIC_KEY !== undefined) tokenKeys = { kind: 'public_key', pem: config.JWT_PUBLIC_KEY }
  else if (config.JWT_SECRET !== undefined) tokenKeys = { kind: 'secrets', secrets: config.JWT_SECRET }
  else {
    const secret = await loadSecret(config.DATA_DIR, 'jwt-secret')
    tokenKeys = { kind: 'secrets', secrets: [secret] }
    embedded.jwtSecret = secret
  }

  const resolved = {
    databaseUrl,
    exclusive: embedded.database !== undefined,
    tokenKeys,
    upstream: { baseUrl, apiKey: config.OPENROUTER_API_KEY ?? 'none', defaultModel: model },
    pseudonymKey: tokenKeys.kind === 'secrets' ? (tokenKeys.secrets[0] ?? '') : databaseUrl,
  }
  return {
    resolved,
    embedded,
    release: async () => {
      for (const releaseOne of releases.reverse()) await releaseOne()
    },
  }
}

await main().catch((error: unknown) => {
  const told = error instanceof ConfigError || error instanceof EmbeddedPostgresError
  const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
  const words = inUse
    ? 'The port is taken by another process: set PORT to a free one.'
    : told
      ? error.message
      : error instanceof Error
        ? error.stack
        : String(error)
  process.stderr.write(`${words ?? 'unknown error'}\n`)
  process.exit(1)
})
