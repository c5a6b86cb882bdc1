/**
 * Named limits: how often a user may do what costs something, and an address may fail to prove who it is.
 *
 * A limit is taken before what it counts is done, and given back where nothing new came of it: a request that fails, or
 * a repeat of one that was counted before. A repeat is let through also when the limit is used up, since its answer
 * exists and is paid for.
 */
import { createHash } from 'node:crypto'
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { userOf, type UserCaller } from '../auth/authenticate.ts'
import { AppError } from '../errors.ts'
import type { LimitStore } from './rate-limit-store.ts'

const hourMs = 3_600_000

const windows = {
  messages: { windowMs: hourMs, detail: 'You have sent as many messages as an hour allows.' },
  conversations: { windowMs: 24 * hourMs, detail: 'You have made as many conversations as a day allows.' },
  free_generations: {
    windowMs: 60_000,
    detail: 'You have asked free models for as many answers as a minute allows.',
  },
  tickets: {
    windowMs: 60_000,
    detail: 'You have asked for as many tickets, or opened as many sockets, as a minute allows.',
  },
  bad_tokens: {
    windowMs: 60_000,
    detail: 'Too many requests from this address could not prove who sent them.',
  },
} as const

export type LimitName = keyof typeof windows

export interface Counting<T> {
  act: () => Promise<T>
  /** Whether something was done that counts, or only told again. */
  counts: (made: T) => boolean
  /** Asked where a limit is used up: was this very request accepted before? Then `act` tells its answer again. */
  repeats: () => Promise<boolean>
}

export interface RateLimits {
  /**
   * Acts within these limits, and sets the headers of the one that is nearest to being used up.
   *
   * @param names those with the longest window first: a refusal by it says more.
   * @throws AppError rate_limited, and whatever `act` throws.
   */
  within<T>(
    request: FastifyRequest,
    reply: FastifyReply,
    names: readonly LimitName[],
    counting: Counting<T>,
  ): Promise<T>
  /** Counts a request whose sender is not known. @throws AppError rate_limited. */
  countBadToken(request: FastifyRequest): Promise<void>
}

/** A limit as it stands after it was asked. */
interface Standing {
  name: LimitName
  key: string
  max: number
  remaining: number
  /** Whole, rounded up. */
  resetS: number
  endsAtMs: number
  exceeded: boolean
}

export async function createRateLimits(
  app: FastifyInstance,
  options: {
    /** 0: no limit. */
    max: Readonly<Record<LimitName, number>>
    store: LimitStore
  },
): Promise<RateLimits> {
  const { max, store } = options
  await app.register(rateLimit, { global: false, store: pluginStore(store) })

  const limits = new Map<LimitName, ReturnType<typeof app.createRateLimit>>()
  for (const name of Object.keys(windows) as LimitName[]) {
    if (max[name] === 0) continue
    const who = name === 'bad_tokens' ? addressOf : createUserKeys()
    const keyGenerator = (request: FastifyRequest) => `${name}:${who(request)}`
    limits.set(
      name,
      app.createRateLimit({ max: max[name], timeWindow: windows[name].windowMs, keyGenerator }),
    )
  }

  /** @returns undefined where there is no such limit. */
  async function take(request: FastifyRequest, name: LimitName): Promise<Standing | undefined> {
    const asked = await limits.get(name)?.(request)
    if (asked === undefined || asked.isAllowed) return undefined
    const { key, remaining, ttl, ttlInSeconds, isExceeded } = asked
    return {
      name,
      key,
      max: asked.max,
      remaining,
      resetS: Math.max(1, ttlInSeconds),
      endsAtMs: performance.now() + ttl,
      exceeded: isExceeded,
    }
  }

  /** What was taken in a window that has ended since is gone with it. */
  async function giveBack(taken: readonly Standing[]): Promise<void> {
    const open = taken.filter(({ endsAtMs }) => performance.now() < endsAtMs)
    await Promise.all(open.map(({ key }) => store.giveBack(key)))
  }

  return {
    async within(request, reply, names, { act, counts, repeats }) {
      const taken: Standing[] = []
      for (const name of names) {
        const standing = await take(request, name)
        if (standing === undefined) continue
        if (standing.exceeded) {
          await giveBack(taken)
          if (!(await repeats())) throw refusal(standing)
          const made = await act()
          void reply.headers(headersOf(standing))
          return made
        }
        taken.push(standing)
      }
      let counted = false
      try {
        const made = await act()
        counted = counts(made)
        const [nearest] = taken.toSorted((one, other) => one.remaining - other.remaining)
        if (nearest !== undefined)
          void reply.headers(headersOf(counted ? nearest : { ...nearest, remaining: nearest.remaining + 1 }))
        return made
      } finally {
        if (!counted) await giveBack(taken)
      }
    },
    async countBadToken(request) {
      const standing = await take(request, 'bad_tokens')
      if (standing?.exceeded === true) throw refusal(standing)
    },
  }
}

const headersOf = ({ max, remaining, resetS }: Standing): Record<string, string> => ({
  'ratelimit-limit': String(max),
  'ratelimit-remaining': String(remaining),
  'ratelimit-reset': String(resetS),
})

const refusal = (standing: Standing): AppError =>
  new AppError('rate_limited', {
    detail: windows[standing.name].detail,
    retryAfter: standing.resetS,
    headers: headersOf(standing),
  })

/** The plugin asks a store of its own shape, which it makes itself. */
function pluginStore(store: LimitStore) {
  return class PluginStore {
    incr(
      key: string,
      callback: (error: Error | null, result?: { current: number; ttl: number }) => void,
      windowMs: number,
      max: number,
    ): void {
      store.take(key, windowMs, max).then(
        ({ count, leftMs }) => callback(null, { current: count, ttl: leftMs }),
        (error: unknown) => callback(error instanceof Error ? error : new Error('not counted')),
      )
    }

    child(): this {
      return this
    }
  }
}

/** Which user it is goes into no other system: a digest does. */
function createUserKeys(): (request: FastifyRequest) => string {
  // A caller is remembered with its token.
  const known = new WeakMap<UserCaller, string>()
  return (request) => {
    const caller = userOf(request)
    const key = known.get(caller) ?? digest(caller.userId)
    known.set(caller, key)
    return key
  }
}

/** An IPv6 network counts as one address: whoever has one has all of it. */
const addressOf = (request: FastifyRequest) => digest(rateLimit.normalizeIP(request.ip))

const digest = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, 32)
