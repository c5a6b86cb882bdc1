/**
 * One response, read from its socket byte by byte: what a client has at any moment, and when it got it.
 *
 * Open → whole (the server ended it), cut (we dropped it), broken (the server's end went away) or late (it took longer
 * than allowed). Only complete frames count: half a frame is none.
 */
import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ledger } from './ledger.ts'

export interface TimedFrame {
  id: string
  generation: string
  seq: number
  data: Record<string, unknown> & { type: string }
  /** Epoch ms. */
  at: number
}

export type Ending = 'whole' | 'cut' | 'broken' | 'late'

export interface ViewingOptions {
  origin: string
  token: string
  path: string
  headers?: Record<string, string>
  /** Makes it a POST. */
  body?: unknown
  /** Drops the connection when so many bytes of the body have arrived; what came behind them was never received. */
  cutAfterBytes?: number | undefined
  cutBy?: 'fin' | 'reset'
  /** Longest life of the response, ms. */
  withinMs: number
}

export interface Viewing {
  /** Status 0: the connection ended before there was an answer. */
  answered: Promise<{ status: number; headers: IncomingHttpHeaders; at: number }>
  frames: readonly TimedFrame[]
  /** Everything that is no comment and no frame of the contract. */
  faults: readonly string[]
  /** The first frame that matches, past or to come; undefined where the response ended without one. */
  until(matches: (frame: TimedFrame) => boolean): Promise<TimedFrame | undefined>
  ended: Promise<Ending>
  /** What was received, as text. */
  text(): string
  cut(by?: 'fin' | 'reset'): void
}

export function view(options: ViewingOptions): Viewing {
  const { origin, token, path, body, cutAfterBytes, cutBy = 'fin', withinMs } = options
  const frames: TimedFrame[] = []
  const faults: string[] = []
  const waiting: { matches: (frame: TimedFrame) => boolean; found: (frame?: TimedFrame) => void }[] = []
  const answered = Promise.withResolvers<Awaited<Viewing['answered']>>()
  const ended = Promise.withResolvers<Ending>()
  const received: Buffer[] = []
  let rest = Buffer.alloc(0)
  let bytes = 0
  let ending: Ending | undefined

  const sent = request(origin + path, {
    method: body === undefined ? 'GET' : 'POST',
    agent: new Agent({ keepAlive: false }),
    headers: {
      authorization: `Bearer ${token}`,
      accept: 'text/event-stream',
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...options.headers,
    },
  })
  const tooLong = setTimeout(() => finish('late'), withinMs)

  function finish(how: Ending, by = cutBy): void {
    if (ending !== undefined) return
    ending = how
    clearTimeout(tooLong)
    if (how === 'cut' && by === 'reset') sent.socket?.resetAndDestroy()
    sent.destroy()
    answered.resolve({ status: 0, headers: {}, at: Date.now() })
    for (const { found } of waiting.splice(0)) found(undefined)
    ended.resolve(how)
  }

  function take(part: Buffer): void {
    if (ending !== undefined) return
    const wanted = cutAfterBytes === undefined ? part : part.subarray(0, cutAfterBytes - bytes)
    bytes += wanted.length
    received.push(wanted)
    rest = Buffer.concat([rest, wanted])
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const block = rest.subarray(0, end).toString('utf8')
      rest = rest.subarray(end + 2)
      readBlock(block)
    }
    if (bytes === cutAfterBytes) finish('cut')
  }

  function readBlock(block: string): void {
    if (block.startsWith(':') && !block.includes('\n')) return
    const [, generation, seq, json] = /^id: ([0-9a-f-]{36}):(\d+)\ndata: (\{.*\})$/s.exec(block) ?? []
    const data = json === undefined ? undefined : parse(json)
    if (generation === undefined || data === undefined) {
      faults.push(block)
      return
    }
    const frame = { id: `${generation}:${seq ?? ''}`, generation, seq: Number(seq), data, at: Date.now() }
    frames.push(frame)
    for (const waiter of waiting.filter(({ matches }) => matches(frame))) {
      waiting.splice(waiting.indexOf(waiter), 1)
      waiter.found(frame)
    }
  }

  sent.on('response', (response) => {
    answered.resolve({ status: response.statusCode ?? 0, headers: response.headers, at: Date.now() })
    if (cutAfterBytes === 0) {
      finish('cut')
      return
    }
    response.on('data', take)
    response.on('end', () => finish('whole'))
    response.on('error', () => finish('broken'))
    response.on('close', () => finish('broken'))
  })
  sent.on('error', () => finish('broken'))
  sent.end(body === undefined ? undefined : JSON.stringify(body))

  return {
    answered: answered.promise,
    frames,
    faults,
    ended: ended.promise,
    text: () => Buffer.concat(received).toString('utf8'),
    cut: (by) => finish('cut', by),
    until(matches) {
      const seen = frames.find(matches)
      if (seen !== undefined || ending !== undefined) return Promise.resolve(seen)
      return new Promise((found) => waiting.push({ matches, found }))
    },
  }
}

/** What a client waits before it asks again, ms, and how often it does. */
const againMs = 200
const againMax = 50

/**
 * As a client does where it is told to come back: 503 is asked again. A send is sent under a key for it.
 *
 * @param ledger notes each 503.
 */
export async function viewPatiently(options: ViewingOptions, ledger: Ledger): Promise<Viewing> {
  const key = { 'idempotency-key': crypto.randomUUID() }
  const headers = { ...(options.body !== undefined && key), ...options.headers }
  for (let tried = 1; ; tried++) {
    const viewing = view({ ...options, headers })
    const { status } = await viewing.answered
    if (status !== 503 || tried === againMax) return viewing
    ledger.note('answered 503, and asked again')
    await viewing.ended
    await delay(againMs)
  }
}

function parse(json: string): TimedFrame['data'] | undefined {
  try {
    return JSON.parse(json) as TimedFrame['data']
  } catch {
    return undefined
  }
}

export const isTerminal = ({ data }: TimedFrame): boolean => data.type === 'complete' || data.type === 'error'
