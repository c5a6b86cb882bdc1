/**
 * One client of the crowd, and how it comes back.
 *
 * away → connecting → replaying → live; cut from anywhere it is away again, and comes back after a full-jitter pause
 * (`firstPauseMs`, doubled with each attempt that did not become live, at most `pauseMaxMs`), each time to the next of
 * its ports. A final ending makes it gone.
 */
import { dialects, type Dialect, type DialectName } from './dialects.ts'
import { openWire, type Ending, type Wire } from './wire.ts'

export type State = 'away' | 'connecting' | 'replaying' | 'live' | 'gone'

export interface Member {
  readonly user: number
  state(): State
  connect(): void
  /** Reads nothing any more, and answers nothing. */
  stopReading(): void
  goOnReading(): void
  cursor(): number
  /** Resolves when its wire is gone; it stays away. */
  leave(): Promise<void>
}

/** What members have to tell; one for the whole crowd. */
export interface Witness {
  moved(from: State, to: State): void
  ended(ending: Ending): void
  event(user: number, sentUs: number | undefined, readUs: number): void
  duplicate(): void
  gap(): void
  reset(): void
}

const firstPauseMs = 500
const pauseMaxMs = 30_000

export function createMember(options: {
  user: number
  token: string
  dialect: DialectName
  /** Where to connect to, looked up at each attempt. */
  ports: () => readonly number[]
  witness: Witness
}): Member {
  const { user, ports, witness } = options
  let state: State = 'away'
  let wire: Wire | undefined
  let attempts = 0
  let failures = 0
  let pause: NodeJS.Timeout | undefined
  let left: (() => void) | undefined

  const dialect: Dialect = dialects[options.dialect](options.token, {
    send: (text) => wire?.send(text),
    live() {
      failures = 0
      move('live')
    },
    event: (sentUs, readUs) => witness.event(user, sentUs, readUs),
    duplicate: () => witness.duplicate(),
    gap: () => witness.gap(),
    reset: () => witness.reset(),
  })

  const listener = {
    opened() {
      move('replaying')
      dialect.opened()
    },
    heard: (text: string, readUs: number) => dialect.heard(text, readUs),
    ended(ending: Ending) {
      wire = undefined
      witness.ended(ending)
      move(dialect.isFinal(ending) ? 'gone' : 'away')
      if (left !== undefined) left()
      else if (state === 'away') {
        pause = setTimeout(connect, Math.random() * Math.min(pauseMaxMs, firstPauseMs * 2 ** failures))
        failures++
      }
    },
  }

  function move(to: State): void {
    if (to === state) return
    const from = state
    state = to
    witness.moved(from, to)
  }

  function connect(): void {
    const all = ports()
    const port = all[attempts++ % all.length]
    if (port === undefined) throw new Error('a crowd needs a port')
    move('connecting')
    const { path, headers } = dialect.request()
    wire = openWire(port, path, headers, listener)
  }

  return {
    user,
    state: () => state,
    connect,
    stopReading: () => wire?.pause(),
    goOnReading: () => wire?.resume(),
    cursor: () => dialect.cursor(),
    async leave() {
      clearTimeout(pause)
      await new Promise<void>((resolve) => {
        left = resolve
        if (wire === undefined) resolve()
        else wire.destroy()
      })
    },
  }
}
