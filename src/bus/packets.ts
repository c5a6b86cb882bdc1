/**
 * The wire: packets of text, the same on every carrier.
 *
 * `rivulet/1 <instance> <n> <index>/<count> <body>`. An instance numbers its packets from 1. A body is a JSON array of
 * [topic, message]; one that is longer than a packet is cut into `count` parts, which are sent one behind the other.
 */
import { messageBytesMax } from './bus.ts'
import type { Entry } from './waiting.ts'

export interface Packet {
  instance: string
  n: number
  /** From 1. */
  index: number
  count: number
  body: string
}

const version = 'rivulet/1'
/** What a head takes beside the instance's name, bytes: the longest numbers, and what stands between them. */
const headBytes = Buffer.byteLength(`${version}  ${Number.MAX_SAFE_INTEGER} 9999/9999 `)

/**
 * Messages as packets of at most `packetBytesMax` bytes: as many as fit into one. No message at all is an empty packet.
 */
export function createPacker(
  instanceId: string,
  packetBytesMax: number,
): (entries: readonly Entry[]) => string[] {
  const bodyBytesMax = packetBytesMax - headBytes - Buffer.byteLength(instanceId)
  let n = 0

  return (entries) => {
    const packets: string[] = []
    const add = (body: string, index: number, count: number) =>
      packets.push(`${version} ${instanceId} ${++n} ${index}/${count} ${body}`)
    for (const body of bodiesOf(entries, bodyBytesMax)) {
      const parts = cut(body, bodyBytesMax)
      parts.forEach((part, index) => add(part, index + 1, parts.length))
    }
    return packets
  }
}

/** JSON arrays, each as long as is allowed; longer where one entry alone is. */
function bodiesOf(entries: readonly Entry[], bodyBytesMax: number): string[] {
  const bodies: string[] = []
  let gathered: string[] = []
  let bytes = '[]'.length
  for (const entry of entries) {
    const more = entry.bytes + ','.length
    if (gathered.length > 0 && bytes + more > bodyBytesMax) {
      bodies.push(`[${gathered.join()}]`)
      gathered = []
      bytes = '[]'.length
    }
    gathered.push(entry.text)
    bytes += more
  }
  bodies.push(`[${gathered.join()}]`)
  return bodies
}

/** Into pieces of at most so many bytes, never within a character. */
function cut(text: string, bytesMax: number): string[] {
  // A UTF-16 unit is three bytes at most: what is short needs no counting.
  if (text.length * 3 <= bytesMax) return [text]
  const bytes = Buffer.from(text)
  const pieces: string[] = []
  for (let from = 0; from < bytes.length;) {
    let to = Math.min(from + bytesMax, bytes.length)
    while (to < bytes.length && isWithinCharacter(bytes[to])) to--
    pieces.push(bytes.toString('utf8', from, to))
    from = to
  }
  return pieces
}

const isWithinCharacter = (byte = 0) => (byte & 0b1100_0000) === 0b1000_0000

const head = /^rivulet\/1 (\S{1,100}) (\d{1,16}) (\d{1,4})\/(\d{1,4}) /

/** @returns undefined for what no instance of this version has sent. */
export function readPacket(text: string): Packet | undefined {
  const [whole, instance, n, index, count] = head.exec(text) ?? []
  if (whole === undefined || instance === undefined) return undefined
  return {
    instance,
    n: Number(n),
    index: Number(index),
    count: Number(count),
    body: text.slice(whole.length),
  }
}

/** A whole body's messages. @returns undefined where it is not one. */
export function readBody(body: string): [topic: string, message: unknown][] | undefined {
  try {
    const messages: unknown = JSON.parse(body)
    return isMessages(messages) ? messages : undefined
  } catch {
    return undefined
  }
}

const isMessages = (value: unknown): value is [topic: string, message: unknown][] =>
  Array.isArray(value) &&
  value.every((entry) => Array.isArray(entry) && entry.length === 2 && typeof entry[0] === 'string')

/** A message as it goes into a body. @returns undefined where JSON cannot say it, or it is too long. */
export function entryOf(topic: string, message: unknown): Entry | undefined {
  try {
    const text = JSON.stringify([topic, message])
    const bytes = Buffer.byteLength(text)
    return bytes <= messageBytesMax ? { text, bytes } : undefined
  } catch {
    return undefined
  }
}
