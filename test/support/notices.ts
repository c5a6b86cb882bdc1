/** Notifications over a database of their own, with background work of as many instances as a test starts. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { createJobs, type Jobs, type JobsOptions } from '../../src/jobs/jobs.ts'
import type { Content, Head, NewNotification, Published } from '../../src/notifications/notify.ts'
import {
  createNotifications,
  type Notifications,
  type NotificationsOptions,
} from '../../src/notifications/notifications.ts'
import { contentOf } from './content.ts'
import { cloneDatabase } from './service.ts'
import { vapid } from './vapid.ts'

export interface DeliveryRow {
  channel: string
  target: string
  status: string
  attempts: number
  why: string | null
}

export interface Notices {
  url: string
  database: Database
  /** As its superuser: no wall. */
  sql: Sql
  /** Heads that were woken, in their order. */
  woken: Head[]
  /** An instance, whose jobs look every 50 ms. */
  instance(options?: Partial<NotificationsOptions>, jobs?: Partial<JobsOptions>): Instance
  deliveries(): Promise<DeliveryRow[]>
  /** Kinds of what is queued. */
  queued(): Promise<string[]>
  /** What a service would have told of them. */
  person(email?: string | null): Promise<string>
  close(): Promise<void>
}

export interface Instance extends Notifications {
  jobs: Jobs
  send(userId: string, content?: Partial<Content>, rest?: Partial<NewNotification>): Promise<Published>
  stop(): Promise<void>
}

export const webPushKeys = {
  publicKey: vapid.VAPID_PUBLIC_KEY,
  privateKey: vapid.VAPID_PRIVATE_KEY,
  subject: vapid.VAPID_SUBJECT,
}

export async function startNotices(): Promise<Notices> {
  const { url, drop } = await cloneDatabase()
  const sql = postgres(url, { max: 3, onnotice: () => undefined })
  const database = createDatabase({ url, poolMax: 10, log: pino({ level: 'silent' }) })
  await database.prepare(new AbortController().signal)
  const woken: Head[] = []
  const instances: Instance[] = []

  function instance(
    options: Partial<NotificationsOptions> = {},
    jobsOptions: Partial<JobsOptions> = {},
  ): Instance {
    const notifications = createNotifications({
      transactions: database,
      wake: (heads) => void woken.push(...heads),
      wakeJobs: (inMs) => jobs.wake(inMs),
      allowPrivateTargets: true,
      times: { backoff: { firstMs: 10, maxMs: 50 } },
      ...options,
    })
    const jobs: Jobs = createJobs({
      transactions: options.transactions ?? database,
      log: pino({ level: 'silent' }),
      handlers: notifications.jobHandlers,
      pollMs: 50,
      ...jobsOptions,
    })
    let stopping: Promise<void> | undefined
    const started: Instance = {
      ...notifications,
      jobs,
      async send(userId, content, rest) {
        const [published] = await notifications.inbox.notify([
          { userId, content: contentOf(content), ...rest },
        ])
        if (published === undefined) throw new Error('nothing was published')
        return published
      },
      stop() {
        stopping ??= jobs.close().then(() => notifications.close())
        return stopping
      },
    }
    instances.push(started)
    return started
  }

  return {
    url,
    database,
    sql,
    woken,
    instance,
    deliveries: () =>
      sql<DeliveryRow[]>`
        select channel, target, status, attempts, last_error as why from chat.deliveries order by channel, target`,
    async queued() {
      const rows = await sql<
        { kind: string }[]
      >`select kind from chat.jobs where status = 'queued' order by kind`
      return rows.map(({ kind }) => kind)
    },
    async person(email = null) {
      const userId = `user-${randomUUID()}`
      await sql`insert into chat.notification_preferences (user_id, channels, email) values (${userId}, '{}', ${email})`
      return userId
    },
    async close() {
      await Promise.all(instances.map((started) => started.stop()))
      await database.close()
      await sql.end()
      await drop()
    },
  }
}
