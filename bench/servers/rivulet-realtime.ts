/** The product as `npm start` composes it, over the bench's database: for sockets, so it is signalled, killed and started again. */
import type { AddressInfo } from 'node:net'
import { createApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { createLogger } from '../../src/logging.ts'
import { tellPort } from '../probe.ts'
import { answerLoop } from '../realtime/loop.ts'

const secret = process.env['BENCH_SECRET'] ?? ''
const config = loadConfig({ ...process.env, INTERNAL_SERVICE_KEY: secret })
const app = await createApp(
  config,
  {
    databaseUrl: process.env['BENCH_DATABASE'] ?? '',
    exclusive: false,
    tokenKeys: { kind: 'secrets', secrets: [secret] },
    // No answer is generated here: nobody listens there.
    upstream: { baseUrl: 'http://127.0.0.1:9/api/v1', apiKey: 'bench', defaultModel: 'bench/model' },
    pseudonymKey: secret,
  },
  createLogger(config),
)
await app.prepared
process.once('SIGTERM', () => {
  void app.close(config.SHUTDOWN_GRACE_MS).then(
    () => process.exit(0),
    () => process.exit(1),
  )
})
await app.listen({ host: '127.0.0.1', port: Number(process.env['BENCH_PORT'] ?? 0) })
answerLoop()
tellPort((app.http.server.address() as AddressInfo).port)
