/**
 * Door of broker, for who repairs by hand: dead letters, back into their queue.
 *
 * One by one: taken, published with a confirm as it was before it was tried, and only then acknowledged. Killed in
 * between, it leaves at worst one message in both queues. It ends when what lay there at its start has been moved, so
 * that what dies again at once is not moved for ever.
 */
import type { ChannelModel } from 'amqplib'
import type { Logger } from '../logging.ts'
import { bareOf, parcelAgain } from './fate.ts'
import { within } from './hold.ts'
import { answerMs, closeChannel, openChannel, openLink, readBrokerUrl } from './link.ts'
import { BrokerAway, createPublisher } from './publisher.ts'
import { assertTopology, topologyOf, type BrokerNames } from './topology.ts'

/** @returns how many were moved. @throws where the broker is away, or there is no queue of dead letters. */
export async function redrive(options: {
  url: string
  names: BrokerNames
  /** At most so many, the oldest first. */
  limit?: number
  log: Logger
}): Promise<number> {
  const { names, limit = Infinity, log } = options
  const topology = topologyOf(names)
  const link = await openLink(readBrokerUrl(options.url), 'rivulet redrive')
  let moved = 0
  try {
    const lying = await countDead(link.model, topology.deadQueue)
    if (lying === 0) return 0
    // The letters lie there, but the queue that they are to go to may have been deleted.
    await assertTopology(link.model, topology)
    const publisher = createPublisher({})
    await publisher.open(link.model)
    const opened = await openChannel(link.model)
    const { channel } = opened
    while (moved < Math.min(lying, limit)) {
      const message = await within(answerMs, channel.get(topology.deadQueue))
      if (message === false) break
      const parcel = parcelAgain(message, topology)
      const fate = await publisher.publish(parcel).catch((error: unknown) => {
        if (error instanceof BrokerAway) throw error
        return publisher.publish(bareOf(parcel))
      })
      if (fate === 'unroutable') throw new Error(`there is no queue ${topology.queue}`)
      channel.ack(message)
      moved++
    }
    // Its goodbye is answered behind the last acknowledgement.
    await closeChannel(opened)
    return moved
  } finally {
    await link.close()
    if (moved > 0)
      log.info(
        { event: 'dead_letters_redriven', queue: topology.queue, moved },
        'dead letters are in their queue again',
      )
  }
}

/** Makes nothing: under a wrong name that would be a queue that takes events, and that nobody reads. */
async function countDead(model: ChannelModel, queue: string): Promise<number> {
  const opened = await openChannel(model)
  try {
    return (await within(answerMs, opened.channel.checkQueue(queue))).messageCount
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 404)) throw error
    throw new Error(`there is no queue ${queue}: is CHAT_QUEUE_NAME right?`, { cause: error })
  } finally {
    await closeChannel(opened)
  }
}
