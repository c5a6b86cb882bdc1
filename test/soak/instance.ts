/** A service in a process of its own, as `npm start` is one. Prints its origin; ends with the process that made it. */
import { pino } from 'pino'
import { createApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { DEMO_MODEL_ID } from '../../src/embedded/demo-model.ts'

export interface InstanceSettings {
  databaseUrl: string
  upstream: string
  secret: string
  env: Record<string, string>
}

// Whoever made us is gone: nobody would end us any more.
process.stdin.on('end', () => process.exit(1)).resume()

const { databaseUrl, upstream, secret, env } = JSON.parse(process.argv[2] ?? '{}') as InstanceSettings
const config = loadConfig({ LOG_LEVEL: 'silent', ...env })
const app = await createApp(
  config,
  {
    databaseUrl,
    exclusive: false,
    tokenKeys: { kind: 'secrets', secrets: [secret] },
    upstream: { baseUrl: upstream, apiKey: 'test', defaultModel: DEMO_MODEL_ID },
    pseudonymKey: secret,
  },
  pino({ level: config.LOG_LEVEL }, pino.destination(2)),
)
await app.prepared
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
