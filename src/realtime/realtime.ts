/**
 * Door of realtime: the folder's machines, put together. What is made here is released by `close`, in the opposite order.
 *
 * A commit that moved logs ends in `wake`: it wakes their viewers here, and over the bus those of other instances. A
 * wake-up says where a log stands and nothing else: lost, it is found by a sweep.
 */
import type { Server } from 'node:http'
import { z } from 'zod'
import type { Bus } from '../bus/bus.ts'
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import type { Head } from '../notifications/heads.ts'
import { createAcks } from './acks.ts'
import { createWheel } from './heartbeat.ts'
import type { Connection } from './connection.ts'
import { createHub, type Hub } from './hub.ts'
import { createOperations, type InboxOperations } from './operations.ts'
import { heartbeatS } from './print.ts'
import { createRooms, type InstanceRooms } from './rooms.ts'
import { createSockets, type Sockets } from './socket.ts'
import type { Viewer } from './viewer.ts'

export interface Realtime {
  hub: Hub
  rooms: InstanceRooms
  sockets: Pick<Sockets, 'check' | 'accept' | 'count'>
  /** After a commit: these logs moved. */
  wake(heads: readonly Head[]): void
  /** Takes this server's upgrades over. */
  attach(server: Server): void
  /** Nobody is let in any more, and everybody is sent elsewhere. Before the server is closed. */
  drain(): Promise<void>
  close(): Promise<void>
}

export interface RealtimeOptions {
  transactions: Transactions
  /** Whether tables may be reached at all. */
  ready: () => boolean
  /** Without one there is this instance only. */
  bus: Bus | undefined
  log: Logger
  instanceId: string
  inbox: InboxOperations
  socketsMax: number
  userSocketsMax: number
  /** Between two looks for wake-ups that were lost, ms; default: the hub's. */
  sweepMs?: number
}

/** What sockets get to say goodbye when the process ends, ms. */
const drainGraceMs = 5_000
/** Heads that one message of the bus carries: well under its limit. */
const headsPerMessage = 500
/** When to try again while the database is away, s. */
const awayRetryS = 2

const headsSchema = z.array(z.tuple([z.string(), z.number()]))
const usersSchema = z.object({ users: z.array(z.string()) })

export function createRealtime(options: RealtimeOptions): Realtime {
  const { transactions, bus, log, instanceId, inbox, ready } = options
  const { socketsMax, userSocketsMax, sweepMs } = options
  const nowMs = () => performance.now()
  const hub = createHub({ transactions, log, nowMs, ...(sweepMs !== undefined && { sweepMs }) })
  const rooms = createRooms({ bus, transactions, log, instanceId, nowMs })
  const acks = createAcks({ transactions, log })
  const wheel = createWheel(heartbeatS * 1_000)
  const sockets = createSockets({
    hub,
    rooms,
    acks,
    wheel,
    log,
    nowMs,
    perform: createOperations(inbox, rooms),
    now: () => Date.now(),
    socketsMax,
    userSocketsMax,
    refusal: () => (ready() && !hub.away() ? undefined : away()),
  })

  const unsubscribe = [
    bus?.subscribe('heads', (message) => {
      for (const [userId, head] of headsSchema.safeParse(message).data ?? []) hub.wake(userId, head)
    }),
    bus?.onGap(() => hub.sweep()),
    bus?.subscribe('revoke', (message) => endOthers(usersSchema.safeParse(message).data?.users ?? [])),
  ]

  function wake(heads: readonly Head[]): void {
    for (const { userId, seq } of heads) hub.wake(userId, seq)
    const [only, ...others] = heads
    // Of a user whose log moves all the time the newest head is enough.
    if (only !== undefined && others.length === 0)
      bus?.publish('heads', [[only.userId, only.seq]], only.userId)
    else
      for (let at = 0; at < heads.length; at += headsPerMessage)
        bus?.publish(
          'heads',
          heads.slice(at, at + headsPerMessage).map(({ userId, seq }) => [userId, seq]),
        )
  }

  /** Rooms know sockets only, and those only that were greeted. */
  function endOthers(userIds: readonly string[]): void {
    for (const userId of userIds)
      for (const viewer of [...hub.viewersOf(userId)])
        if (!isConnection(viewer) || !rooms.has(viewer)) viewer.close('revoked')
  }

  return {
    hub,
    rooms: {
      ...rooms,
      revoke(userIds) {
        endOthers(userIds)
        return rooms.revoke(userIds)
      },
    },
    sockets,
    wake,
    attach: (server) => sockets.attach(server),
    async drain() {
      await sockets.drain(drainGraceMs)
      for (const userId of [...hub.users()])
        for (const viewer of [...hub.viewersOf(userId)]) viewer.close('restart')
    },
    async close() {
      for (const unsubscribed of unsubscribe) unsubscribed?.()
      wheel.close()
      await Promise.all([hub.close(), rooms.close(), acks.close()])
    },
  }
}

const isConnection = (viewer: Viewer): viewer is Connection => 'take' in viewer

const away = () =>
  new AppError('database_unavailable', {
    detail: 'The database cannot be reached at the moment: your inbox cannot be read.',
    retryAfter: awayRetryS,
  })
