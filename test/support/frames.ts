/** WebSocket frames as bytes, as no library would send them. */
import type { Socket } from 'node:net'
import type { TestSocket } from './socket.ts'

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

export interface RawFrame {
  opcode: number
  payload?: Uint8Array | string
  /** Default true: the last of its message. */
  fin?: boolean
  /** Default true, as a client has to. */
  masked?: boolean
  /** The three reserved bits. */
  reserved?: number
}

export function rawFrame({
  opcode,
  payload = '',
  fin = true,
  masked = true,
  reserved = 0,
}: RawFrame): Buffer {
  const bytes = Buffer.from(payload)
  const first = (fin ? 0x80 : 0) | (reserved << 4) | opcode
  const mask = masked ? 0x80 : 0
  const head =
    bytes.length < 126
      ? Buffer.from([first, mask | bytes.length])
      : bytes.length < 65_536
        ? Buffer.from([first, mask | 126, bytes.length >> 8, bytes.length & 255])
        : Buffer.concat([Buffer.from([first, mask | 127]), bigLength(bytes.length)])
  // A mask of zeros leaves everything as it is.
  return Buffer.concat([head, Buffer.alloc(masked ? 4 : 0), bytes])
}

function bigLength(length: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(length))
  return bytes
}

/** Its connection, past the library. */
export function connectionOf({ ws }: TestSocket): Socket {
  return (ws as unknown as { _socket: Socket })._socket
}
