/**
 * Door of auth, for those who make verifiers and tokens: JSON Web Tokens: verifying them, and minting them for development.
 *
 * Which algorithms count is configuration, never the token's own word: a shared secret means HS256 and nothing
 * else, a public key or a key set means signatures and nothing else. Every defect of a token is `unauthorized`.
 */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  importSPKI,
  jwtVerify,
  SignJWT,
  type CryptoKey,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  type JWTPayload,
} from 'jose'
import { AppError } from '../errors.ts'
import type { UserCaller } from './caller.ts'

export type TokenKeys =
  | { kind: 'secrets'; secrets: readonly string[] }
  | { kind: 'public_key'; pem: string }
  | { kind: 'jwks'; url: string }

export interface TokenVerifier {
  /** @throws AppError `unauthorized`, or `keys_unavailable` where a key set cannot be fetched. */
  verify(token: string): Promise<UserCaller>
}

/** Libraries decode more than the three parts of base64url that a token is. */
const compact = /^[\w-]+\.[\w-]+\.[\w-]+$/
const signatureAlgorithms = ['RS256', 'ES256', 'EdDSA']
const jwksTimeoutMs = 1_500
const subCharsMax = 255
/** A signature found right is not checked again for so long, ms: what a key that was withdrawn is still good for. */
const rememberedMs = 30_000
/** Later than this is never: the year 9999, which every date can say. */
const latestMs = Date.UTC(9999, 0)
/** Verified tokens remembered at most: a few MB. */
const rememberedMax = 10_000

export async function createTokenVerifier(
  keys: TokenKeys,
  expected: { issuer?: string | undefined; audience?: string | undefined },
): Promise<TokenVerifier> {
  const options: JWTVerifyOptions = {
    algorithms: keys.kind === 'secrets' ? ['HS256'] : signatureAlgorithms,
    requiredClaims: ['sub', 'exp'],
    ...(expected.issuer !== undefined && { issuer: expected.issuer }),
    ...(expected.audience !== undefined && { audience: expected.audience }),
  }
  const candidates = await loadKeys(keys)

  async function payloadOf(token: string): Promise<JWTPayload> {
    let failure: unknown
    for (const candidate of compact.test(token) ? candidates : []) {
      try {
        return await verifyBy(candidate, token, options)
      } catch (error) {
        failure = error
        if (error instanceof KeySetUnreachable)
          throw new AppError('keys_unavailable', {
            detail: 'The keys that sign tokens cannot be fetched at the moment.',
            retryAfter: 5,
            cause: error,
          })
        // Only another key can mend a wrong signature: during a rotation the next one may fit.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) break
      }
    }
    throw unauthorized(
      failure instanceof errors.JWTExpired ? 'This token has expired.' : 'This token is not valid here.',
      failure,
    )
  }

  const remembered = new Map<string, { caller: UserCaller; untilMs: number }>()

  function remember(token: string, caller: UserCaller, exp: number): void {
    // In the order of coming: the first is the one that is forgotten soonest.
    const [oldest] = remembered.size < rememberedMax ? [] : remembered.keys()
    if (oldest !== undefined) remembered.delete(oldest)
    remembered.set(token, { caller, untilMs: Math.min(Date.now() + rememberedMs, exp * 1000) })
  }

  return {
    async verify(token) {
      const known = remembered.get(token)
      if (known !== undefined) {
        if (Date.now() < known.untilMs) return known.caller
        remembered.delete(token)
      }
      const payload = await payloadOf(token)
      const { sub, tier, name } = payload as { sub?: unknown; tier?: unknown; name?: unknown }
      if (
        typeof sub !== 'string' ||
        sub === '' ||
        [...sub].length > subCharsMax ||
        sub.includes('\0') ||
        !sub.isWellFormed()
      )
        throw unauthorized(`This token's "sub" is not a text of 1 to ${subCharsMax} characters.`)
      const caller: UserCaller = Object.freeze({
        kind: 'user',
        userId: sub,
        tier: tier === 'premium' ? 'premium' : 'free',
        name: typeof name === 'string' ? name : undefined,
        validUntil: Math.min((payload.exp ?? 0) * 1000, latestMs),
      })
      remember(token, caller, payload.exp ?? 0)
      return caller
    },
  }
}

export function unauthorized(detail: string, cause?: unknown): AppError {
  return new AppError('unauthorized', { detail, headers: { 'www-authenticate': 'Bearer' }, cause })
}

/** A token as our own verifier accepts it. For development and for operators who hold the secret. */
export async function mintToken(
  secret: string,
  claims: {
    sub: string
    tier?: string | undefined
    hours: number
    issuer?: string | undefined
    audience?: string | undefined
  },
): Promise<string> {
  const token = new SignJWT({ ...(claims.tier !== undefined && { tier: claims.tier }) })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(claims.sub)
    .setIssuedAt()
    .setExpirationTime(Math.floor(Date.now() / 1000 + claims.hours * 3600))
  if (claims.issuer !== undefined) token.setIssuer(claims.issuer)
  if (claims.audience !== undefined) token.setAudience(claims.audience)
  return token.sign(new TextEncoder().encode(secret))
}

class KeySetUnreachable extends Error {}

async function verifyBy(key: VerificationKey, token: string, options: JWTVerifyOptions): Promise<JWTPayload> {
  if (typeof key !== 'function') return (await jwtVerify(token, key, options)).payload
  try {
    return (await jwtVerify(token, key, options)).payload
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    // The token does not say which, and the set has several of its kind, as during a rotation.
    let failure: unknown = error
    for await (const one of error) {
      try {
        return (await jwtVerify(token, one, options)).payload
      } catch (mismatch) {
        failure = mismatch
        if (!(mismatch instanceof errors.JWSSignatureVerificationFailed)) break
      }
    }
    throw failure
  }
}

type VerificationKey = Uint8Array | CryptoKey | JWTVerifyGetKey

async function loadKeys(keys: TokenKeys): Promise<VerificationKey[]> {
  switch (keys.kind) {
    case 'secrets':
      return keys.secrets.map((secret) => new TextEncoder().encode(secret))
    case 'public_key':
      return [await importAnySpki(keys.pem)]
    case 'jwks':
      return [
        createRemoteJWKSet(new URL(keys.url), { timeoutDuration: jwksTimeoutMs, [customFetch]: fetchKeySet }),
      ]
    default:
      return keys satisfies never
  }
}

/** Whatever keeps a key set from being read says nothing about a token: its body is read and looked at here. */
async function fetchKeySet(url: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(url, init)
    const body = await response.text()
    if (response.status !== 200) throw new Error(`HTTP ${response.status}`)
    createLocalJWKSet(JSON.parse(body) as JSONWebKeySet)
    return new Response(body)
  } catch (error) {
    throw new KeySetUnreachable('no key set', { cause: error })
  }
}

/** A PEM does not say its algorithm: the one under which it can be imported is its own. */
async function importAnySpki(pem: string): Promise<CryptoKey> {
  for (const algorithm of signatureAlgorithms) {
    const key = await importSPKI(pem, algorithm).catch(() => undefined)
    if (key !== undefined) return key
  }
  throw new Error(`JWT_PUBLIC_KEY is no key for ${signatureAlgorithms.join(', ')}`)
}
