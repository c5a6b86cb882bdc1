/**
 * What every bus does, over a link: one connection to a server, or as many as that takes.
 *
 * States: away ⇄ up. Up when a link listens and has taken a packet; away from the first thing that fails, and then a
 * new link is made, for as long as the process lives. The log says so once each way. One send is in flight at a time:
 * what is published meanwhile goes with the next. What was in flight when a link broke is not sent again, since nobody
 * knows whether it has come.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../logging.ts'
import { createAssembly } from './assembly.ts'
import { messageBytesMax, type Bus } from './bus.ts'
import { createWaiting } from './waiting.ts'
import { createPacker, entryOf, readBody, readPacket } from './packets.ts'

export interface Link {
  /** Resolves when it listens and may be sent with. */
  opened: Promise<unknown>
  /** Resolves when the server has taken them all, in this order. */
  send(packets: readonly string[]): Promise<unknown>
  /** Resolves when the server says that it is there, and that this link is listened with. */
  ping(): Promise<unknown>
  /** What is in flight fails. Resolves when nothing of it is left, within `closeMs`. */
  close(): Promise<unknown>
}

export type OpenLink = (on: { packet: (text: string) => void; broken: (error: Error) => void }) => Link

export interface LinkedBusOptions {
  open: OpenLink
  /** The longest packet that the server takes, bytes. */
  packetBytesMax: number
  /** No two have the same: a name without spaces. */
  instanceId: string
  log: Logger
  random?: () => number
  /** Between two looks whether a link is still one, ms: a dead one that nothing is sent with is found that late. */
  pingMs?: number
}

/** A link that was told to close and does not is cut, ms. */
export const closeMs = 250
/** A server that is there answers in less, ms, also while it is busy. */
export const answerMs = 2_000
/** The same for all that it takes to make a link, names and logins included, ms. */
const openMs = 5_000
/** What a closing bus gives to the messages that were published last, ms. */
const lastWordsMs = 500
/** Before a new link is tried: at first, and at most, ms. A trial costs little, and who is back wants to be found. */
const retryMs = { first: 100, max: 2_000 }
/** A link that has held so long was a good one: the next one is tried soon, ms. */
const steadyMs = 10_000
/** What leaves together, bytes: one message at least. */
const sendBytesMax = 256 * 1024

export function createLinkedBus(options: LinkedBusOptions): Bus {
  const { open, packetBytesMax, instanceId, log, random = Math.random, pingMs = 5_000 } = options
  const pack = createPacker(instanceId, packetBytesMax)
  const outbox = createWaiting()
  const assembly = createAssembly()
  const listeners = new Map<string, Set<(message: unknown, instance: string) => void>>()
  const gapHandlers = new Set<() => void>()
  const closing = new AbortController()
  let link: Link | undefined
  let breakOff: (error: Error) => void = () => undefined
  let sending: Promise<void> | undefined
  let dropped = 0
  let toldAway = false
  let closed: Promise<void> | undefined

  async function live(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; failures++) {
      const upMs = await holdLink()
      if (upMs > steadyMs) failures = 0
      const waitMs = Math.min(retryMs.first * 2 ** failures, retryMs.max) * (0.5 + random() / 2)
      await delay(waitMs, undefined, { signal: closing.signal }).catch(() => undefined)
    }
  }

  /** Makes one, and uses it until it breaks. @returns how long it was up, ms. */
  async function holdLink(): Promise<number> {
    const broken = Promise.withResolvers<never>()
    broken.promise.catch(() => undefined)
    breakOff = broken.reject
    let made: Link | undefined
    let pinging: NodeJS.Timeout | undefined
    let upAtMs: number | undefined
    try {
      const trial = (made = open({ packet: receive, broken: broken.reject }))
      await Promise.race([within(openMs, trial.opened), broken.promise])
      // Whether it may be sent with only a packet can tell.
      await Promise.race([within(answerMs, trial.send(pack([]))), broken.promise])
      pinging = setInterval(() => {
        assembly.tidy()
        within(answerMs, trial.ping()).catch(broken.reject)
      }, pingMs).unref()
      upAtMs = performance.now()
      begin(trial)
      return await broken.promise
    } catch (error) {
      if (!closing.signal.aborted) leave(error)
    }
    clearInterval(pinging)
    link = undefined
    await made?.close()
    return upAtMs === undefined ? 0 : performance.now() - upAtMs
  }

  function begin(made: Link): void {
    link = made
    if (toldAway) log.info({ event: 'bus_back' }, 'instances hear of each other at once again')
    toldAway = false
    for (const handler of gapHandlers) guarded(handler)
    send()
  }

  function leave(error: unknown): void {
    if (!toldAway)
      log.warn({ event: 'bus_away', err: error }, 'the bus is away: what other instances do is seen later')
    toldAway = true
  }

  function send(): void {
    if (link === undefined || sending !== undefined || outbox.size() === 0) return
    sending = sendAll(link).then(() => {
      sending = undefined
      send()
    })
  }

  async function sendAll(by: Link): Promise<void> {
    // What one piece of work publishes leaves together.
    await Promise.resolve()
    try {
      while (link === by && outbox.size() > 0)
        await within(answerMs, by.send(pack(outbox.take(sendBytesMax))))
      if (outbox.size() === 0) tellDropped()
    } catch (error) {
      if (link !== by) return
      link = undefined
      breakOff(error instanceof Error ? error : new Error(String(error)))
    }
  }

  function drop(count: number): void {
    if (dropped === 0 && count > 0)
      log.warn({ event: 'bus_overflows' }, 'more is published than can leave: the oldest messages go')
    dropped += count
  }

  function tellDropped(): void {
    if (dropped > 0) log.warn({ event: 'bus_overflowed', dropped }, 'all that is left has been sent')
    dropped = 0
  }

  function receive(text: string): void {
    const packet = readPacket(text)
    if (packet?.instance === instanceId) return
    const body = packet && assembly.take(packet)
    if (packet !== undefined && body === undefined) return
    const messages = body === undefined ? undefined : readBody(body)
    if (packet === undefined || messages === undefined) {
      log.debug({ event: 'bus_packet_ignored', chars: text.length }, 'not from an instance of this version')
      return
    }
    for (const [topic, message] of messages)
      for (const listener of listeners.get(topic) ?? []) guarded(() => listener(message, packet.instance))
  }

  /** One that fails must not cost the others their message. */
  function guarded(handler: () => void): void {
    try {
      handler()
    } catch (error) {
      log.error({ event: 'bus_handler_failed', err: error }, 'a handler of messages failed')
    }
  }

  const living = live()
  return {
    publish(topic, message, key) {
      if (closed !== undefined) return
      const entry = entryOf(topic, message)
      if (entry === undefined) {
        const why = `not JSON of at most ${messageBytesMax} bytes`
        log.error({ event: 'bus_message_refused', topic, why }, 'a message was not sent')
        return
      }
      drop(outbox.add(entry, key === undefined ? undefined : `${topic}\n${key}`))
      send()
    },
    subscribe(topic, onMessage) {
      const set = listeners.get(topic) ?? new Set()
      // Each has its own, so that the same function may listen twice and leave once.
      const listener: typeof onMessage = (message, instance) => onMessage(message, instance)
      listeners.set(topic, set.add(listener))
      return () => {
        set.delete(listener)
        if (set.size === 0 && listeners.get(topic) === set) listeners.delete(topic)
      }
    },
    onGap(handler) {
      gapHandlers.add(handler)
      return () => void gapHandlers.delete(handler)
    },
    state: () => (link === undefined ? 'away' : 'up'),
    close() {
      closed ??= (async () => {
        if (sending !== undefined) await within(lastWordsMs, sending).catch(() => undefined)
        closing.abort()
        breakOff(new Error('closed'))
        await living
      })()
      return closed
    },
  }
}

/** @throws where it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    // A process that was busy for so long has not read its sockets yet: an answer may be waiting there.
    setImmediate(() => late.reject(new Error(`no answer within ${ms} ms`)))
  }, ms)
  timer.unref()
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
