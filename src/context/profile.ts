/**
 * Door of context: what the auth service knows of a person (`GET /api/users/:id/profile`), as plain facts for a model.
 *
 * Of one user: unknown → asked for (one request, however many wait) → known for `keptMs.found`, or not known for
 * `keptMs.nothing`, since a service that is away comes back soon → unknown again.
 *
 * Promises: `find` never rejects and never waits longer than `waitMs`, since nobody's answer may hang on this; what comes
 * later is there for the next question. Only plain facts are kept, and none that identifies a person or lets one in.
 */
import { Agent, request } from 'undici'
import type { Logger } from '../logging.ts'
import { pickFacts } from './profile-facts.ts'

export type Profile = Readonly<Record<string, unknown>>

export interface Profiles {
  /** Undefined: not known, or not in time. */
  find: (userId: string) => Promise<Profile | undefined>
  /** What is being asked for is given up. */
  close: () => Promise<void>
}

export interface ProfilesOptions {
  /** With or without a path of its own. */
  baseUrl: string
  serviceKey: string | undefined
  log: Logger
  nowMs: () => number
  /** The longest that a `find` takes, ms. */
  waitMs?: number
  /** Users that are known at once; of more, the one that was asked about longest ago is forgotten. */
  usersMax?: number
}

/** For one request, ms: it reads one row, and by then nobody waits for it any more. */
const timeoutMs = 2_000
/** A person who waits for an answer does not notice this, ms. */
const defaultWaitMs = 250
/** How long an answer holds, ms. */
const keptMs = { found: 300_000, nothing: 30_000 }
/** About 10 MB of profiles. */
const defaultUsersMax = 10_000
/** A profile is about a kilobyte. */
const bodyBytesMax = 64 * 1024
const socketsMax = 20
/** In hand at once, those that wait for a socket included: whoever comes beyond goes without. */
const askedMax = 500
/** No longer one is a user's, UTF-16 units. */
const idCharsMax = 255

/** Undefined where there is no such user. */
type Found = Profile | undefined

export function createProfiles(options: ProfilesOptions): Profiles {
  const { baseUrl, serviceKey, log, nowMs } = options
  const { waitMs = defaultWaitMs, usersMax = defaultUsersMax } = options
  const agent = new Agent({ connect: { timeout: timeoutMs }, connections: socketsMax, allowH2: false })
  const closing = new AbortController()
  const root = `${baseUrl.replace(/\/+$/, '')}/api/users/`
  const headers = {
    accept: 'application/json',
    ...(serviceKey !== undefined && serviceKey !== '' && { authorization: `Bearer ${serviceKey}` }),
  }
  /** Oldest first. */
  const known = new Map<string, { profile: Found; untilMs: number }>()
  const asked = new Map<string, Promise<Found>>()
  let toldAway = false

  function ask(userId: string): Promise<Found> {
    const asking = fetchProfile(userId).finally(() => asked.delete(userId))
    asked.set(userId, asking)
    return asking
  }

  async function fetchProfile(userId: string): Promise<Found> {
    let profile: Found
    try {
      profile = await readProfile(`${root}${encodeURIComponent(userId)}/profile`)
      if (toldAway) log.info({ event: 'profiles_back' }, 'the auth service tells of users again')
      toldAway = false
    } catch (error) {
      if (closing.signal.aborted) return undefined
      if (!toldAway)
        log.warn({ event: 'profiles_away', err: error }, 'users’ profiles are not known: answers go without')
      toldAway = true
    }
    keep(userId, profile)
    return profile
  }

  /** @throws where it cannot be told whether there is one. */
  async function readProfile(url: string): Promise<Found> {
    // Redirects are not followed: one could take our key to another host.
    const { statusCode, body } = await request(url, {
      dispatcher: agent,
      headers,
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]),
    })
    const text = await readBounded(body)
    if (statusCode === 404) return undefined
    if (statusCode !== 200) throw new Error(`the auth service answered with status ${statusCode}`)
    return pickFacts(parse(text))
  }

  function keep(userId: string, profile: Found): void {
    known.delete(userId)
    const [oldest] = known.keys()
    if (known.size >= usersMax && oldest !== undefined) known.delete(oldest)
    known.set(userId, {
      profile,
      untilMs: nowMs() + (profile === undefined ? keptMs.nothing : keptMs.found),
    })
  }

  return {
    async find(userId) {
      const kept = known.get(userId)
      if (kept !== undefined && nowMs() < kept.untilMs) return kept.profile
      const pending = asked.get(userId)
      if (pending === undefined && (asked.size >= askedMax || closing.signal.aborted || !isAskable(userId)))
        return undefined
      return within(waitMs, pending ?? ask(userId))
    },
    async close() {
      closing.abort()
      await agent.destroy()
      await Promise.allSettled(asked.values())
    },
  }
}

/** A name that a URL would read as a place of its own is nobody's. */
const isAskable = (userId: string): boolean =>
  userId.length > 0 && userId.length <= idCharsMax && userId.isWellFormed() && !/^\.{1,2}$/.test(userId)

async function readBounded(body: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  // Leaving the loop closes the connection.
  for await (const part of body) {
    bytes += part.length
    if (bytes > bodyBytesMax) throw new Error(`a profile of more than ${bodyBytesMax} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Its own message would repeat what stands there.
    throw new Error('a profile that is no JSON')
  }
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), ms)
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
