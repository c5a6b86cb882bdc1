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
  const notice = (message: string) => void process.stdout.write(`${message}\n`)
  await using releases = new AsyncDisposableStack()
  const { resolved, embedded, release } = await resolve(config, notice)
  releases.defer(release)
  const app = await createApp(config, resolved, log)
  releases.defer(() => app.close(0))

  app.prepared.catch((error: unknown) => {
    log.fatal(
      { event: 'database_unusable', err: error },
      'the database cannot be used: this instance stays unready',
    )
  })
  if (embedded.database !== undefined) await app.prepared
  await app.http.listen({ host: config.HOST, port: config.PORT })

  // From here on a signal ends what was started; before, a failure does.
  const started = releases.move()
  closeWithGrace({ delay: stopWithinMs, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) {
      log.fatal({ event: 'process_failed', err }, 'an error nobody caught: stopping')
      process.exitCode = 1
    } else log.info({ event: 'process_stopping', signal }, 'stopping: answers being generated may finish')
    await app.close(err === undefined ? config.SHUTDOWN_GRACE_MS : 0)
    await started.disposeAsync()
  })
  await printBanner({ config, embedded, address: app.http.server.address() })
}

/** A sentence for what a person can mend, a stack for what only we can. */
function wordsFor(error: unknown): string {
  if (error instanceof ConfigError || error instanceof EmbeddedPostgresError) return error.message
  if (!(error instanceof Error)) return String(error)
  if ('code' in error && error.code === 'EADDRINUSE')
    return 'The port is taken by another process: set PORT to a free one.'
  return error.stack ?? error.message
}

await main().catch((error: unknown) => {
  process.stderr.write(`${wordsFor(error)}\n`)
  process.exit(1)
})
