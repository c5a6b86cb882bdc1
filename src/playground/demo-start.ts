/**
 * The service of a demo, as `npm start` does it, on a free port: what it is not given (a database, a model) is embedded,
 * in a directory that is removed. The environment is not read.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApp } from '../app.ts'
import { mintToken } from '../auth/tokens.ts'
import { loadConfig } from '../config.ts'
import { resolve } from '../embedded/resolve.ts'
import { createLogger } from '../logging.ts'
import { createDemoClient, type DemoClient } from './demo-client.ts'
import { dim, seconds } from './demo-text.ts'

/** Who uses it. */
export const user = 'demo'
const tokenHours = 1

export interface DemoStage {
  /** Origin and base path. */
  api: string
  /** The user's. */
  token: string
  client: DemoClient
  /** Somebody else's, such as a service's with its key. */
  clientOf: (token: string) => DemoClient
}

/** Every part adds its own release. @param env what the story configures. */
export async function startDemo(
  releases: AsyncDisposableStack,
  signal: AbortSignal,
  env: Record<string, string> = {},
): Promise<DemoStage> {
  const startedAt = performance.now()
  const home = await mkdtemp(join(tmpdir(), 'rivulet-demo-'))
  releases.defer(() => rm(home, { recursive: true, force: true }))
  // Started by root, PostgreSQL runs as somebody else, who must be able to pass through.
  await chmod(home, 0o755)

  const config = loadConfig({ DATA_DIR: join(home, 'data'), PORT: '0', LOG_LEVEL: 'silent', ...env })
  const { resolved, embedded, release } = await resolve(config, (message) => console.log(dim(message)))
  releases.defer(release)
  signal.throwIfAborted()
  const app = await createApp(config, resolved, createLogger(config))
  releases.defer(() => app.close(0))
  await app.prepared
  const origin = await app.listen({ host: config.HOST, port: config.PORT })
  signal.throwIfAborted()

  if (embedded.jwtSecret === undefined) throw new Error('the demo has no secret of its own')
  const token = await mintToken(embedded.jwtSecret, { sub: user, hours: tokenHours })
  console.log(
    dim(`Rivulet listens on ${origin} after ${seconds(startedAt)}; database and model are embedded.`),
  )
  const api = `${origin}${config.BASE_PATH}`
  const clientOf = (by: string) => {
    const client = createDemoClient({ api, token: by, signal })
    releases.defer(() => client.close())
    return client
  }
  return { api, token, client: clientOf(token), clientOf }
}
