/** The person's inbox in the demo, over a WebSocket: what came, and when. The client is the one of the page (client/). */
import { once, EventEmitter } from 'node:events'
import { WebSocket } from 'ws'
import type { Notification } from '../notifications/schemas.ts'
import { createRealtimeClient } from './client/realtime.ts'
import { createTicketSource } from './client/ticket.ts'
import type { DemoStage } from './demo-start.ts'

export interface DemoInbox {
  /** Resolves when it is connected. */
  live: () => Promise<void>
  /** The progress of an assessment behind this one, %, the first that came. `atMs` of `performance.now()`. */
  progressBehind: (progress: number) => Promise<Arrival>
  /** How many have arrived since it was opened. */
  arrived: () => number
  close: () => void
}

export interface Arrival {
  notification: Notification
  progress: number
  atMs: number
}

/** Longer than anything here takes on a slow machine. */
const patienceMs = 30_000

export function openDemoInbox({ api, token, client }: DemoStage, signal: AbortSignal): DemoInbox {
  const arrivals: Arrival[] = []
  const news = new EventEmitter<{ changed: [] }>()
  let cursor: string | null = null
  let refused: string | undefined
  const socket = createRealtimeClient({
    ticket: createTicketSource({ api, token: () => token, fetch: client.fetch }),
    WebSocket,
    storage: { load: () => cursor, save: (to) => (cursor = to) },
    apply(notification) {
      const { progress } = notification
      if (progress !== null) arrivals.push({ notification, progress, atMs: performance.now() })
      news.emit('changed')
    },
    // It is opened by somebody new: there is nothing to read yet.
    reload: async () => undefined,
    changed(state) {
      if (state.kind === 'stopped') refused = state.why
      news.emit('changed')
    },
  })
  socket.start()

  async function until<T>(what: string, look: () => T | undefined): Promise<T> {
    const late = AbortSignal.timeout(patienceMs)
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (refused !== undefined) throw new Error(`${what}: the socket was refused (${refused})`)
      await once(news, 'changed', { signal: AbortSignal.any([signal, late]) }).catch((error: unknown) => {
        throw late.aborted ? new Error(`${what}: not within ${patienceMs / 1_000} s`) : error
      })
    }
  }

  return {
    async live() {
      await until('connecting', () => (socket.state().kind === 'live' ? true : undefined))
    },
    progressBehind: (progress) =>
      until(`progress behind ${progress} %`, () => arrivals.find((arrival) => arrival.progress > progress)),
    arrived: () => arrivals.length,
    close: () => socket.stop(),
  }
}
