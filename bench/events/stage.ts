/** Where events are measured: a database and a queue of their own, one server, one upstream, and a tap on the wire in between. */
import { randomBytes } from 'node:crypto'
import { connect, type ConfirmChannel } from 'amqplib'
import { assertTopology, topologyOf, type Topology } from '../../src/broker/topology.ts'
import { startAmqpTap, type AmqpTap } from '../../test/soak/amqp-tap.ts'
import { nowUs } from '../probe.ts'
import { startServer, type Process } from '../processes.ts'
import { createDatabase, secret, type Database } from '../realtime/subjects.ts'
import { startArgs, type Postgres } from '../subjects.ts'

export interface Stage extends AsyncDisposable {
  database: Database
  server: Process
  origin: string
  tap: AmqpTap
  topology: Topology
  /** Into the queue. @returns when it was sent, µs; it is confirmed when `confirmed` resolves. */
  publish(body: string): number
  confirmed(): Promise<void>
  depth(): Promise<number>
  dead(): Promise<number>
}

export const brokerUrl = process.env['TEST_RABBITMQ_URL'] ?? 'amqp://guest:guest@127.0.0.1:5672'

/** What others do with our own events is not measured: their queue keeps the newest. */
const listenerMax = 1_000

/** @param heard there is a queue for the events that we tell, as where other services listen */
export async function setStage(
  postgres: Postgres,
  { profile, heard = true }: { profile?: string | undefined; heard?: boolean } = {},
): Promise<Stage> {
  const releases = new AsyncDisposableStack()
  const id = `rivulet-bench-${randomBytes(6).toString('hex')}`
  const topology = topologyOf({ exchange: id, queue: id, routingKey: 'chat.events' })
  const model = await connect(brokerUrl, { noDelay: true })
  releases.defer(() => model.close())
  const channel: ConfirmChannel = await model.createConfirmChannel()
  await assertTopology(model, topology)
  releases.defer(async () => {
    const { queue, delays, deadQueue, deadExchange, exchange } = topology
    for (const name of [queue, deadQueue, ...delays.map((delay) => delay.queue)])
      await channel.deleteQueue(name)
    for (const name of [exchange, deadExchange]) await channel.deleteExchange(name)
  })
  if (heard) {
    const { queue } = await channel.assertQueue('', {
      exclusive: true,
      autoDelete: true,
      maxLength: listenerMax,
    })
    for (const key of ['notification.events', 'chat.conversation_ready', 'chat.message_created'])
      await channel.bindQueue(queue, topology.exchange, key)
  }
  const tap = await startAmqpTap(brokerUrl)
  releases.defer(() => tap.close())
  const database = releases.use(await createDatabase(postgres.url))
  const upstream = await startServer('upstream.ts', {})
  releases.defer(() => upstream.stop())
  const server = await startServer(
    'servers/rivulet.ts',
    {
      UPSTREAM: `http://127.0.0.1:${upstream.port}/api/v1`,
      BENCH_DATABASE: database.url,
      BENCH_SECRET: secret,
      DATABASE_URL: '',
      REDIS_URL: '',
      NODE_ENV: 'development',
      RABBITMQ_URL: tap.url,
      EXCHANGE_NAME: topology.exchange,
      CHAT_QUEUE_NAME: topology.queue,
      ...(profile !== undefined && { BENCH_PROFILE: profile }),
    },
    startArgs(),
  )
  releases.defer(() => server.stop())
  return {
    database,
    server,
    origin: `http://127.0.0.1:${server.port}/api/chat`,
    tap,
    topology,
    publish(body) {
      const sentUs = nowUs()
      channel.publish(topology.exchange, 'analysis.complete', Buffer.from(body), { persistent: true })
      return sentUs
    },
    confirmed: () => channel.waitForConfirms(),
    depth: async () => (await channel.checkQueue(topology.queue)).messageCount,
    dead: async () => (await channel.checkQueue(topology.deadQueue)).messageCount,
    [Symbol.asyncDispose]: () => releases.disposeAsync(),
  }
}

/** How the upstream writes: it is asked for that in words. */
export interface Pace {
  tokens: number
  everyMs: number
}

export const inWords = ({ tokens, everyMs }: Pace) => `${tokens} tokens, ${everyMs} ms apart`

/** An analysis that is complete, of about the size that it has in production. */
export const eventOf = (name: string, pace: Pace): string =>
  JSON.stringify({
    event_id: `event-${name}`,
    type: 'analysis_complete',
    user_id: `user-${name}`,
    assessment_id: name,
    occurred_at: new Date().toISOString(),
    version: 1,
    results: {
      assessment_date: '2026-11-20T10:00:00.000Z',
      riasec: { R: 85, I: 92, A: 78, S: 40, E: 55, C: 30 },
      ocean: { O: 88, C: 75, E: 82, A: 60, N: 20 },
      via_is: Object.fromEntries(strengths.map((strength, index) => [strength, 95 - index])),
      persona_profile: {
        summary: `You like to find out how things work, and to show it to others: ${inWords(pace)}.`,
        details: 'You work best with the people and the problems that you have chosen yourself. '.repeat(8),
        career_recommendations: ['Research engineer', 'Science journalist', 'Teacher', 'Designer'],
      },
    },
  })

const strengths = [
  ...['creativity', 'leadership', 'curiosity', 'kindness', 'honesty', 'bravery', 'humor', 'hope'],
  ...['gratitude', 'fairness', 'teamwork', 'prudence', 'zest', 'love', 'judgment', 'perspective'],
  ...['forgiveness', 'humility', 'perseverance', 'self_regulation', 'social_intelligence'],
  ...['spirituality', 'love_of_learning', 'appreciation_of_beauty'],
]
