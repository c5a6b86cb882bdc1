/** The RabbitMQ of this machine, for tests that need a real one: under names of their own, which are deleted at the end. */
import { randomBytes } from 'node:crypto'
import { connect, type Channel, type GetMessage } from 'amqplib'
import { topologyOf, type BrokerNames, type Topology } from '../../src/broker/topology.ts'

export const rabbitUrl = process.env['TEST_RABBITMQ_URL'] ?? 'amqp://guest:guest@127.0.0.1:5672'

/** Whether it answers. @throws where it does not and `REQUIRE_SERVICES=1` says that it must. */
export async function hasRabbit(): Promise<boolean> {
  try {
    const model = await connect(rabbitUrl, { timeout: 2_000 })
    await model.close()
    return true
  } catch (error) {
    if (process.env['REQUIRE_SERVICES'] === '1')
      throw new Error('no RabbitMQ, and REQUIRE_SERVICES=1', { cause: error })
    return false
  }
}

export interface OwnNames {
  names: BrokerNames
  topology: Topology
  /** A channel that is nobody's: one that an error closes is replaced by the next call. */
  channel: () => Promise<Channel>
  /** Into the queue as a producer would, through the exchange; resolves when the broker has them. */
  send: (...bodies: (string | Buffer)[]) => Promise<void>
  /** How many lie in it, ready to be taken. */
  depth: (queue: string) => Promise<number>
  /** The oldest, taken away. */
  take: (queue: string) => Promise<GetMessage | undefined>
  /** Deletes all that has these names, and closes. */
  delete: () => Promise<void>
}

/** @param delaysMs as the broker under test has them: its queues are named by them. */
export async function ownNames(delaysMs?: readonly number[]): Promise<OwnNames> {
  const id = `rivulet-test-${randomBytes(6).toString('hex')}`
  const names = { exchange: `${id}-exchange`, queue: `${id}-queue`, routingKey: 'chat.events' }
  const topology = topologyOf(names, delaysMs)
  const model = await connect(rabbitUrl, { noDelay: true })
  model.on('error', () => undefined)
  let open: Channel | undefined

  async function channel(): Promise<Channel> {
    if (open !== undefined) return open
    const made = await model.createChannel()
    made.on('error', () => undefined)
    made.once('close', () => (open = undefined))
    return (open = made)
  }

  return {
    names,
    topology,
    channel,
    async send(...bodies) {
      const confirming = await model.createConfirmChannel()
      for (const body of bodies)
        confirming.publish(names.exchange, names.routingKey, Buffer.from(body), { persistent: true })
      await confirming.waitForConfirms()
      await confirming.close()
    },
    depth: async (queue) => (await (await channel()).checkQueue(queue)).messageCount,
    async take(queue) {
      const message = await (await channel()).get(queue, { noAck: true })
      return message === false ? undefined : message
    },
    async delete() {
      const { queue, delays, deadQueue, deadExchange, exchange } = topology
      const last = await channel()
      for (const name of [queue, deadQueue, ...delays.map((delay) => delay.queue)])
        await last.deleteQueue(name)
      for (const name of [exchange, deadExchange]) await last.deleteExchange(name)
      await model.close()
    },
  }
}
