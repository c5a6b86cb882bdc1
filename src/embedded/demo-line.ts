/**
 * One response as a script sees it: something to write to and to wait on, until it closes. Every wait ends when the
 * response closes, and takes its timer or listener with it; after that, writes do nothing.
 */
import type { ServerResponse } from 'node:http'

export interface LineWatcher {
  onBytes(count: number): void
  /** Called once. `byUs`: a step cut the socket. */
  onClose(byUs: boolean): void
}

/** Begins to wait; calls back when it is over, never at once; returns how to give up. */
type Arm = (wake: () => void) => () => void

export type Line = ReturnType<typeof openLine>

export function openLine(response: ServerResponse, watcher: LineWatcher) {
  let closed = false
  let cutByUs = false
  let wakeOnClose: (() => void) | undefined

  const close = () => {
    closed = true
    wakeOnClose?.()
    watcher.onClose(cutByUs)
  }
  if (response.destroyed) close()
  else response.once('close', close)
  // A write that races with the client's leaving: 'close' follows and says all there is to say.
  response.on('error', () => undefined)

  const until = (arm: Arm): Promise<void> =>
    closed
      ? Promise.resolve()
      : new Promise((resolve) => {
          const wake = () => {
            wakeOnClose = undefined
            disarm()
            resolve()
          }
          const disarm = arm(wake)
          wakeOnClose = wake
        })

  /** A promise is given when the client has to read before more is written. */
  const write = (chunk: string | Uint8Array): Promise<void> | undefined => {
    if (closed) return undefined
    watcher.onBytes(typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.length)
    if (response.write(chunk)) return undefined
    return until((wake) => {
      response.once('drain', wake)
      return () => response.off('drain', wake)
    })
  }

  return {
    closed: () => closed,
    until,
    write,

    /** Without a time: until it closes. */
    async pause(ms: number | undefined): Promise<void> {
      if (ms !== undefined && ms <= 0) return
      await until((wake) => {
        const timer = ms === undefined ? undefined : setTimeout(wake, ms)
        return () => clearTimeout(timer)
      })
    },

    /** Sends the headers now; only the first call does, and says so. */
    open(status: number, headers: Readonly<Record<string, string>>): boolean {
      if (closed || response.headersSent) return false
      response.writeHead(status, headers)
      response.flushHeaders()
      return true
    },

    /** Each piece in a turn of the event loop of its own, so that it leaves in a packet of its own. */
    async writeApart(pieces: readonly (string | Uint8Array)[]): Promise<void> {
      for (const piece of pieces) {
        await until(nextTurn)
        await write(piece)
      }
      await until(nextTurn)
    },

    reply(status: number, headers: Readonly<Record<string, string>>, body: string): void {
      if (closed) return
      const length = Buffer.byteLength(body)
      response.writeHead(status, { ...headers, 'content-length': length })
      response.end(body)
      watcher.onBytes(length)
    },

    end(): void {
      if (!closed && !response.writableEnded) response.end()
    },

    /** A script that cannot be played (a header value with a line break, say) tells its author so. */
    fail(error: unknown): void {
      if (closed) return
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end(`demo model: ${String(error)}`)
    },

    /** What was written leaves first. */
    async cut(by: 'fin' | 'reset'): Promise<void> {
      const { socket } = response
      if (!socket) return
      await until((wake) => {
        socket.write('', wake)
        return () => undefined
      })
      if (closed) return
      closed = true
      cutByUs = true
      if (by === 'reset') socket.resetAndDestroy()
      else socket.destroy()
    },
  }
}

const nextTurn: Arm = (wake) => {
  const turn = setImmediate(wake)
  return () => clearImmediate(turn)
}
