/**
 * A proxy in front of RabbitMQ that reads along: what the broker hands out, what of it is acknowledged, and how much is
 * unacknowledged in between. It changes nothing.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Tapped {
  delivered: number
  /** Of these: they had been delivered before. */
  redelivered: number
  acked: number
  /** `reject` and `nack`: there should be none. */
  refused: number
  /** Delivered and not acknowledged, of one connection at most, and now of all. */
  unackedMax: number
  unacked: number
}

export interface AmqpTap {
  /** The same URL, through the tap. */
  url: string
  seen: () => Tapped
  close: () => Promise<void>
}

/** `AMQP` and its version: what a client says before its first frame, bytes. */
const greetingBytes = 8
/** Type, channel and size; and the mark behind the payload. */
const frame = { headBytes: 7, endBytes: 1, method: 1 }
/** Class and method, as one number. */
const methods = {
  deliver: 60 * 65_536 + 60,
  ack: 60 * 65_536 + 80,
  reject: 60 * 65_536 + 90,
  nack: 60 * 65_536 + 120,
  close: 20 * 65_536 + 40,
} as const

export async function startAmqpTap(targetUrl: string): Promise<AmqpTap> {
  const target = new URL(targetUrl)
  const sockets = new Set<Socket>()
  const connections = new Set<Map<number, Set<bigint>>>()
  const counts = { delivered: 0, redelivered: 0, acked: 0, refused: 0, unackedMax: 0 }

  const server = createServer((client) => {
    const broker = connect(Number(target.port), target.hostname)
    /** By channel, the tags that are not acknowledged. */
    const open = new Map<number, Set<bigint>>()
    connections.add(open)
    for (const [socket, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        connections.delete(open)
        other.destroy()
      })
    }
    // Read first: what is acknowledged before it was seen to be delivered would be counted for ever.
    const readBroker = readMethods(0, (channel, method, args) => {
      if (method !== methods.deliver) return
      const tagAt = 1 + args.readUInt8(0)
      counts.delivered++
      if ((args.readUInt8(tagAt + 8) & 1) === 1) counts.redelivered++
      const tags = open.get(channel) ?? new Set()
      open.set(channel, tags.add(args.readBigUInt64BE(tagAt)))
      counts.unackedMax = Math.max(counts.unackedMax, sizeOf(open))
    })
    const readClient = readMethods(greetingBytes, (channel, method, args) => {
      if (method === methods.close) open.delete(channel)
      else if (method === methods.reject || method === methods.nack) counts.refused++
      else if (method === methods.ack) settle(open.get(channel), args)
    })
    const settle = (tags: Set<bigint> | undefined, args: Buffer) => {
      const tag = args.readBigUInt64BE(0)
      const multiple = (args.readUInt8(8) & 1) === 1
      for (const one of multiple ? [...(tags ?? [])].filter((known) => known <= tag) : [tag])
        if (tags?.delete(one) === true) counts.acked++
    }
    broker.on('data', (bytes) => {
      readBroker(bytes)
      if (!client.write(bytes)) broker.pause()
    })
    client.on('data', (bytes) => {
      readClient(bytes)
      if (!broker.write(bytes)) client.pause()
    })
    client.on('drain', () => broker.resume())
    broker.on('drain', () => client.resume())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(targetUrl)
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as AddressInfo).port)

  return {
    url: url.href,
    seen: () => ({ ...counts, unacked: [...connections].reduce((sum, open) => sum + sizeOf(open), 0) }),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

const sizeOf = (open: ReadonlyMap<number, ReadonlySet<bigint>>) =>
  [...open.values()].reduce((sum, { size }) => sum + size, 0)

type Heard = (channel: number, method: number, args: Buffer) => void

/** Reads the frames of one direction; of bodies nothing is kept. @param skipBytes before the first frame */
function readMethods(skipBytes: number, heard: Heard): (bytes: Buffer) => void {
  let skip = skipBytes
  let kept = Buffer.alloc(0)
  return (bytes) => {
    const skipped = Math.min(skip, bytes.length)
    skip -= skipped
    if (skipped === bytes.length) return
    let rest = Buffer.concat([kept, bytes.subarray(skipped)])
    while (rest.length >= frame.headBytes) {
      const wholeBytes = frame.headBytes + rest.readUInt32BE(3) + frame.endBytes
      if (rest.readUInt8(0) !== frame.method) {
        skip = Math.max(0, wholeBytes - rest.length)
      } else if (rest.length < wholeBytes) break
      else heard(rest.readUInt16BE(1), rest.readUInt32BE(frame.headBytes), rest.subarray(frame.headBytes + 4))
      rest = rest.subarray(Math.min(wholeBytes, rest.length))
    }
    kept = Buffer.from(rest)
  }
}
