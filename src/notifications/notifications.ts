/**
 * Door of notifications: the folder's machines, put together. What is made here is released by `close`.
 *
 * The inbox needs nothing else. Each other way is there where it is configured; webhooks are, where one is registered.
 */
import type { Transactions } from '../db/database.ts'
import type { Backoff } from '../jobs/backoff.ts'
import type { JobHandler } from '../jobs/jobs.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { createAppearHandler } from './appear.ts'
import { broadcastKind, createBroadcastHandler } from './broadcast.ts'
import { createEmailChannel } from './channels/email.ts'
import { createWebhookChannel } from './channels/webhook.ts'
import { createWebPushChannel } from './channels/web-push.ts'
import { createDeliverHandlers, type SendingChannels } from './deliver.ts'
import { createEscalateHandler } from './escalate.ts'
import type { Head } from './heads.ts'
import type { Channel } from './kinds.ts'
import { appearKind, createInbox, type Inbox } from './notify.ts'
import { createPlanner, escalateKind, outsideChannels } from './plan.ts'
import { listNotifications, listRowsDefault, type ListQuery, type NotificationPage } from './queries.ts'
import { createTidying, tidyKind, type Tidying } from './tidy.ts'

export type { Inbox } from './notify.ts'

export interface Notifications {
  inbox: Inbox
  /** As `GET …/notifications` answers. */
  list(
    caller: { userId: string },
    query: Omit<ListQuery, 'limit'> & { limit?: number | undefined },
  ): Promise<NotificationPage>
  /** By kind of job. */
  jobHandlers: Record<string, JobHandler>
  /** What this installation has. */
  channels: readonly Channel[]
  sweep: Tidying['sweep']
  /** When tables may be reached: plants what has to be done from time to time. */
  start(): void
  /** After the jobs are closed. */
  close(): Promise<void>
}

export interface NotificationsOptions {
  transactions: Transactions
  /** After a commit: these logs moved. */
  wake: (heads: readonly Head[]) => void
  wakeJobs: (inMs?: number) => void
  /** Tells other services of what appears and changes. */
  outbox?: Outbox | undefined
  email?: { smtpUrl: string; from: string } | undefined
  webPush?: { publicKey: string; privateKey: string; subject: string } | undefined
  /** Where the app is: letters' links lead there. */
  publicUrl?: string | undefined
  allowPrivateTargets: boolean
  now?: (() => Date) | undefined
  /** For tests: how long each thing waits. */
  times?: { backoff?: Backoff; escalateAfter?: { pushMs: number; emailMs: number }; tidyEveryMs?: number }
  /** For tests: users of a broadcast's chunk. */
  broadcastChunkUsers?: number
}

export function createNotifications(options: NotificationsOptions): Notifications {
  const { transactions, wake, wakeJobs, allowPrivateTargets: allowPrivate } = options
  const { now = () => new Date(), times = {}, publicUrl, outbox } = options
  const channels: SendingChannels = {
    email: options.email && createEmailChannel({ ...options.email, baseUrl: publicUrl }),
    web_push: options.webPush && createWebPushChannel({ ...options.webPush, allowPrivate }),
    webhook: createWebhookChannel({ allowPrivate }),
  }
  const open = outsideChannels.filter((channel) => channels[channel] !== undefined)
  const planner = createPlanner(open, { escalateAfterMs: times.escalateAfter?.pushMs, outbox })
  const inbox = createInbox({ transactions, planner, wake, wakeJobs, outbox })
  const tidying = createTidying({ transactions, wake, everyMs: times.tidyEveryMs })

  return {
    inbox,
    list: (caller, { limit = listRowsDefault, ...query }) =>
      transactions.asCaller(caller, (tx) => listNotifications(tx, caller.userId, { ...query, limit })),
    jobHandlers: {
      ...createDeliverHandlers({ transactions, channels, now, backoff: times.backoff }),
      [escalateKind]: createEscalateHandler({ planner, wakeJobs, after: times.escalateAfter }),
      [appearKind]: createAppearHandler({ transactions, planner, wake, wakeJobs, outbox }),
      [broadcastKind]: createBroadcastHandler({
        inbox,
        wakeJobs,
        chunkUsers: options.broadcastChunkUsers,
      }),
      [tidyKind]: tidying.handler,
    },
    channels: ['in_app', ...open],
    sweep: (signal) => tidying.sweep(signal),
    start: () => tidying.start(),
    async close() {
      tidying.close()
      const { email, web_push, webhook } = channels
      await Promise.all([email?.close(), web_push?.close(), webhook?.close()])
    },
  }
}
