/** A service in a process of its own, to be killed. Reads DATABASE_URL and UPSTREAM; prints its origin. */
import { pino } from 'pino'
import { createApp } from '../../src/app.ts'
import { DEMO_MODEL_ID } from '../../src/embedded/demo-model.ts'
import { loadConfig } from '../../src/config.ts'
import { unlimited } from './unlimited.ts'

const [databaseUrl = '', upstream = '', secret = ''] = process.argv.slice(2)
const app = await createApp(
  loadConfig({ LOG_LEVEL: 'silent', ...unlimited, RATE_LIMIT_RUNNING_GENERATIONS: '50' }),
  {
    databaseUrl,
    exclusive: false,
    tokenKeys: { kind: 'secrets', secrets: [secret] },
    upstream: { baseUrl: upstream, apiKey: 'test', defaultModel: DEMO_MODEL_ID },
    pseudonymKey: secret,
  },
  pino({ level: 'silent' }),
)
await app.prepared
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
