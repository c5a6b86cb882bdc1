/**
 * The clients, in a process of their own: they send, read, and tell what they saw. One job at a time, over IPC.
 *
 * Bounded: every request ends with its response, or after `patienceMs`.
 */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { nowUs } from './probe.ts'
import { spread, type Spread } from './statistics.ts'
import { createTokenReader } from './tokens.ts'

export interface Sent {
  method: 'GET' | 'POST'
  path: string
  headers: Record<string, string>
  body?: string
}

export type Job =
  /** Each stream sends its requests one after the other and reads each to its end. */
  | {
      kind: 'streams'
      port: number
      streams: Sent[][]
      tokens: number
      overMs: number
      /** They come while the answer runs: what was said before is no matter of transit. */
      late?: boolean
    }
  /** Opens each request, reads its headers, and then nothing, until `release`. */
  | { kind: 'stall'; port: number; requests: Sent[] }
  | { kind: 'release' }
  /** Opens each request and drops it, so many at a time, `times` in all. */
  | { kind: 'drop'; port: number; request: Sent; times: number; atOnce: number }

export interface Seen {
  responses: number
  /** Responses that did not hold every token once, in order. */
  broken: number
  tokens: number
  elapsedMs: number
  /** From sending to the first token, ms. */
  firstTokenMs: Spread
  /** From the upstream's write to the client's read, ms. */
  transitMs: Spread
}

const patienceMs = 120_000
const agent = new Agent({ keepAlive: true, maxSockets: Infinity })

function open(port: number, sent: Sent): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { method, path, headers, body } = sent
    const outgoing = httpRequest({
      host: '127.0.0.1',
      port,
      agent,
      method,
      path,
      headers,
      timeout: patienceMs,
    })
    outgoing.on('response', resolve).on('error', reject)
    outgoing.end(body)
  })
}

async function readStreams(job: Extract<Job, { kind: 'streams' }>): Promise<Seen> {
  const firsts: number[] = []
  const transits: number[] = []
  let responses = 0
  let broken = 0
  let tokens = 0

  async function take(sent: Sent): Promise<void> {
    const startedUs = nowUs()
    const response = await open(job.port, sent)
    const stamps: number[] = []
    let readUs = 0
    const sinceUs = job.late === true ? nowUs() : 0
    const read = createTokenReader((us) => {
      if (stamps.push(us) === 1) firsts.push((readUs - startedUs) / 1000)
      if (stamps.length > job.tokens) return
      tokens++
      if (us >= sinceUs) transits.push((readUs - us) / 1000)
    })
    response.setEncoding('latin1')
    response.on('data', (text: string) => {
      readUs = nowUs()
      read(text)
    })
    await new Promise((resolve) => response.once('close', resolve))
    responses++
    if (response.statusCode !== 200 || !whole(stamps, job.tokens)) broken++
  }

  const startedAt = performance.now()
  await Promise.all(
    job.streams.map(async (requests, index) => {
      await new Promise((resolve) => setTimeout(resolve, (job.overMs * index) / job.streams.length))
      for (const sent of requests) await take(sent)
    }),
  )
  return {
    responses,
    broken,
    tokens,
    elapsedMs: performance.now() - startedAt,
    firstTokenMs: spread(firsts),
    transitMs: spread(transits),
  }
}

/** Every token once, in order; and, where the answer's last frame repeats its text, the same once more. */
function whole(stamps: number[], tokens: number): boolean {
  const text = stamps.slice(0, tokens)
  const repeated = stamps.slice(tokens)
  return (
    text.length === tokens &&
    text.every((us, index) => us >= (text[index - 1] ?? 0)) &&
    (repeated.length === 0 ||
      (repeated.length === tokens && repeated.every((us, index) => us === text[index])))
  )
}

const stalled: IncomingMessage[] = []

async function stall({ port, requests }: Extract<Job, { kind: 'stall' }>): Promise<number> {
  const responses = await Promise.all(requests.map((sent) => open(port, sent)))
  for (const response of responses) response.pause()
  stalled.push(...responses)
  return responses.filter(({ statusCode }) => statusCode === 200).length
}

function release(): number {
  const count = stalled.length
  for (const response of stalled.splice(0)) response.destroy()
  return count
}

/** A bare socket: sends, waits for the first bytes, and is gone. */
async function drop({ port, request, times, atOnce }: Extract<Job, { kind: 'drop' }>): Promise<number> {
  const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = `${request.method} ${request.path} HTTP/1.1\r\nhost: bench\r\n${lines.join('')}\r\n`
  let left = times
  let answered = 0
  const one = () =>
    new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(head))
      socket.once('data', (bytes) => {
        if (bytes.toString('latin1', 0, 15).startsWith('HTTP/1.1 200')) answered++
        socket.resetAndDestroy()
      })
      socket.on('error', () => undefined)
      socket.once('close', () => resolve())
    })
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await one()
    }),
  )
  return answered
}

process.on('message', (job: Job) => {
  const work = { streams: readStreams, stall, release, drop }[job.kind] as (job: Job) => unknown
  void Promise.resolve(work(job)).then(
    (result) => process.send?.({ result }),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port: 0 })
