/** What a case of events has: names of its own at the real RabbitMQ, a network to it, instances, and a teller of events. */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, type Channel, type ConfirmChannel, type GetMessage } from 'amqplib'
import { assertTopology, topologyOf, type Topology } from '../../src/broker/topology.ts'
import { answer, type Behaviour } from '../../src/embedded/demo-model.ts'
import { eventOf, type EventWish } from '../support/assessments.ts'
import { rabbitUrl } from '../support/rabbitmq.ts'
import type { CrashingPostgres } from './crashing-postgres.ts'
import type { Ledger } from './ledger.ts'
import type { Orders } from './part.ts'
import { randomOf, type Random } from './random.ts'
import type { Instance, Script, World } from './world.ts'

export interface Stand {
  world: World
  postgres: CrashingPostgres
  orders: Orders
  ledger: Ledger
  caseNumber: number
  random: Random
  topology: Topology
  /** @param brokerUrl the way to the broker: through a proxy, as a rule. Ended with the stand. */
  start(brokerUrl: string): Promise<Instance>
  /** An assessment of a user of its own, which nobody has been told of yet. @param count of them */
  assessments(count: number, behaviour?: Behaviour): Told[]
  /** Into the queue, as a producer would: it has a confirm of each, however often it must send. */
  publish(bodies: readonly (string | Buffer)[]): Promise<void>
  /** How many lie there, ready to be taken. */
  depth: (queue: string) => Promise<number>
  /** All that lies there, taken away. */
  takeAll: (queue: string) => Promise<GetMessage[]>
  /** @returns how many advisers are ready; undefined while the database is away. */
  ready(): Promise<number | undefined>
  /** Waits until so many are. @returns whether they were in time. */
  untilReady(count: number, withinMs: number): Promise<boolean>
  close: () => Promise<void>
}

export interface Told {
  userId: string
  assessmentId: string
  /** Of its welcomes. */
  script: Script
}

export const serviceKey = 'a-service-key-of-a-soak-with-more-than-32-characters'

/** How often it is looked at what is waited for, ms. */
const lookMs = 20
/** A producer tries again after so long, and gives up after that long, ms. */
const publishAgainMs = 200
const publishWithinMs = 60_000

export async function setStand(
  world: World,
  postgres: CrashingPostgres,
  orders: Orders,
  ledger: Ledger,
  caseNumber: number,
): Promise<Stand> {
  const id = `rivulet-soak-${randomBytes(6).toString('hex')}`
  const topology = topologyOf({ exchange: id, queue: id, routingKey: 'chat.events' })
  const model = await connect(rabbitUrl)
  await assertTopology(model, topology)
  await model.close()
  const env = {
    INTERNAL_SERVICE_KEY: serviceKey,
    EXCHANGE_NAME: topology.exchange,
    CHAT_QUEUE_NAME: topology.queue,
  }
  const instances: Instance[] = []
  const prefix = `events-${caseNumber}-`
  let made = 0

  async function ready(): Promise<number | undefined> {
    const rows = await world.sql<{ count: number }>`
      select count(*)::int from chat.assessments where user_id like ${`${prefix}%`} and ready_at is not null`.catch(
      () => [],
    )
    return rows[0]?.count
  }

  return {
    world,
    postgres,
    orders,
    ledger,
    caseNumber,
    random: randomOf(orders.seed, 'events', caseNumber),
    topology,
    async start(brokerUrl) {
      const instance = await world.start({ ...env, RABBITMQ_URL: brokerUrl })
      instances.push(instance)
      return instance
    },
    assessments: (count, behaviour = answer('Welcome to your results.')) =>
      Array.from({ length: count }, () => {
        const name = `${prefix}${++made}`
        const script = world.script(name, behaviour)
        // Not every welcome is asked for before the end of the world.
        script.request.catch(() => undefined)
        return { userId: name, assessmentId: `assessment-${name}`, script }
      }),
    publish: (bodies) => publish(topology, bodies),
    depth: (queue) => withChannel(async (channel) => (await channel.checkQueue(queue)).messageCount),
    takeAll: (queue) =>
      withChannel(async (channel) => {
        const taken: GetMessage[] = []
        for (;;) {
          const message = await channel.get(queue, { noAck: true })
          if (message === false) return taken
          taken.push(message)
        }
      }),
    ready,
    untilReady: (count, withinMs) => until(withinMs, async () => (await ready()) === count),
    async close() {
      await Promise.all(instances.map((instance) => instance.kill()))
      await withChannel(async (channel) => {
        const { queue, delays, deadQueue, deadExchange, exchange } = topology
        for (const name of [queue, deadQueue, ...delays.map((one) => one.queue)])
          await channel.deleteQueue(name)
        for (const name of [exchange, deadExchange]) await channel.deleteExchange(name)
      })
    },
  }
}

/** What is told of an assessment; its welcome is known by its persona's summary. @param score of its investigative side */
export function bodyOf({ userId, assessmentId }: Told, wish: EventWish = {}, score = 92): string {
  const event = eventOf({ user_id: userId, assessment_id: assessmentId, ...wish })
  const { results } = event
  return JSON.stringify({
    ...event,
    ...(results !== undefined && {
      results: {
        ...results,
        riasec: { ...results.riasec, I: score },
        persona_profile: { ...results.persona_profile, summary: `This is soak ${userId} and nobody else.` },
      },
    }),
  })
}

/** Looks until it is so. @returns false where it is not in time. */
export async function until(withinMs: number, isSo: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const deadline = Date.now() + withinMs; Date.now() < deadline;) {
    if (await isSo()) return true
    await delay(lookMs)
  }
  return false
}

/** On a connection of its own: a broker that restarts takes all others with it. */
async function withChannel<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
  const model = await connect(rabbitUrl, { noDelay: true })
  model.on('error', () => undefined)
  try {
    return await work(await model.createChannel())
  } finally {
    await model.close().catch(() => undefined)
  }
}

async function publish(topology: Topology, bodies: readonly (string | Buffer)[]): Promise<void> {
  const waiting = new Set(bodies.map((body) => ({ body })))
  for (const deadline = Date.now() + publishWithinMs; ;) {
    try {
      const model = await connect(rabbitUrl, { noDelay: true, timeout: 2_000 })
      model.on('error', () => undefined)
      const channel = await model.createConfirmChannel()
      channel.on('error', () => undefined)
      await Promise.all(
        [...waiting].map((one) => send(channel, topology, one.body).then(() => waiting.delete(one))),
      )
      await model.close()
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await delay(publishAgainMs)
    }
  }
}

function send(
  channel: ConfirmChannel,
  { exchange, bindings }: Topology,
  body: string | Buffer,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { persistent: true, mandatory: true }
    channel.publish(exchange, bindings[0] ?? '', Buffer.from(body), options, (error: Error | null) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
}
