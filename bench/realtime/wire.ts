/**
 * A client's WebSocket with nothing but what a crowd needs: ten thousand of them have to fit into one process, beside
 * the server that is measured on the same two cores.
 *
 * connecting → open → ended. It reads unmasked, unfragmented frames, as servers send them, answers pings and closes,
 * and gives up a handshake after `handshakeMs`. The mask of what it sends is 0: allowed, and nothing to compute.
 */
import { connect } from 'node:net'
import { nowUs } from '../probe.ts'

export type Ending =
  /** By a close frame; 1005 stands for one without a code. */
  | { kind: 'closed'; code: number }
  /** The handshake was answered by something else than 101. */
  | { kind: 'refused'; status: number }
  /** No connection, or none any more: why is a code of the system's, or a word of ours. */
  | { kind: 'cut'; while: 'connecting' | 'open'; why: string }

export interface Wire {
  send(text: string): void
  /** Stops reading: what comes stays in the kernel, and then at the server. */
  pause(): void
  resume(): void
  destroy(): void
}

export interface Listener {
  opened(): void
  /** @param readUs when it was read */
  heard(text: string, readUs: number): void
  ended(ending: Ending): void
}

/** An overloaded server answers late; behind this it counts as not answering. Browsers wait longer than most libraries. */
const handshakeMs = 60_000
const opcodes = { text: 1, close: 8, ping: 9, pong: 10 } as const
const headEnd = Buffer.from('\r\n\r\n')

export function openWire(port: number, path: string, headers: string[], listener: Listener): Wire {
  let rest: Buffer | undefined
  let open = false
  let ending: Exclude<Ending, { kind: 'cut' }> | undefined
  let why = 'ended'
  const socket = connect({ port, host: '127.0.0.1' })
  socket.setTimeout(handshakeMs, () => {
    why = 'too late'
    socket.destroy()
  })
  socket.on('connect', () => {
    const lines = [
      `GET ${path} HTTP/1.1`,
      `Host: 127.0.0.1:${port}`,
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      ...headers,
    ]
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  })
  // 'close' follows.
  socket.on('error', (error: NodeJS.ErrnoException) => {
    why = error.code ?? error.message
  })
  socket.on('close', () =>
    listener.ended(ending ?? { kind: 'cut', while: open ? 'open' : 'connecting', why }),
  )
  socket.on('data', (chunk) => {
    const readUs = nowUs()
    const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk])
    const used = open ? readFrames(bytes, 0, readUs) : readHead(bytes, readUs)
    rest = used === bytes.length ? undefined : bytes.subarray(used)
  })

  /** @returns how many bytes were used. */
  function readHead(bytes: Buffer, readUs: number): number {
    const end = bytes.indexOf(headEnd)
    if (end === -1) return 0
    const status = Number(bytes.toString('latin1', 9, 12))
    if (status !== 101) {
      ending = { kind: 'refused', status }
      socket.destroy()
      return bytes.length
    }
    open = true
    socket.setTimeout(0)
    listener.opened()
    return readFrames(bytes, end + headEnd.length, readUs)
  }

  function readFrames(bytes: Buffer, from: number, readUs: number): number {
    let at = from
    while (bytes.length - at >= 2) {
      const opcode = bytes.readUInt8(at) & 0x0f
      const short = bytes.readUInt8(at + 1) & 0x7f
      const headBytes = short === 126 ? 4 : short === 127 ? 10 : 2
      if (bytes.length - at < headBytes) break
      const length =
        short === 126
          ? bytes.readUInt16BE(at + 2)
          : short === 127
            ? Number(bytes.readBigUInt64BE(at + 2))
            : short
      const begin = at + headBytes
      if (bytes.length - begin < length) break
      at = begin + length
      takeFrame(opcode, bytes.subarray(begin, at), readUs)
    }
    return at
  }

  function takeFrame(opcode: number, payload: Buffer, readUs: number): void {
    if (opcode === opcodes.text) listener.heard(payload.toString('utf8'), readUs)
    else if (opcode === opcodes.ping) socket.write(frame(opcodes.pong, payload))
    else if (opcode === opcodes.close) {
      ending = { kind: 'closed', code: payload.length >= 2 ? payload.readUInt16BE(0) : 1005 }
      socket.end(frame(opcodes.close, payload.subarray(0, 2)))
    }
  }

  return {
    send(text) {
      if (open) socket.write(frame(opcodes.text, Buffer.from(text)))
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    destroy: () => void socket.destroy(),
  }
}

/** Of a client: masked, by 0. Up to 64 KiB. */
function frame(opcode: number, payload: Buffer): Buffer {
  const long = payload.length > 125
  const head = Buffer.alloc(long ? 8 : 6)
  head[0] = 0x80 | opcode
  head[1] = 0x80 | (long ? 126 : payload.length)
  if (long) head.writeUInt16BE(payload.length, 2)
  return Buffer.concat([head, payload])
}
