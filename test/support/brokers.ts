/** Brokers under test: each with names of its own, behind a proxy of its own; all that was opened ends with the test. */
import { expect, onTestFinished } from 'vitest'
import { pino } from 'pino'
import {
  createBroker,
  type Broker,
  type BrokerOptions,
  type Consuming,
  type Delivery,
  type Outcome,
} from '../../src/broker/broker.ts'
import { loggerOptions } from '../../src/logging.ts'
import { ownNames, rabbitUrl, type OwnNames } from './rabbitmq.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface Station extends OwnNames {
  proxy: TcpProxy
  broker: Broker
  /** Another instance, with the same names. */
  another: (options?: Partial<BrokerOptions>) => Broker
  /** All that both have logged, as JSON. */
  log: string[]
  events: () => string[]
}

/** Short enough for tests; which of them a message went through is seen by its time. */
export const delaysMs = [50, 100, 150]

/** A busy machine takes longer; what comes at once is seen at once. */
export const soon = { timeout: 10_000, interval: 10 }

export interface StationOptions extends Partial<BrokerOptions> {
  /** The port is closed at first. */
  refused?: boolean
  /** What is done before anything connects. */
  before?: (own: OwnNames) => Promise<unknown>
}

export async function startStation(options: StationOptions = {}): Promise<Station> {
  const { refused = false, before, ...mine } = options
  const own = await ownNames(options.delaysMs ?? delaysMs)
  onTestFinished(own.delete)
  await before?.(own)
  const proxy = await startTcpProxy(rabbitUrl)
  onTestFinished(() => proxy.close())
  if (refused) await proxy.refuse()
  const log: string[] = []
  const logger = pino(loggerOptions('debug'), { write: (line) => log.push(line) })
  const another = (more: Partial<BrokerOptions> = {}) => {
    const broker = createBroker({ url: proxy.url, log: logger, names: own.names, delaysMs, ...mine, ...more })
    onTestFinished(broker.close)
    return broker
  }
  const events = () => log.map((line) => (JSON.parse(line) as { event: string }).event)
  return { ...own, proxy, broker: another(), another, log, events }
}

export interface Handled {
  /** The bodies, as they came. */
  bodies: string[]
  deliveries: Delivery[]
}

/** Handles as `outcomeOf` says, and remembers all that came. */
export function handledBy(
  broker: Broker,
  outcomeOf: (body: string, delivery: Delivery) => Outcome | Promise<Outcome> = () => ({ kind: 'done' }),
  more: Partial<Consuming> = {},
): Handled {
  const handled: Handled = { bodies: [], deliveries: [] }
  broker.consume({
    mayConsume: () => true,
    handle: async (delivery) => {
      const body = delivery.body.toString()
      handled.bodies.push(body)
      handled.deliveries.push(delivery)
      return outcomeOf(body, delivery)
    },
    ...more,
  })
  return handled
}

/** Connected. */
export async function upStation(options: StationOptions = {}): Promise<Station> {
  const station = await startStation(options)
  await expect.poll(station.broker.state, soon).toBe('up')
  return station
}

export async function msOf(work: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now()
  await work()
  return performance.now() - startedAtMs
}
