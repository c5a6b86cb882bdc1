/**
 * Door of embedded: fills what the environment leaves open, with a PostgreSQL, a model and a secret of our own.
 *
 * What is configured is never replaced. A part is imported only where it is needed: a process that brings
 * nothing along loads none of their code. What was started is released again when a later part fails.
 */
import type { Resolved } from '../app.ts'
import type { Config } from '../config.ts'
import type { Embedded } from './banner.ts'

export type { Embedded } from './banner.ts'
export { EmbeddedPostgresError } from './postgres-user.ts'

export interface Filled {
  resolved: Resolved
  embedded: Embedded
  /** Stops what was started, the newest first; idempotent. */
  release: () => Promise<void>
}

const openrouterUrl = 'https://openrouter.ai/api/v1'
const defaultModel = 'meta-llama/llama-3.3-70b-instruct:free'

/** @throws EmbeddedPostgresError, whose message is meant for the person who started us. */
export async function resolve(config: Config, onNotice: (message: string) => void): Promise<Filled> {
  const embedded: Embedded = {}
  const releases: (() => Promise<void>)[] = []
  const release = async () => {
    for (const releaseOne of releases.splice(0).reverse()) await releaseOne()
  }
  try {
    return { resolved: await fill(config, embedded, releases, onNotice), embedded, release }
  } catch (error) {
    await release()
    throw error
  }
}

async function fill(
  config: Config,
  embedded: Embedded,
  releases: (() => Promise<void>)[],
  onNotice: (message: string) => void,
): Promise<Resolved> {
  let databaseUrl = config.DATABASE_URL
  if (databaseUrl === undefined) {
    const { startEmbeddedPostgres } = await import('./postgres.ts')
    const postgres = await startEmbeddedPostgres({ dataDir: config.DATA_DIR, onNotice })
    releases.push(() => postgres.stop())
    databaseUrl = postgres.url
    embedded.database = postgres.directory
  }

  let baseUrl =
    config.OPENROUTER_BASE_URL ?? (config.OPENROUTER_API_KEY === undefined ? undefined : openrouterUrl)
  let model = config.DEFAULT_MODEL ?? defaultModel
  if (baseUrl === undefined) {
    const { DEMO_MODEL_ID, startDemoModel } = await import('./demo-model.ts')
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
    const { loadSecret } = await import('./secret.ts')
    const secret = await loadSecret(config.DATA_DIR, 'jwt-secret')
    tokenKeys = { kind: 'secrets', secrets: [secret] }
    embedded.jwtSecret = secret
  }

  return {
    databaseUrl,
    exclusive: embedded.database !== undefined,
    tokenKeys,
    upstream: { baseUrl, apiKey: config.OPENROUTER_API_KEY ?? 'none', defaultModel: model },
    pseudonymKey: pseudonymKeyOf(tokenKeys),
    embeddedSecret: embedded.jwtSecret,
  }
}

/** Stable as long as the keys are: after a rotation an upstream meets its users anew, and that is all. */
function pseudonymKeyOf(keys: Resolved['tokenKeys']): string {
  if (keys.kind === 'secrets') return keys.secrets[0] ?? ''
  return keys.kind === 'public_key' ? keys.pem : keys.url
}
