/**
 * A device that stays: it follows its user's inbox by the protocol's five lines, goes wherever an instance answers, and
 * comes back with its cursor when it is cut. What it was told is judged at the end.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { ServerFrame } from '../../src/realtime/protocol.ts'
import { basePath } from '../support/client.ts'
import type { Random } from './random.ts'

/** What it keeps of a notification. */
export interface Shown {
  seq: number
  title: string
  read: boolean
}

export interface InboxReader {
  user: string
  rows: ReadonlyMap<string, Shown>
  cursor: () => number
  unread: () => number | undefined
  isLive: () => boolean
  /** What broke the protocol, in words. */
  faults: readonly string[]
  counts: Readonly<{ connects: number; applied: number; repeated: number; gaps: number; resets: number }>
  close(): Promise<void>
}

/** Shorter than clients wait: so many cuts shall fit into minutes, ms. */
const backoff = { firstMs: 20, maxMs: 1_000 }

/** @param origins of the instances that live at the moment. */
export function startInboxReader(options: {
  user: string
  token: string
  random: Random
  origins: () => readonly string[]
}): InboxReader {
  const { user, token, random, origins } = options
  const rows = new Map<string, Shown>()
  const faults: string[] = []
  const counts = { connects: 0, applied: 0, repeated: 0, gaps: 0, resets: 0 }
  let epoch: string | undefined
  let cursor = 0
  let unread: number | undefined
  let live = false
  let closed = false
  let socket: WebSocket | undefined

  const isClosed = () => closed

  const running = (async () => {
    for (let failures = 0; !isClosed();) {
      const before = counts.applied
      const greeted = await follow()
      failures = greeted || counts.applied > before ? 0 : failures + 1
      live = false
      if (!isClosed()) await delay(random.next() * Math.min(backoff.firstMs * 2 ** failures, backoff.maxMs))
    }
  })()

  /** One connection, until it ends. @returns whether it was greeted. */
  async function follow(): Promise<boolean> {
    const all = origins()
    const origin = all[random.int(0, Math.max(all.length - 1, 0))]
    if (origin === undefined) return false
    const url = new URL(`${basePath}/ws`, origin.replace(/^http/, 'ws'))
    if (epoch !== undefined) url.searchParams.set('cursor', `${epoch}.${cursor}`)
    const ws = new WebSocket(url, ['rivulet.v1'], {
      perMessageDeflate: false,
      handshakeTimeout: 5_000,
      headers: { authorization: `Bearer ${token}` },
    })
    socket = ws
    counts.connects++
    let greeted = false
    ws.on('error', () => undefined)
    ws.on('message', (data: Buffer) => {
      const frame = JSON.parse(data.toString()) as ServerFrame
      greeted ||= frame.op === 'hello'
      take(frame, (answer) => ws.send(JSON.stringify(answer)))
    })
    await new Promise((resolve) => ws.once('close', resolve))
    return greeted
  }

  function take(frame: ServerFrame, answer: (frame: object) => void): void {
    switch (frame.op) {
      case 'hello':
        if (frame.mode !== 'resume') {
          if (epoch !== undefined) faults.push(`${frame.mode} at ${epoch}.${cursor}, head ${frame.head}`)
          counts.resets++
          rows.clear()
          cursor = frame.head
        }
        epoch = frame.epoch
        return
      case 'event':
        if (frame.seq !== undefined) apply(frame, frame.seq, answer)
        return
      case 'live':
        live = true
        if (frame.seq < cursor) faults.push(`live at ${frame.seq}, behind ${cursor}`)
        cursor = Math.max(cursor, frame.seq)
        answer({ op: 'ack', seq: cursor })
        return
      case 'heartbeat':
        if (live && frame.head > cursor) gap(answer)
        answer({ op: 'ack', seq: cursor })
        return
      case 'ok':
      case 'error':
        return
      default:
        return frame satisfies never
    }
  }

  function apply(
    { prev = 0, id = '', unread: badge, data }: Extract<ServerFrame, { op: 'event' }>,
    seq: number,
    answer: (frame: object) => void,
  ): void {
    if (seq <= cursor) {
      counts.repeated++
      return
    }
    if (live && prev > cursor) {
      gap(answer)
      return
    }
    const known = rows.get(id)
    if (known !== undefined && known.seq >= seq) faults.push(`${id}: ${seq} after ${known.seq}`)
    rows.set(id, { seq, title: String(data['title']), read: data['read_at'] != null })
    cursor = seq
    unread = badge
    counts.applied++
  }

  function gap(answer: (frame: object) => void): void {
    counts.gaps++
    answer({ op: 'sync', seq: cursor })
  }

  return {
    user,
    rows,
    cursor: () => cursor,
    unread: () => unread,
    isLive: () => live,
    faults,
    counts,
    async close() {
      closed = true
      socket?.terminate()
      await running
    },
  }
}
