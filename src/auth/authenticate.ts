/**
 * Door of auth: `request.caller`, from the `Authorization` header and nothing else.
 *
 * A scope is a hook on the routes that need it: `requireUser`, `requireService`. A key in a query string is
 * never looked at.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import { AppError } from '../errors.ts'
import { unauthorized, type TokenVerifier } from './tokens.ts'
import type { Caller, UserCaller } from './caller.ts'

export type { Caller, UserCaller } from './caller.ts'

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller | null
  }
  interface FastifyInstance {
    /** onRequest hook: the caller is a user. */
    requireUser: (request: FastifyRequest) => Promise<void>
    /** onRequest hook: the caller is another service. */
    requireService: (request: FastifyRequest) => Promise<void>
    /** onRequest hook: the caller is a user, or another service. */
    requireUserOrService: (request: FastifyRequest) => Promise<void>
    /** The caller, by whatever proves it; a failure counts against the address. */
    admit: (request: FastifyRequest, prove: () => Promise<Caller>) => Promise<void>
  }
}

/** Only a new configuration opens the scope, seconds: there is no use in asking often. */
const closedRetryS = 60

export const authenticate = fastifyPlugin(
  async (
    app,
    options: {
      verifier: TokenVerifier
      isServiceKey: ServiceKeyCheck
      /** Of a request whose sender is not known. @throws AppError rate_limited where there are too many. */
      countFailure: (request: FastifyRequest) => Promise<void>
    },
  ) => {
    const { verifier, isServiceKey, countFailure } = options
    app.decorateRequest('caller', null)

    async function admit(request: FastifyRequest, prove: () => Promise<Caller>): Promise<void> {
      try {
        request.caller = await prove()
      } catch (error) {
        if (error instanceof AppError && error.code === 'unauthorized') await countFailure(request)
        throw error
      }
    }

    app.decorate('admit', admit)
    app.decorate('requireUser', (request: FastifyRequest) =>
      admit(request, async () => {
        const credential = bearer(request)
        if (isServiceKey(credential) === true)
          throw new AppError('forbidden', { detail: 'This route answers users, not services.' })
        return verifier.verify(credential)
      }),
    )
    app.decorate('requireUserOrService', (request: FastifyRequest) =>
      admit(request, async () => {
        const credential = bearer(request)
        return isServiceKey(credential) === true ? { kind: 'service' } : verifier.verify(credential)
      }),
    )
    app.decorate('requireService', async (request: FastifyRequest) => {
      // Whoever asks and with whatever: without a key there is nobody to let in.
      if (isServiceKey('') === undefined)
        throw new AppError('service_scope_closed', {
          detail: 'This server has no service key, or one that is too short.',
          retryAfter: closedRetryS,
        })
      await admit(request, async () => {
        const credential = bearer(request)
        if (isServiceKey(credential) === true) return { kind: 'service' }
        await verifier.verify(credential)
        throw new AppError('forbidden', { detail: 'This route answers services, not users.' })
      })
    })
  },
  { name: 'authenticate' },
)

/** The user who asks. Only behind `requireUser`. */
export function userOf(request: FastifyRequest): UserCaller {
  if (request.caller?.kind !== 'user') throw new AppError('unauthorized')
  return request.caller
}

/** Undefined: no key is configured, the scope is closed. */
export type ServiceKeyCheck = (credential: string) => boolean | undefined

/** In constant time: what differs is compared by digest, every key every time. */
export function createServiceKeyCheck(keys: readonly string[], charsMin: number): ServiceKeyCheck {
  const digests = keys.filter((key) => key.length >= charsMin).map(digest)
  return (credential) => {
    if (digests.length === 0) return undefined
    const given = digest(credential)
    return digests.map((known) => timingSafeEqual(known, given)).includes(true)
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest()

function bearer(request: FastifyRequest): string {
  const header = request.headers.authorization
  if (header === undefined) throw unauthorized('Send "Authorization: Bearer <token>".')
  // Node takes the first of several; a gateway in front of us may have checked another one.
  if ((request.raw.headersDistinct['authorization'] ?? []).length > 1)
    throw unauthorized('Send one Authorization header.')
  const token = /^Bearer +([^\s]+) *$/i.exec(header)?.[1]
  if (token === undefined) throw unauthorized('The Authorization header is not "Bearer <token>".')
  return token
}
