/**
 * Messages from the queue, to whoever handles them: at least once, a few at a time.
 *
 * States, on each connection: asking (may we consume?) → taking → draining → asking, or the end. One channel takes;
 * what was taken on it can be acknowledged on it alone. When it is lost, or drained because nothing can be handled
 * now, the broker gives what was not acknowledged to the next one. Nothing is ever put back by `nack`: the broker does
 * not count that, and what fails would come again at once, for ever. A message that is to be sent elsewhere, and that
 * nobody takes now, keeps its place and no other's: it stays unacknowledged, and is sent again later each time.
 */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib'
import { backoffMs, type Backoff } from '../jobs/backoff.ts'
import type { Logger } from '../logging.ts'
import { bareOf, parcelAfter, routingKeyOf, type Outcome } from './fate.ts'
import { pause, within } from './hold.ts'
import { answerMs, closeChannel, goodbyeMs, openChannel } from './link.ts'
import { BrokerAway, type Fate, type Publisher } from './publisher.ts'
import type { Topology } from './topology.ts'

export interface Delivery {
  body: Buffer
  headers: Record<string, unknown>
  /** With which it was published at first. */
  routingKey: string
  /** It was taken before, and not acknowledged. False proves nothing. */
  redelivered: boolean
  messageId: string | undefined
}

export interface Consuming {
  /** What it throws is a `retry`, with the error's code or name as the reason. So is what takes more than a minute. */
  handle: (delivery: Delivery) => Promise<Outcome>
  /** Whether anything can be handled now: asked before anything is taken, and until it says true. */
  mayConsume: () => boolean | Promise<boolean>
  /** Handlers at once. */
  concurrency?: number
}

export interface ConsumerStats {
  /** Taken from the queue: again each time that it comes. */
  consumed: number
  done: number
  /** Sent to the dead-letter queue by us. What the broker itself sends there is not known here. */
  dead: number
  /** Sent to a delay queue. */
  retried: number
  /** Taken and not acknowledged, now. */
  unacked: number
}

export interface Consumer {
  /** Takes from the queue until the channel is lost or `ended`. @throws what the channel was lost by. */
  hold: (model: ChannelModel, ended: AbortSignal, taking: () => void) => Promise<void>
  /** Takes no more; resolves when all that runs is acknowledged, or was given time enough. */
  stop: () => Promise<void>
  /** Messages are taken, or are not on purpose: nothing can be handled now. */
  isWell: () => boolean
  stats: () => ConsumerStats
}

/** Events are a few kilobytes, an assessment's results tens of them: who sends more sends something else, bytes. */
const bodyBytesMax = 256 * 1024
/** Between two questions whether we may consume, ms; and an answer that takes longer is a no. */
const ask = { everyMs: 500, answerMs: 2_000 }
/** Between two trials where we may consume, and all that was taken turned out not to be possible. */
const fruitless = { firstMs: 500, maxMs: 30_000 }
/** Of one message that is sent elsewhere and is not taken: a queue that is full, a broker that is short of memory. */
const resend: Backoff = { firstMs: 500, maxMs: 30_000 }
/** What runs is given so long to end when no more is taken, ms: close() as a whole has two seconds. */
const drainMs = 1_250
/** A handler that hangs must not keep its place for ever, ms. Twenty in its row still end before the broker's 30 min. */
const handleDefaultMs = 60_000
/** Each holds a connection to the database while it works. */
const concurrencyDefault = 4

interface Intake {
  channel: Channel
  /** Taken, and not begun. */
  waiting: ConsumeMessage[]
  /** Messages come. */
  begun: boolean
  /** More may be begun. */
  taking: boolean
  /** No more may be: what waits to be sent again waits no more. */
  over: AbortController
  /** It may be acknowledged on. */
  live: boolean
  unacked: number
  end: (why: 'away' | 'stopped' | Error) => void
}

export function createConsumer(
  { handle, mayConsume, concurrency = concurrencyDefault }: Consuming,
  deps: {
    topology: Topology
    publisher: Publisher
    prefetch: number
    log: Logger
    random: () => number
    handleMs?: number | undefined
  },
): Consumer {
  const { topology, publisher, prefetch, log, random, handleMs = handleDefaultMs } = deps
  const running = new Set<Promise<void>>()
  const counts = { consumed: 0, done: 0, dead: 0, retried: 0 }
  let current: Intake | undefined
  let taken: Promise<unknown> | undefined
  let stopped = false
  let toldPaused = false
  let holding = false
  let paused = false

  async function hold(model: ChannelModel, ended: AbortSignal, taking: () => void): Promise<void> {
    holding = true
    await holdOn(model, ended, taking).finally(() => (holding = paused = false))
  }

  async function holdOn(model: ChannelModel, ended: AbortSignal, taking: () => void): Promise<void> {
    let rounds = 0
    for (;;) {
      await untilAllowed(ended)
      if (ended.aborted || stopped) return
      const acknowledged = counts.done + counts.dead + counts.retried
      const why = await (taken = takeIn(model, ended, taking))
      if (why instanceof Error) throw why
      if (why === 'stopped') return
      tellPaused()
      rounds = counts.done + counts.dead + counts.retried > acknowledged ? 1 : rounds + 1
      await pause(backoffMs(fruitless, rounds, random), ended)
    }
  }

  async function untilAllowed(ended: AbortSignal): Promise<void> {
    while (!ended.aborted && !stopped) {
      const answer = within(ask.answerMs, Promise.resolve().then(mayConsume), ended)
      if (await answer.catch(() => false)) {
        paused = false
        return
      }
      tellPaused()
      await pause(ask.everyMs, ended)
    }
  }

  function tellPaused(): void {
    paused = true
    if (!toldPaused && !stopped)
      log.warn({ event: 'consumer_paused' }, 'nothing can be handled now: messages stay in their queue')
    toldPaused = true
  }

  /** One channel, from its first message to its end. */
  async function takeIn(
    model: ChannelModel,
    ended: AbortSignal,
    taking: () => void,
  ): Promise<'away' | 'stopped' | Error> {
    const opened = await openChannel(model)
    const { channel, lost } = opened
    const { promise: ending, resolve: end } = Promise.withResolvers<'away' | 'stopped' | Error>()
    const over = new AbortController()
    const intake: Intake = {
      channel,
      waiting: [],
      begun: false,
      taking: !stopped,
      over,
      live: true,
      unacked: 0,
      end,
    }
    channel.once('close', () => (intake.live = false))
    void lost.then(end)
    current = intake
    try {
      await within(answerMs, channel.prefetch(prefetch))
      const { consumerTag } = await within(
        answerMs,
        channel.consume(topology.queue, (message) => take(intake, message)),
      )
      if (toldPaused) log.info({ event: 'consumer_resumed' }, 'messages are handled again')
      toldPaused = false
      intake.begun = true
      taking()
      const why = stopped ? 'stopped' : await ending
      close(intake)
      if (!intake.live) return why
      channel.cancel(consumerTag).catch(() => undefined)
      await drained(ended)
      return why
    } finally {
      close(intake)
      intake.live = false
      intake.waiting.length = 0
      current = undefined
      await closeChannel(opened)
    }
  }

  function close(intake: Intake): void {
    intake.begun = intake.taking = false
    intake.over.abort()
  }

  /** @param message null: the broker ended the consumer, because its queue is gone. */
  function take(intake: Intake, message: ConsumeMessage | null): void {
    if (message === null) intake.end(new Error('the queue was deleted'))
    // What comes while it drains goes back with the channel.
    if (message === null || !intake.taking) return
    counts.consumed++
    intake.unacked++
    if (message.content.length > bodyBytesMax)
      // At once: it takes more room than all the others.
      begin(settle(intake, message, { kind: 'dead', reason: 'too_large' }))
    else intake.waiting.push(message)
    next()
  }

  let handlers = 0
  function next(): void {
    while (current?.taking === true && handlers < concurrency) {
      const message = current.waiting.shift()
      if (message === undefined) return
      handlers++
      const intake = current
      begin(
        outcomeOf(message).then((outcome) => {
          const settled = settle(intake, message, outcome)
          // Not when it is settled: a message that cannot be sent on would keep a handler's place.
          handlers--
          next()
          return settled
        }),
      )
    }
  }

  function begin(work: Promise<void>): void {
    const task = work.finally(() => running.delete(task))
    running.add(task)
  }

  async function outcomeOf(message: ConsumeMessage): Promise<Outcome> {
    const { content, fields, properties } = message
    const delivery: Delivery = {
      body: content,
      headers: { ...properties.headers },
      routingKey: routingKeyOf(message),
      redelivered: fields.redelivered,
      messageId: typeof properties.messageId === 'string' ? properties.messageId : undefined,
    }
    const late = Promise.withResolvers<Outcome>()
    const timer = setTimeout(() => late.resolve({ kind: 'retry', reason: 'timeout' }), handleMs)
    try {
      return await Promise.race([handle(delivery), late.promise])
    } catch (error) {
      return { kind: 'retry', reason: reasonOf(error) }
    } finally {
      clearTimeout(timer)
    }
  }

  /** Never throws. What is not acknowledged comes again. */
  async function settle(intake: Intake, message: ConsumeMessage, outcome: Outcome): Promise<void> {
    if (outcome.kind === 'away') {
      close(intake)
      intake.end('away')
    }
    // What its channel is gone of comes again.
    if (outcome.kind === 'away' || !intake.live) return
    try {
      const kind = outcome.kind === 'done' ? 'done' : await sendOn(intake, message, outcome)
      if (kind === undefined) return
      intake.channel.ack(message)
      intake.unacked--
      counts[kind]++
    } catch (error) {
      intake.end(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** @returns undefined where nobody takes it and we take no more either. @throws where no queue is there for it. */
  async function sendOn(
    intake: Intake,
    message: ConsumeMessage,
    outcome: Extract<Outcome, { reason: string }>,
  ): Promise<'dead' | 'retried' | undefined> {
    const parcel = parcelAfter(outcome, message, topology, new Date())
    const fate = await sendUntilTaken(parcel, intake.over.signal)
    if (fate === undefined) return undefined
    if (fate === 'unroutable')
      throw new BrokerAway(`no queue took it: ${parcel.routingKey || parcel.exchange}`)
    const { messageId } = message.properties as { messageId: unknown }
    const about = { reason: parcel.reason, routing_key: routingKeyOf(message), message_id: messageId }
    if (parcel.dead) log.warn({ event: 'message_dead', ...about }, 'a message went to the dead letters')
    else log.info({ event: 'message_delayed', ...about }, 'a message is tried again later')
    return parcel.dead ? 'dead' : 'retried'
  }

  async function sendUntilTaken(
    parcel: ReturnType<typeof parcelAfter>,
    over: AbortSignal,
  ): Promise<Fate | undefined> {
    for (let attempt = 1; ; attempt++)
      try {
        return await publisher.publish(parcel).catch((error: unknown) => {
          if (error instanceof BrokerAway) throw error
          return publisher.publish(bareOf(parcel))
        })
      } catch (error) {
        if (!(error instanceof BrokerAway)) throw error
        // The first may be a connection that breaks, of which the log says enough.
        if (attempt === 2 && !over.aborted)
          log.warn(
            { event: 'message_kept', err: error, to: parcel.routingKey || parcel.exchange },
            'a message is not taken where it is sent: it stays, and is sent again',
          )
        await pause(backoffMs(resend, attempt, random), over)
        if (over.aborted) return undefined
      }
  }

  const drained = (ended?: AbortSignal) => within(drainMs, Promise.all(running), ended).catch(() => undefined)

  return {
    hold,
    async stop() {
      stopped = true
      if (current !== undefined) close(current)
      current?.end('stopped')
      // With the goodbye of the channel, behind the last acknowledgement.
      const gone = within(drainMs + goodbyeMs, Promise.resolve(taken)).catch(() => undefined)
      await Promise.all([drained(), gone])
    },
    isWell: () => holding && (paused || current?.begun === true),
    stats: () => ({ ...counts, unacked: current?.unacked ?? 0 }),
  }
}

/** Its code or its name, and never its message: that may quote people. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'error'
  const words: unknown[] = ['code' in error ? error.code : undefined, error.name]
  return words.find(isWord) ?? 'error'
}

const isWord = (word: unknown): word is string => typeof word === 'string' && /^[\w.-]{1,64}$/.test(word)
