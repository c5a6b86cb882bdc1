/** The process: configuration, embedded parts where the environment leaves a place open, listen, graceful stop. */
import { createApp } from './app.ts'
import { ConfigError, loadConfig } from './config.ts'
import { printBanner } from './embedded/banner.ts'
import { EmbeddedPostgresError, resolve } from './embedded/resolve.ts'
import { createLogger, type Logger } from './logging.ts'

/** The whole stop, ms: orchestrators kill after 30 s. */
const stopWithinMs = 28_000
/** npm passes on a signal that the terminal has sent to the whole group: twice within this is once, ms. */
const sameSignalMs = 1_000

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
  await app.listen({ host: config.HOST, port: config.PORT })

  // From here on a signal ends what was started; before, a failure does.
  const started = releases.move()
  stopOnSignals(log, async (failed) => {
    await app.close(failed ? 0 : config.SHUTDOWN_GRACE_MS)
    await started.disposeAsync()
  })
  await printBanner({ config, embedded, address: app.http.server.address() })
}

/** The first signal stops gracefully, a later one at once; an error that nobody caught stops too, and says so. */
function stopOnSignals(log: Logger, stop: (failed: boolean) => Promise<void>): void {
  let stoppingSinceMs: number | undefined
  const begin = (failed: boolean) => {
    stoppingSinceMs = performance.now()
    setTimeout(() => process.exit(1), stopWithinMs).unref()
    stop(failed).then(
      () => process.exit(failed ? 1 : 0),
      (error: unknown) => {
        log.fatal({ event: 'stop_failed', err: error }, 'stopping failed')
        process.exit(1)
      },
    )
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      if (stoppingSinceMs === undefined) {
        log.info({ event: 'process_stopping', signal }, 'stopping: answers being generated may finish')
        begin(false)
      } else if (performance.now() - stoppingSinceMs > sameSignalMs) process.exit(1)
    })
  for (const event of ['uncaughtException', 'unhandledRejection'] as const)
    process.on(event, (error: unknown) => {
      log.fatal({ event: 'process_failed', err: error }, 'an error nobody caught: stopping')
      if (stoppingSinceMs === undefined) begin(true)
    })
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
