/** A DNS server that says what a test wants it to say, and may say something else the next time. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'

export interface NameServer {
  /** `127.0.0.1:4711`. */
  address: string
  /** The questions so far, such as `A push.test`. */
  asked: string[]
  close(): Promise<void>
}

/** @param answer the IPv4 addresses of a name, for its nth question (from 0); undefined: it does not answer at all. */
export async function startNameServer(
  answer: (name: string, nth: number) => string[] | undefined,
): Promise<NameServer> {
  const socket = createSocket('udp4')
  const asked: string[] = []
  socket.on('message', (query, from) => {
    const { name, end } = nameAt(query, 12)
    const isA = query.readUInt16BE(end) === 1
    const question = `${isA ? 'A' : 'AAAA'} ${name}`
    const addresses = answer(name, asked.filter((before) => before === question).length)
    asked.push(question)
    if (addresses === undefined) return
    const records = (isA ? addresses : []).map((address) =>
      Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]),
    )
    const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, records.length, 0, 0, 0, 0])
    socket.send(Buffer.concat([header, query.subarray(12, end + 4), ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  }
}

function nameAt(query: Buffer, at: number): { name: string; end: number } {
  const labels: string[] = []
  let end = at
  for (let length = query.readUInt8(end); length > 0; length = query.readUInt8(end)) {
    labels.push(query.subarray(end + 1, end + 1 + length).toString('latin1'))
    end += 1 + length
  }
  // Some resolvers spell names in changing case, as a check.
  return { name: labels.join('.').toLowerCase(), end: end + 1 }
}
