/**
 * Door of assessments: the archive service, which keeps their results (`GET /api/archive/results/:assessment_id`).
 *
 * What fails and may be gone in a moment is asked for again, `retries` times; what stays wrong is told at once. So a
 * fetch is over within `(retries + 1) * timeoutMs` and the short waits between. What the archive says is checked here,
 * at the edge. Whose results they are is for the caller to judge.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { backoffMs } from '../jobs/backoff.ts'
import type { Logger } from '../logging.ts'
import { parseResults, type AssessmentResults } from './results.ts'

export type ArchiveAnswer =
  /** `userId` is whose they are, as the archive says; null: it does not say. */
  | { kind: 'found'; results: AssessmentResults; userId: string | null }
  | { kind: 'missing' }
  /** It answered, and what it said is no result: asking again changes nothing. */
  | { kind: 'unusable'; why: string }
  /** Away, busy, or our key is refused: later it may be another one. */
  | { kind: 'unavailable'; why: string; retryAfterMs?: number | undefined }

export interface Archive {
  /** @throws where `signal` is aborted, and only then. */
  fetch: (assessmentId: string, signal: AbortSignal) => Promise<ArchiveAnswer>
  /** What is being fetched is unavailable from then on. */
  close: () => Promise<void>
}

export interface ArchiveOptions {
  /** With or without a path of its own. */
  baseUrl: string
  serviceKey: string | undefined
  /** For one try, ms. */
  timeoutMs?: number
  /** Tries after the first. */
  retries?: number
  random: () => number
  log: Logger
}

/** It reads one row. */
const defaultTimeoutMs = 5_000
const defaultRetries = 2
/** Between tries: a person may be waiting, and a restart behind a load balancer is over in about a second. */
const backoff = { firstMs: 250, maxMs: 1_000 }
/** What the archive asks for is waited for up to this, ms; a longer wait is the caller's, who can do something else. */
const patienceMs = 2_000
/** Whoever asks for more is asked again before that, ms. */
const retryAfterMaxMs = 3_600_000
/** Results with a long persona profile are about 20 KB. */
const bodyBytesMax = 1024 * 1024
/** As many as events are in hand at once; others wait for their turn within their own time. */
const socketsMax = 20
/** As results have it: no longer one can be theirs. */
const idCharsMax = 200

export function createArchive(options: ArchiveOptions): Archive {
  const { baseUrl, serviceKey, random, log } = options
  const { timeoutMs = defaultTimeoutMs, retries = defaultRetries } = options
  const agent = new Agent({ connect: { timeout: timeoutMs }, connections: socketsMax, allowH2: false })
  const closing = new AbortController()
  const root = `${baseUrl.replace(/\/+$/, '')}/api/archive/results/`
  const asking = {
    accept: 'application/json',
    ...(serviceKey !== undefined && serviceKey !== '' && { authorization: `Bearer ${serviceKey}` }),
  }

  async function askOnce(id: string, signal: AbortSignal): Promise<ArchiveAnswer> {
    const deadline = AbortSignal.timeout(timeoutMs)
    let answered: { status: number; after: string | string[] | undefined; text: string | undefined }
    try {
      // Redirects are not followed: one could take our key to another host.
      const { statusCode, headers, body } = await request(root + encodeURIComponent(id), {
        dispatcher: agent,
        headers: asking,
        signal: AbortSignal.any([signal, deadline]),
        // The deadline is narrower.
        headersTimeout: 0,
        bodyTimeout: 0,
      })
      answered = { status: statusCode, after: headers['retry-after'], text: await readBounded(body) }
    } catch {
      return { kind: 'unavailable', why: deadline.aborted ? 'timeout' : 'unreachable' }
    }
    const { status, after, text } = answered
    return status === 200 ? readAnswer(text, id) : refused(status, retryAfterMs(after, Date.now()))
  }

  async function ask(id: string, signal: AbortSignal): Promise<{ answer: ArchiveAnswer; tries: number }> {
    for (let tries = 1; ; tries++) {
      const answer = await askOnce(id, signal)
      if (signal.aborted || tries > retries || !mayChange(answer)) return { answer, tries }
      const waitMs = Math.max(backoffMs(backoff, tries, random), answer.retryAfterMs ?? 0)
      if (waitMs > patienceMs) return { answer, tries }
      const waited = await delay(waitMs, true, { signal }).catch(() => false)
      if (!waited) return { answer, tries }
    }
  }

  return {
    async fetch(id, signal) {
      signal.throwIfAborted()
      if (!isAskable(id)) return { kind: 'missing' }
      const { answer, tries } = await ask(id, AbortSignal.any([signal, closing.signal]))
      signal.throwIfAborted()
      if (closing.signal.aborted && answer.kind === 'unavailable')
        return { kind: 'unavailable', why: 'closed' }
      if (answer.kind === 'unusable' || answer.kind === 'unavailable')
        log.warn(
          { event: `archive_${answer.kind}`, assessment_id: id, why: answer.why, tries },
          'the archive has given no results',
        )
      return answer
    },
    async close() {
      closing.abort()
      await agent.destroy()
    },
  }
}

/** `.` and `..` are steps between folders in any URL, encoded or not; half of a surrogate pair is in none. */
const isAskable = (id: string) =>
  id !== '' && id.length <= idCharsMax && id !== '.' && id !== '..' && !id.includes('\0') && id.isWellFormed()

/** Undefined: too long. */
async function readBounded(body: AsyncIterable<Buffer>): Promise<string | undefined> {
  const parts: Buffer[] = []
  let bytes = 0
  // Leaving the loop closes the connection.
  for await (const part of body) {
    bytes += part.length
    if (bytes > bodyBytesMax) return undefined
    parts.push(part)
  }
  // Takes a byte order mark away, which JSON.parse does not.
  return new TextDecoder().decode(Buffer.concat(parts))
}

function readAnswer(text: string | undefined, id: string): ArchiveAnswer {
  if (text === undefined) return { kind: 'unusable', why: 'too_large' }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return { kind: 'unusable', why: 'not_json' }
  }
  const read = parseResults(json)
  if ('problem' in read) return { kind: 'unusable', why: read.problem }
  const { results } = read
  // Somebody's cache, or a mistake over there: these are not the results that were asked for.
  if (results.assessment_id !== null && results.assessment_id !== id)
    return { kind: 'unusable', why: 'another_assessment' }
  return { kind: 'found', results, userId: results.user_id }
}

function refused(status: number, afterMs: number | undefined): ArchiveAnswer {
  if (status === 404) return { kind: 'missing' }
  if (status === 401 || status === 403)
    return { kind: 'unavailable', why: 'key_refused', retryAfterMs: afterMs }
  if (status >= 500 || [408, 425, 429].includes(status))
    return { kind: 'unavailable', why: `status_${status}`, retryAfterMs: afterMs }
  return { kind: 'unusable', why: `status_${status}` }
}

/** A refused key is refused in a second, too. */
const mayChange = (answer: ArchiveAnswer): answer is Extract<ArchiveAnswer, { kind: 'unavailable' }> =>
  answer.kind === 'unavailable' && answer.why !== 'key_refused'

/** Seconds, or a date. */
function retryAfterMs(header: string | string[] | undefined, nowMs: number): number | undefined {
  const text = [header].flat()[0]?.trim() ?? ''
  const waitMs = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs
  return Number.isNaN(waitMs) ? undefined : Math.min(Math.max(Math.ceil(waitMs), 0), retryAfterMaxMs)
}
