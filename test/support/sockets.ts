/**
 * The realtime machines on a real server over a real database, without the routes: whoever comes is whom its `user`
 * header names. Time passes for sockets when a test says so.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import type { Transactions } from '../../src/db/database.ts'
import { AppError } from '../../src/errors.ts'
import type { Head } from '../../src/notifications/heads.ts'
import { mark, publish, type Content, type Selection } from '../../src/notifications/inbox.ts'
import { parseCursor } from '../../src/notifications/log.ts'
import { listNotifications } from '../../src/notifications/queries.ts'
import { createAcks } from '../../src/realtime/acks.ts'
import type { Beating } from '../../src/realtime/heartbeat.ts'
import { createHub, type Hub } from '../../src/realtime/hub.ts'
import { createOperations, type InboxOperations } from '../../src/realtime/operations.ts'
import { createRooms, type InstanceRooms } from '../../src/realtime/rooms.ts'
import { createSockets, type Sockets } from '../../src/realtime/socket.ts'
import { contentOf } from './content.ts'
import { openSocket, type SocketOptions, type TestSocket } from './socket.ts'

export interface SocketBench {
  origin: string
  hub: Hub
  rooms: InstanceRooms
  sockets: Sockets
  logs: Record<string, unknown>[]
  /** The server's ends of all connections. */
  ends: Socket[]
  open: (userId: string, options?: Omit<SocketOptions, 'token' | 'ticket'>) => Promise<TestSocket>
  /** Commits, and wakes. */
  publish: (userId: string, titles: readonly string[], more?: Partial<Content>) => Promise<Head>
  mark: (userId: string, selection: Selection) => Promise<void>
  /** Every socket's heartbeat is due. */
  beat: () => void
  /** So much time has passed, and every socket is looked at. */
  pass: (ms: number) => void
  /** What the wall clock says, ms since the epoch. */
  clock: { nowMs: number }
}

export interface BenchOptions {
  transactions: Transactions
  socketsMax?: number
  userSocketsMax?: number
  refusal?: () => AppError | undefined
  inbox?: Partial<InboxOperations>
  /** When tokens end. */
  validUntil?: number
  sweepMs?: number
  /** What its clients' allowances are counted by. */
  nowMs?: () => number
}

/** Within a test: it ends with it. */
export async function startSockets(options: BenchOptions): Promise<SocketBench> {
  const { transactions } = options
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'trace' },
    { write: (line: string) => logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const hub = createHub({
    transactions,
    log,
    ...(options.sweepMs !== undefined && { sweepMs: options.sweepMs }),
  })
  const rooms = createRooms({ bus: undefined, transactions, log, instanceId: 'bench' })
  const acks = createAcks({ transactions, log, everyMs: 20 })
  const beatings = new Set<Beating>()
  const clock = { nowMs: Date.now() }
  let wheelMs = 0

  const inbox: InboxOperations = {
    async mark(caller, selection, as) {
      const { changed, head } = await transactions.asCaller(caller, (tx) =>
        mark(tx, caller.userId, selection, as),
      )
      if (head !== undefined) hub.wake(head.userId, head.seq)
      return { changed, unread: head?.unread ?? 0 }
    },
    list: (caller, { limit = 20, ...query }) =>
      transactions.asCaller(caller, (tx) => listNotifications(tx, caller.userId, { limit, ...query })),
    ...options.inbox,
  }
  const sockets = createSockets({
    hub,
    rooms,
    acks,
    perform: createOperations(inbox, rooms),
    wheel: {
      add: (beating) => beatings.add(beating).size,
      delete: (beating) => void beatings.delete(beating),
      close: () => undefined,
    },
    log,
    nowMs: options.nowMs ?? (() => performance.now()),
    now: () => clock.nowMs,
    socketsMax: options.socketsMax ?? 1_000,
    userSocketsMax: options.userSocketsMax ?? 10,
    refusal: options.refusal ?? (() => undefined),
  })

  const server = createServer({ shouldUpgradeCallback: () => true }, (request, response) => {
    try {
      sockets.check(request)
      const caller = {
        kind: 'user',
        userId: String(request.headers['user']),
        tier: 'free',
        name: undefined,
      } as const
      sockets.accept(request, { ...caller, validUntil: options.validUntil ?? Infinity }, sinceOf(request))
    } catch (error) {
      response.statusCode = error instanceof AppError ? error.status : 500
      response.end(String(error))
    }
  })
  sockets.attach(server)
  const ends: Socket[] = []
  server.on('connection', (end) => ends.push(end))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  onTestFinished(async () => {
    await sockets.drain(0)
    await Promise.all([hub.close(), rooms.close(), acks.close()])
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })

  return {
    origin,
    hub,
    rooms,
    sockets,
    logs,
    ends,
    open: (userId, socketOptions = {}) =>
      openSocket(origin, { ...socketOptions, headers: { user: userId, ...socketOptions.headers } }),
    async publish(userId, titles, more) {
      const heads = await publishTitles(transactions, userId, titles, more)
      for (const { userId: whose, seq } of heads) hub.wake(whose, seq)
      const [head] = heads
      if (head === undefined) throw new Error('nothing was published')
      return head
    },
    async mark(userId, selection) {
      await inbox.mark({ userId }, selection, 'read')
    },
    beat() {
      for (const beating of [...beatings]) beating.beat(wheelMs)
    },
    pass(ms) {
      wheelMs += ms
      clock.nowMs += ms
      for (const beating of [...beatings]) beating.look(wheelMs)
    },
    clock,
  }
}

function sinceOf({ url = '' }: IncomingMessage) {
  const text = new URL(url, 'http://localhost').searchParams.get('cursor')
  return text === null ? undefined : (parseCursor(text) ?? { epoch: '', seq: 0 })
}

/** Commits one notification for each title, all at once. Wakes nobody. */
export async function publishTitles(
  transactions: Transactions,
  userId: string,
  titles: readonly string[],
  more: Partial<Content> = {},
): Promise<Head[]> {
  const { heads } = await transactions.asSystem('test', (tx) =>
    publish(
      tx,
      titles.map((title) => ({ userId, content: contentOf({ title, ...more }) })),
    ),
  )
  return heads
}
