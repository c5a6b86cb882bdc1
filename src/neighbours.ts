/**
 * The services around us: a broker, the archive, the users' profiles, the one that shows notifications. Each is there where
 * it is configured, and none is needed. What is made here is stopped by `stop`, and
 * released by `close`.
 */
import { createBroker } from './broker/broker.ts'
import { createArchive } from './assessments/archive-client.ts'
import type { Config } from './config.ts'
import { createProfiles } from './context/profile.ts'
import type { Database } from './db/database.ts'
import type { Logger } from './logging.ts'
import { createBridgeSink } from './outbox/bridge-sink.ts'
import { createDeadLetterSink, createExchangeSink } from './outbox/exchange-sink.ts'
import { createOutbox } from './outbox/outbox.ts'
import { createRelay } from './outbox/relay.ts'

export type Neighbours = ReturnType<typeof createNeighbours>

export function createNeighbours(config: Config, db: Database, log: Logger) {
  const { RABBITMQ_URL, ARCHIVE_SERVICE_URL, AUTH_SERVICE_URL, NOTIFICATION_SERVICE_URL } = config
  const serviceKey = config.INTERNAL_SERVICE_KEY[0]
  const exchange = config.EXCHANGE_NAME
  const names = { exchange, queue: config.CHAT_QUEUE_NAME, routingKey: config.ROUTING_KEY }

  const broker = RABBITMQ_URL === undefined ? undefined : createBroker({ url: RABBITMQ_URL, names, log })
  const bridge =
    NOTIFICATION_SERVICE_URL === undefined
      ? undefined
      : createBridgeSink({ url: NOTIFICATION_SERVICE_URL, serviceKey })
  const sinks = {
    ...(broker !== undefined && {
      exchange: createExchangeSink({ broker, exchange }),
      dead_letters: createDeadLetterSink({ broker, exchange: `${names.queue}.dead` }),
    }),
    ...(bridge !== undefined && { bridge }),
  }
  const relay =
    broker === undefined && bridge === undefined
      ? undefined
      : createRelay({ transactions: db, log, ready: () => db.state() === 'ready', sinks })
  const outbox = createOutbox({
    sinks: { exchange: broker !== undefined, bridge: bridge !== undefined },
    wake: (sink) => relay?.wake(sink),
  })
  const archive =
    ARCHIVE_SERVICE_URL === undefined
      ? undefined
      : createArchive({ baseUrl: ARCHIVE_SERVICE_URL, serviceKey, random: Math.random, log })
  const profiles =
    AUTH_SERVICE_URL === undefined
      ? undefined
      : createProfiles({ baseUrl: AUTH_SERVICE_URL, serviceKey, log, nowMs: () => performance.now() })

  return {
    broker,
    relay,
    outbox,
    archive,
    profiles,
    /** No more events in or out: what is stored from now on is sent by the next one. */
    async stop(): Promise<void> {
      await relay?.close()
      await broker?.close()
    },
    async close(): Promise<void> {
      await Promise.all([bridge?.close(), archive?.close(), profiles?.close()])
    },
  }
}
