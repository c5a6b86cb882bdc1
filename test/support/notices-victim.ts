/** Background work of notifications in a process of its own, to be killed. Takes the database's URL, a mail server's, and the size of a broadcast's chunk. */
import { pino } from 'pino'
import { createDatabase } from '../../src/db/database.ts'
import { createJobs, type Jobs } from '../../src/jobs/jobs.ts'
import { createNotifications } from '../../src/notifications/notifications.ts'

const [url = '', smtpUrl = '', chunkUsers = ''] = process.argv.slice(2)
const log = pino({ level: 'silent' })
const transactions = createDatabase({ url, poolMax: 4, log })
await transactions.prepare(new AbortController().signal)
const notifications = createNotifications({
  transactions,
  wake: () => undefined,
  wakeJobs: (inMs) => jobs.wake(inMs),
  email: { smtpUrl, from: 'hello@example.com' },
  allowPrivateTargets: true,
  broadcastChunkUsers: Number(chunkUsers),
})
const jobs: Jobs = createJobs({
  transactions,
  log,
  handlers: notifications.jobHandlers,
  pollMs: 50,
  leaseMs: 1_500,
  timeoutMs: 1_000,
})
process.stdout.write('ready\n')
