/** The product as `npm start` composes it, over the bench's database and upstream. */
import type { AddressInfo } from 'node:net'
import { createApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { createLogger } from '../../src/logging.ts'
import { tellPort } from '../probe.ts'

const config = loadConfig({
  ...process.env,
  // Never reached, and counted all the same: that is part of what a request costs.
  RATE_LIMIT_MESSAGES_PER_HOUR: '1000000',
  RATE_LIMIT_CONVERSATIONS_PER_DAY: '1000000',
  RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '1000000',
  RATE_LIMIT_RUNNING_GENERATIONS: '1000',
})
const secret = process.env['BENCH_SECRET'] ?? ''
const app = await createApp(
  config,
  {
    databaseUrl: process.env['BENCH_DATABASE'] ?? '',
    exclusive: false,
    tokenKeys: { kind: 'secrets', secrets: [secret] },
    upstream: { baseUrl: process.env['UPSTREAM'] ?? '', apiKey: 'bench', defaultModel: 'bench/model' },
    pseudonymKey: secret,
  },
  createLogger(config),
)
await app.prepared
await app.listen({ host: '127.0.0.1', port: 0 })
tellPort((app.http.server.address() as AddressInfo).port)
