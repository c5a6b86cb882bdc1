/**
 * Door of notifications, to addresses that strangers chose: one POST, to the internet and nowhere else.
 *
 * A URL is a way into our own network for whoever may name one. So the connection itself is guarded: names are
 * resolved once, what the resolver says is checked, and exactly that is connected to; a name that changes its mind in
 * between changes nothing. Redirects are not followed. Nothing of what the other side says is kept but its status and
 * how much patience it asks for, and all of it is over within `timeoutMs`.
 */
import { Resolver } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { Agent, buildConnector, request, type Dispatcher } from 'undici'
import type { SendOutcome } from './channel.ts'
import { isPublicAddress } from './public-address.ts'

export interface GuardedPost {
  /** @param goneStatuses how this kind of target says that it is no more. */
  (posted: Posted, signal: AbortSignal): Promise<SendOutcome>
  close(): Promise<void>
}

export interface Posted {
  url: string
  headers: Record<string, string>
  body: string | Buffer
  goneStatuses: readonly number[]
}

export interface GuardOptions {
  /** Also plain http, and addresses of this machine and its networks: in development, or where all targets are ours. */
  allowPrivate: boolean
  /** Instead of the public authorities: of the certificates that targets show. */
  ca?: string | undefined
  /** Instead of the system's. */
  nameServers?: readonly string[] | undefined
  /** Instead of what `allowPrivate` says: which addresses may be connected to. */
  mayConnect?: ((address: string) => boolean) | undefined
  timeoutMs?: number | undefined
  now?: (() => number) | undefined
}

/** All that a target gets, ms: waiting for a slow one keeps others waiting. */
const defaultTimeoutMs = 10_000
const connectMs = 5_000
/** A name server gets this, ms, and is asked twice: together less than a connection gets. */
const resolveMs = 2_000
const resolveTries = 2
/** One of several addresses of a target gets this, ms, before the next one is tried. */
const addressMs = 1_000
/** Connections to one origin at once: no more deliveries than that are sent to one of them at a time. */
const socketsPerOriginMax = 8
/** A connection waits this long for the next delivery, ms, whatever the other side proposes. */
const keptMs = 4_000
/** What is read of an answer, bytes, and how long, ms: its status has said it all, but a connection read to its end can be used again. */
const answerBytesMax = 64 * 1024
const drainMs = 1_000
/** Patience is bounded, ms: who asks for more is asked again before that. */
const retryAfterMaxMs = 6 * 3_600_000

export function createGuardedPost(options: GuardOptions): GuardedPost {
  const { allowPrivate, ca, timeoutMs = defaultTimeoutMs, now = Date.now } = options
  const mayConnect = options.mayConnect ?? (allowPrivate ? () => true : isPublicAddress)
  const connectSocket = buildConnector({
    timeout: connectMs,
    allowH2: false,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: addressMs,
    // Names of inner networks live in hosts files and search domains, which only the system's own way knows.
    ...(!allowPrivate && { lookup: guardedLookup(mayConnect, options.nameServers) }),
    ...(ca !== undefined && { ca }),
  })
  const agent = new Agent({
    connections: socketsPerOriginMax,
    pipelining: 1,
    keepAliveTimeout: keptMs,
    keepAliveMaxTimeout: keptMs,
    connect(target, connected) {
      // Nobody looks up what is an address already.
      if (isIP(target.hostname) !== 0 && !mayConnect(target.hostname))
        queueMicrotask(() => connected(new AddressNotAllowed(), null))
      else connectSocket(target, connected)
    },
  })

  async function post(posted: Posted, signal: AbortSignal): Promise<SendOutcome> {
    const why = urlProblem(URL.parse(posted.url), allowPrivate)
    if (why !== undefined) return { kind: 'failed', why }
    const deadline = AbortSignal.timeout(timeoutMs)
    const over = AbortSignal.any([signal, deadline])
    try {
      const { statusCode, headers, body } = await request(posted.url, {
        dispatcher: agent,
        method: 'POST',
        headers: { 'user-agent': 'Rivulet', ...posted.headers },
        body: posted.body,
        signal: over,
        // The deadline is narrower.
        headersTimeout: 0,
        bodyTimeout: 0,
      })
      await drain(body, over)
      return outcomeOf(statusCode, posted.goneStatuses, retryAfterMs(headers['retry-after'], now()))
    } catch (error) {
      if (isNotAllowed(error)) return { kind: 'failed', why: 'address_not_allowed' }
      if (signal.aborted) return { kind: 'retry', why: 'stopped' }
      return { kind: 'retry', why: deadline.aborted || isTimeout(error) ? 'timeout' : 'unreachable' }
    }
  }

  return Object.assign(post, { close: () => agent.destroy() })
}

/**
 * What is wrong with a URL before anybody is asked for its address: for the route that takes it, too.
 *
 * @returns a code, or undefined.
 */
export function targetProblem(url: string, allowPrivate: boolean): string | undefined {
  const parsed = URL.parse(url)
  const address = parsed?.hostname.replace(/^\[|\]$/g, '') ?? ''
  const isForbidden = !allowPrivate && isIP(address) !== 0 && !isPublicAddress(address)
  return urlProblem(parsed, allowPrivate) ?? (isForbidden ? 'address_not_allowed' : undefined)
}

function urlProblem(url: URL | null, allowPrivate: boolean): string | undefined {
  const isAllowed =
    url !== null &&
    (url.protocol === 'https:' || (allowPrivate && url.protocol === 'http:')) &&
    // They would end up in logs, and nobody needs them: deliveries are signed.
    url.username === '' &&
    url.password === ''
  return isAllowed ? undefined : 'url_not_allowed'
}

class AddressNotAllowed extends Error {
  override name = 'AddressNotAllowed'
}

/** Names are asked of the name servers, not of the system: its way blocks a thread of few for as long as they please. */
function guardedLookup(
  mayConnect: (address: string) => boolean,
  nameServers: readonly string[] | undefined,
): LookupFunction {
  const resolver = new Resolver({ timeout: resolveMs, tries: resolveTries })
  if (nameServers !== undefined) resolver.setServers(nameServers)
  return (hostname, options, found) => {
    const answers = [resolver.resolve4(hostname), resolver.resolve6(hostname)]
    void Promise.allSettled(answers).then((settled) => {
      const known = settled.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
      const allowed = known.filter(mayConnect)
      const [first] = allowed
      if (first === undefined)
        found(known.length > 0 ? new AddressNotAllowed() : new Error('the name has no address'), '')
      else if (options.all === true)
        found(
          null,
          allowed.map((address) => ({ address, family: isIP(address) })),
        )
      else found(null, first, isIP(first))
    })
  }
}

async function drain(body: Dispatcher.ResponseData['body'], over: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([over, AbortSignal.timeout(drainMs)])
  await body.dump({ limit: answerBytesMax, signal }).catch(() => undefined)
}

function outcomeOf(
  status: number,
  goneStatuses: readonly number[],
  afterMs: number | undefined,
): SendOutcome {
  if (status >= 200 && status < 300) return { kind: 'sent' }
  if (goneStatuses.includes(status)) return { kind: 'gone', why: 'gone' }
  if (status === 429) return { kind: 'retry', why: 'rate_limited', afterMs }
  if (status === 408 || status === 425 || status >= 500) return { kind: 'retry', why: 'unavailable', afterMs }
  if (status < 400) return { kind: 'failed', why: 'redirected' }
  return { kind: 'failed', why: status === 413 ? 'too_large' : 'refused' }
}

/** Seconds, or a date. */
function retryAfterMs(header: string | string[] | undefined, nowMs: number): number | undefined {
  const text = (Array.isArray(header) ? header[0] : header)?.trim() ?? ''
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs
  return Number.isNaN(waitMs) ? undefined : Math.min(Math.max(waitMs, 0), retryAfterMaxMs)
}

const isNotAllowed = (error: unknown) =>
  error instanceof AddressNotAllowed || (error instanceof Error && error.cause instanceof AddressNotAllowed)

const isTimeout = (error: unknown) =>
  error instanceof Error &&
  'code' in error &&
  typeof error.code === 'string' &&
  /TIMEOUT|TIMEDOUT/.test(error.code)
