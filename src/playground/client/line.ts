/**
 * The line to the server: connections, one after another, each with a ticket of its own.
 *
 * What cuts one (the network, the server, silence, `cut`) makes it wait a random time in a window that doubles with each
 * failure, and begin anew; a final close code or a refused ticket halts it. It knows nothing of what is said over it.
 */
import type { ClientState, RealtimeOptions, SocketLike } from './contract.ts'

/** A connection, from its ticket on. What comes from an older one is not listened to any more. */
export interface Attempt {
  socket?: SocketLike
}

export interface Line {
  start(): void
  /** Until it is started again. */
  halt(why: string): void
  /** Leaves this connection; the next one follows. */
  cut(why: string, atLeastMs?: number): void
  send(text: string): void
  current(): Attempt | undefined
  /** Something is expected within this time, or the connection is taken for dead. */
  expect(withinMs: number): void
  /** It works: if that lasts, it was no failure, and the next wait is short again. */
  works(): void
}

export interface LineOptions extends Pick<RealtimeOptions, 'ticket' | 'WebSocket' | 'network' | 'failed'> {
  alarms: Alarms
  random: () => number
  /** What the next connection begins behind; null: nothing is known. */
  cursor(): string | null
  receive(text: string): void
  /** This connection is over. Before `changed` says what comes next. */
  left(): void
  changed: (state: ClientState) => void
}

/** The window of the first wait, and the most that doubling makes of it. */
const backoffFirstMs = 500
const backoffMostMs = 30_000
/** More doublings change nothing. */
const failuresMax = 16
/** Of a connection that worked for so long one does not say that it failed. */
const steadyMs = 10_000
/** From asking for a ticket to the server's first frame. */
const helloWithinMs = 15_000

const expiredCode = 4001
/** Beside 4500–4999: what we sent was not the protocol, no text, in too many pieces, or too long. It would be again. */
const finalCodes = new Set([1002, 1007, 1008, 1009])

export function createLine(options: LineOptions): Line {
  const { alarms, network, random, changed } = options
  let current: Attempt | undefined
  let failures = 0
  let renew = false
  let unwatch: (() => void) | undefined
  let waiting = false

  function connect(): void {
    waiting = network?.online() === false
    if (waiting) {
      changed({ kind: 'offline' })
      return
    }
    const attempt: Attempt = {}
    current = attempt
    changed({ kind: 'connecting' })
    expect(helloWithinMs)
    enter(attempt).catch((error: unknown) => {
      if (current !== attempt) return
      options.failed?.(error)
      cut('no ticket, or no socket')
    })
  }

  async function enter(attempt: Attempt): Promise<void> {
    const ticket = await options.ticket({ renew })
    if (current !== attempt) return
    if ('refused' in ticket) halt(ticket.refused)
    else if ('retryAfterMs' in ticket) cut('asked to wait', ticket.retryAfterMs)
    else open(attempt, new URL(ticket.url))
  }

  function open(attempt: Attempt, url: URL): void {
    renew = false
    const cursor = options.cursor()
    if (cursor !== null) url.searchParams.set('cursor', cursor)
    const socket = new options.WebSocket(url.href, ['rivulet.v1'])
    attempt.socket = socket
    socket.addEventListener('message', ({ data }) => {
      if (current === attempt && typeof data === 'string') options.receive(data)
    })
    socket.addEventListener('close', ({ code }) => {
      if (current === attempt) closed(code)
    })
    // 'close' follows, and says more.
    socket.addEventListener('error', () => undefined)
  }

  function closed(code: number): void {
    const why = `closed with ${code}`
    if (code === expiredCode) renew = true
    if ((code >= 4500 && code <= 4999) || finalCodes.has(code)) halt(why)
    else cut(why)
  }

  function abandon(): void {
    const attempt = current
    current = undefined
    for (const name of ['retry', 'silence', 'steady'] as const) alarms.clear(name)
    options.left()
    attempt?.socket?.close()
  }

  function cut(why: string, atLeastMs = 0): void {
    abandon()
    const windowMs = Math.min(backoffMostMs, backoffFirstMs * 2 ** failures)
    failures = Math.min(failures + 1, failuresMax)
    const delayMs = atLeastMs + random() * windowMs
    waiting = true
    alarms.set('retry', delayMs, connect)
    changed({ kind: 'waiting', delayMs, why })
  }

  function halt(why: string): void {
    abandon()
    waiting = false
    unwatch?.()
    unwatch = undefined
    changed({ kind: 'stopped', why })
  }

  function networkChanged(): void {
    if (network?.online() === false) {
      abandon()
      waiting = true
      changed({ kind: 'offline' })
    } else if (waiting) {
      failures = 0
      alarms.clear('retry')
      connect()
    }
  }

  function expect(withinMs: number): void {
    alarms.set('silence', withinMs, () => cut('silence'))
  }

  return {
    start() {
      failures = 0
      unwatch = network?.watch(networkChanged)
      connect()
    },
    halt,
    cut,
    send: (text) => current?.socket?.send(text),
    current: () => current,
    expect,
    works: () => alarms.set('steady', steadyMs, () => (failures = 0)),
  }
}

/** Timers by name: setting one again replaces it. */
export interface Alarms {
  set(name: AlarmName, ms: number, ring: () => void): void
  clear(name: AlarmName): void
  isSet(name: AlarmName): boolean
}
type AlarmName = 'retry' | 'steady' | 'silence' | 'ack' | 'rejoin'

export function createAlarms(timers: RealtimeOptions['timers'] = systemTimers): Alarms {
  const set = new Map<AlarmName, unknown>()
  const alarms: Alarms = {
    set(name, ms, ring) {
      alarms.clear(name)
      const timer = timers.set(() => {
        set.delete(name)
        ring()
      }, ms)
      set.set(name, timer)
    },
    clear(name) {
      if (set.has(name)) timers.clear(set.get(name))
      set.delete(name)
    },
    isSet: (name) => set.has(name),
  }
  return alarms
}

const systemTimers = {
  set: (ring: () => void, ms: number): unknown => setTimeout(ring, ms),
  clear: (timer: unknown): void => clearTimeout(timer as number),
}
