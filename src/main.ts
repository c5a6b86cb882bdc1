/** The process: configuration, embedded parts where the environment leaves a place open, listen, graceful stop. */
import closeWithGrace from 'close-with-grace'
import { createApp } from './app.ts'
import { ConfigError, loadConfig } from './config.ts'
import { printBanner } from './embedded/banner.ts'
import { EmbeddedPostgresError, resolve } from './embedded/resolve.ts'
import { createLogger } from './logging.ts'

/** The whole stop, ms: orchestrators kill after 30 s. */
const stopWithinMs = 28_000

async function main(): Promise<void> {
  const config = loadConfig()
  const log = createLogger(config)
  const { resolved, embedded, release } = await resolve(
    config,
    (message) => void process.stdout.write(`${message}\n`),
  )
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
