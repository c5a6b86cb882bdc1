/**
 * `npm run redrive`: sends the dead letters again that lie there now, the oldest first; with a number, at most so many. Each
 * is received as if it came for the first time: what cannot be dealt with still comes back.
 */
import { ConfigError, loadConfig } from '../config.ts'
import { createLogger } from '../logging.ts'
import { redrive } from './redrive.ts'

async function main(): Promise<void> {
  const config = loadConfig()
  const [given] = process.argv.slice(2)
  const {
    RABBITMQ_URL: url,
    EXCHANGE_NAME: exchange,
    CHAT_QUEUE_NAME: queue,
    ROUTING_KEY: routingKey,
  } = config
  if (url === undefined) throw new ConfigError(['RABBITMQ_URL: required, to know whose dead letters'])
  if (given !== undefined && !/^[1-9]\d{0,8}$/.test(given))
    throw new ConfigError(['The one argument is how many, a whole number.'])
  const limit = given === undefined ? {} : { limit: Number(given) }
  const moved = await redrive({
    url,
    names: { exchange, queue, routingKey },
    log: createLogger(config),
    ...limit,
  })
  process.stdout.write(`${moved} sent again\n`)
}

await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
})
