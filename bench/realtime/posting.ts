/** The sender: requests at a steady rate, so many at once at most, and what became of them. */
import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'undici'
import { nowUs } from '../probe.ts'
import { spread, type Spread } from '../statistics.ts'
import { secret, type Request } from './subjects.ts'

export interface Poster {
  /** @returns whether it was accepted: 2xx. Whoever is not there says no. */
  post(request: Request): Promise<boolean>
  close(): Promise<void>
}

export interface Posted {
  /** Accepted: who has to get it, by what names it. */
  accepted: Map<number, readonly number[]>
  refused: number
  /** From sending to the answer, ms. */
  answerMs: Spread
  /** Reached, requests a second. */
  perSecond: number
}

/** Sockets of one poster: what is sent at once at most. */
const atOnceMax = 64
/** An answer that is later than this is none, ms. */
const answerMs = 10_000
/** How often requests that are due are looked for, ms. */
const tickMs = 2

export function createPoster(port: number): Poster {
  const pool = new Pool(`http://127.0.0.1:${port}`, {
    connections: atOnceMax,
    headersTimeout: answerMs,
    bodyTimeout: answerMs,
  })
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${secret}` }
  return {
    async post({ path, body }) {
      try {
        const answer = await pool.request({ method: 'POST', path, headers, body })
        const text = await answer.body.text()
        const accepted = answer.statusCode >= 200 && answer.statusCode < 300
        if (!accepted) sayOnce(`${path} was answered ${answer.statusCode}: ${text.slice(0, 300)}`)
        return accepted
      } catch {
        return false
      }
    },
    close: () => pool.destroy(),
  }
}

const told = new Set<string>()
/** A wrong request is found by its answer; a thousand of them are one line. */
function sayOnce(text: string): void {
  const key = text.slice(0, 60)
  if (told.has(key)) return
  told.add(key)
  console.error(text)
}

let lastUs = 0
/** No two are the same: it is also a name. */
export function nextSentUs(): number {
  lastUs = Math.max(nowUs(), lastUs + 1)
  return lastUs
}

export async function postSteadily(options: {
  perSecond: number
  forMs: number
  poster: () => Poster
  /** The nth request, and to whom it goes. */
  make: (n: number, sentUs: number) => { request: Request; users: readonly number[] }
  signal?: AbortSignal
}): Promise<Posted> {
  const { perSecond, forMs, poster, make, signal } = options
  const accepted = new Map<number, readonly number[]>()
  const answers: number[] = []
  const flying = new Set<Promise<void>>()
  let refused = 0
  let sent = 0

  async function one(n: number): Promise<void> {
    const sentUs = nextSentUs()
    const { request, users } = make(n, sentUs)
    if (await poster().post(request)) {
      accepted.set(sentUs, users)
      answers.push((nowUs() - sentUs) / 1000)
    } else refused++
  }

  const startedMs = performance.now()
  for (;;) {
    const elapsedMs = performance.now() - startedMs
    if (elapsedMs >= forMs || signal?.aborted === true) break
    // What could not be sent in time is sent late, not left out; it carries the time at which it was sent.
    while (sent < (elapsedMs / 1000) * perSecond && flying.size < atOnceMax) {
      const flight = one(sent++).finally(() => flying.delete(flight))
      flying.add(flight)
    }
    await delay(tickMs)
  }
  await Promise.all(flying)
  const elapsedMs = performance.now() - startedMs
  return {
    accepted,
    refused,
    answerMs: spread(answers),
    perSecond: (accepted.size / elapsedMs) * 1000,
  }
}
