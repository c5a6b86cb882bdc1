/** Devices: a WebSocket for each user, which notes when each step of an assessment came. */
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { mintToken } from '../../src/auth/tokens.ts'
import { nowUs } from '../probe.ts'
import { secret } from '../realtime/subjects.ts'

export interface Devices extends AsyncDisposable {
  /** By assessment, when a row with at least this progress was read first, µs. */
  reached: Record<75 | 100, ReadonlyMap<string, number>>
}

/** Connecting at once: the server's own work is not what is measured then. */
const atOnce = 20

interface EventFrame {
  op: string
  data?: { progress?: number | null; data?: { assessment_id?: string } }
}

export async function openDevices(origin: string, names: readonly string[]): Promise<Devices> {
  const reached = { 75: new Map<string, number>(), 100: new Map<string, number>() }
  const sockets: WebSocket[] = []

  function heard(frame: EventFrame, atUs: number, answer: (frame: object) => void): void {
    if (frame.op === 'heartbeat') answer({ op: 'ack', seq: 0 })
    const { progress, data } = frame.data ?? {}
    const name = data?.assessment_id
    if (frame.op !== 'event' || name === undefined || progress == null) return
    for (const step of [75, 100] as const)
      if (progress >= step && !reached[step].has(name)) reached[step].set(name, atUs)
  }

  async function open(name: string): Promise<void> {
    const token = await mintToken(secret, { sub: `user-${name}`, hours: 2 })
    const socket = new WebSocket(`${origin.replace('http', 'ws')}/ws`, ['rivulet.v1'], {
      perMessageDeflate: false,
      headers: { authorization: `Bearer ${token}` },
    })
    sockets.push(socket)
    const live = Promise.withResolvers<undefined>()
    socket.on('error', live.reject)
    socket.on('message', (bytes: Buffer) => {
      const atUs = nowUs()
      const frame = JSON.parse(bytes.toString()) as EventFrame
      if (frame.op === 'live') live.resolve(undefined)
      heard(frame, atUs, (said) => socket.send(JSON.stringify(said)))
    })
    await live.promise
  }

  for (let first = 0; first < names.length; first += atOnce)
    await Promise.all(names.slice(first, first + atOnce).map(open))
  return {
    reached,
    async [Symbol.asyncDispose]() {
      await Promise.all(
        sockets.map(async (socket) => {
          if (socket.readyState === WebSocket.CLOSED) return
          const closed = once(socket, 'close')
          socket.close()
          await closed
        }),
      )
    },
  }
}
