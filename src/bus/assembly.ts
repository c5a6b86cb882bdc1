/**
 * What the other instances send, put in order: whole bodies, each once.
 *
 * A packet that comes behind a later one of its instance is old: a connection that was given up delivered it all the
 * same. Of an instance one body at most is half there, since its parts come one behind the other; a packet that does
 * not go on where the last one ended ends it.
 */
import { messageBytesMax } from './bus.ts'
import type { Packet } from './packets.ts'

export interface Assembly {
  /** @returns a whole body where this packet has made one. */
  take: (packet: Packet) => string | undefined
  /** Forgets what has not grown since it was called the last time: whoever sent it has gone. */
  tidy: () => void
}

/** Who is remembered, the last ones heard of. More than there are instances; with a body half there each, 25 MiB. */
const instancesMax = 100

interface Sender {
  n: number
  half: { parts: string[]; count: number; chars: number; grown: boolean } | undefined
}

export function createAssembly(): Assembly {
  const senders = new Map<string, Sender>()

  function senderOf(instance: string): Sender {
    const sender = senders.get(instance) ?? { n: 0, half: undefined }
    senders.delete(instance)
    senders.set(instance, sender)
    const [oldest] = senders.keys()
    if (senders.size > instancesMax && oldest !== undefined) senders.delete(oldest)
    return sender
  }

  return {
    take({ instance, n, index, count, body }) {
      const sender = senderOf(instance)
      if (n <= sender.n) return undefined
      const goesOn =
        n === sender.n + 1 && sender.half?.count === count && sender.half.parts.length === index - 1
      const half = goesOn ? sender.half : undefined
      sender.n = n
      sender.half = undefined
      if (count === 1) return body
      if (half === undefined && index !== 1) return undefined
      const grown = half ?? { parts: [], count, chars: 0, grown: true }
      grown.parts.push(body)
      grown.chars += body.length
      grown.grown = true
      if (index === count) return grown.parts.join('')
      // Its own brackets come with it.
      if (grown.chars <= messageBytesMax + 2) sender.half = grown
      return undefined
    },
    tidy() {
      for (const sender of senders.values()) {
        if (sender.half?.grown === false) sender.half = undefined
        else if (sender.half !== undefined) sender.half.grown = false
      }
    },
  }
}
