/** A relay in a process of its own, to be killed. Takes the database's URL and the receiver's. */
import { pino } from 'pino'
import { createDatabase } from '../../src/db/database.ts'
import { createBridgeSink } from '../../src/outbox/bridge-sink.ts'
import { createRelay } from '../../src/outbox/relay.ts'

const [url = '', receiver = ''] = process.argv.slice(2)
const log = pino({ level: 'silent' })
const database = createDatabase({ url, poolMax: 2, log })
await database.prepare(new AbortController().signal)
const bridge = createBridgeSink({ url: receiver })
createRelay({
  transactions: database,
  log,
  ready: () => database.state() === 'ready',
  sinks: { exchange: { isUp: () => true, send: (event) => bridge.send(event) } },
  times: { pollMs: 20, leaseMs: 1_500 },
})
process.stdout.write('ready\n')
// Its own timers keep no process alive.
setInterval(() => undefined, 60_000)
