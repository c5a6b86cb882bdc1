/** Public keys and key sets, and the key of other services: what verifies by which, and what happens without. */
import { createHmac, createSign, generateKeyPairSync, sign as signBytes, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { createTokenVerifier } from '../../src/auth/tokens.ts'
import { ask, expectProblem } from '../support/problem.ts'
import { jwtSecret, serviceKey, startService, type Service } from '../support/service.ts'

const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
}
const others = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
}
type Algorithm = keyof typeof pairs
const algorithms = ['RS256', 'ES256', 'EdDSA'] as const
const pemOf = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }).toString()
const payload = { sub: 'ann', exp: Math.floor(Date.now() / 1000) + 3_600 }

function token(header: { alg: string; kid?: string }, mac: (signed: Buffer) => Buffer): string {
  const signed = [header, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  return `${signed}.${mac(Buffer.from(signed)).toString('base64url')}`
}
const hmac = (secret: string) => (signed: Buffer) => createHmac('sha256', secret).update(signed).digest()
const bySignature = (key: KeyObject, hash: string | null) => (signed: Buffer) =>
  signBytes(hash, signed, key.asymmetricKeyType === 'ec' ? { key, dsaEncoding: 'ieee-p1363' } : key)

const signed = (alg: Algorithm, pair = pairs[alg], extra: object = {}) =>
  token({ alg, ...extra }, bySignature(pair.privateKey, alg === 'EdDSA' ? null : 'sha256'))

describe.each(algorithms)('a public key for %s', (alg) => {
  const pem = pemOf(pairs[alg].publicKey)
  const verifier = createTokenVerifier({ kind: 'public_key', pem }, {})
  const verify = async (odd: string) => (await verifier).verify(odd)

  it('verifies what its private key signed', async () => {
    expect(await verify(signed(alg))).toMatchObject({ userId: 'ann' })
  })

  it.each<[what: string, odd: string]>([
    ['signed by another key', signed(alg, others[alg])],
    ['HS256 by the public key as PEM', token({ alg: 'HS256' }, hmac(pem))],
    ['HS256 by the public key as PEM, trimmed', token({ alg: 'HS256' }, hmac(pem.trim()))],
    [
      'HS256 by the public key as DER',
      token({ alg: 'HS256' }, (bytes) =>
        createHmac('sha256', pairs[alg].publicKey.export({ type: 'spki', format: 'der' }))
          .update(bytes)
          .digest(),
      ),
    ],
    ['unsigned', token({ alg: 'none' }, () => Buffer.alloc(0))],
    [
      'signed by a key that it brings along',
      signed(alg, others[alg], { jwk: others[alg].publicKey.export({ format: 'jwk' }) }),
    ],
    [
      'signed by a key at a URL of its own',
      signed(alg, others[alg], { jku: 'http://127.0.0.1:1/jwks', kid: 'x' }),
    ],
    ...algorithms
      .filter((name) => name !== alg)
      .map((name): [string, string] => [`signed as ${name}`, signed(name)]),
  ])('refuses a token %s', async (_what, odd) => {
    await expect(verify(odd)).rejects.toMatchObject({ code: 'unauthorized' })
  })
})

it.each([
  ['PS256', 'sha256'],
  ['RS384', 'sha384'],
  ['RS512', 'sha512'],
])('an RSA key verifies RS256 only: %s is refused', async (alg, hash) => {
  const verifier = await createTokenVerifier({ kind: 'public_key', pem: pemOf(pairs.RS256.publicKey) }, {})
  const odd = token({ alg }, (bytes) => createSign(hash).update(bytes).sign(pairs.RS256.privateKey))
  await expect(verifier.verify(odd)).rejects.toMatchObject({ code: 'unauthorized' })
})

describe('a key set at a URL', () => {
  const jwks = {
    keys: [
      ...algorithms.map((alg) => ({
        ...pairs[alg].publicKey.export({ format: 'jwk' }),
        kid: alg,
        alg,
        use: 'sig',
      })),
      { kty: 'oct', k: Buffer.from('a-secret-that-does-not-belong-here').toString('base64url'), kid: 'oct' },
    ],
  }
  const serve = async (listener: RequestListener): Promise<{ url: string; server: Server }> => {
    const server = createServer(listener).listen(0, '127.0.0.1')
    onTestFinished(async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })
    await once(server, 'listening')
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`, server }
  }
  const serveKeys = (keys: unknown) => serve((_request, response) => void response.end(JSON.stringify(keys)))
  const verifierAt = (url: string) => createTokenVerifier({ kind: 'jwks', url }, {})

  it.each(algorithms)('verifies %s by the key that the token names', async (alg) => {
    const verifier = await verifierAt((await serveKeys(jwks)).url)
    expect(await verifier.verify(signed(alg, pairs[alg], { kid: alg }))).toMatchObject({ userId: 'ann' })
  })

  it('verifies a token that names no key, while two of a kind are in use', async () => {
    const [rsa] = jwks.keys
    const other = { ...others.RS256.publicKey.export({ format: 'jwk' }), kid: 'new', alg: 'RS256' }
    const verifier = await verifierAt((await serveKeys({ keys: [other, rsa] })).url)
    expect(await verifier.verify(signed('RS256'))).toMatchObject({ userId: 'ann' })
  })

  it.each<[what: string, odd: string]>([
    ['by a key of another name', signed('RS256', pairs.RS256, { kid: 'nobody' })],
    ['by another key under a known name', signed('RS256', others.RS256, { kid: 'RS256' })],
    [
      'as HS256 by a secret in the set',
      token({ alg: 'HS256', kid: 'oct' }, hmac('a-secret-that-does-not-belong-here')),
    ],
    ['as ES256 under the name of the RSA key', signed('ES256', pairs.ES256, { kid: 'RS256' })],
    ['not at all', 'garbage'],
  ])('refuses a token signed %s', async (_what, odd) => {
    const verifier = await verifierAt((await serveKeys(jwks)).url)
    await expect(verifier.verify(odd)).rejects.toMatchObject({ code: 'unauthorized' })
  })

  it.each<[what: string, listener: RequestListener]>([
    ['answers 500', (_request, response) => void response.writeHead(500).end()],
    ['answers 404', (_request, response) => void response.writeHead(404).end()],
    ['redirects', (_request, response) => void response.writeHead(302, { location: '/elsewhere' }).end()],
    ['answers 204', (_request, response) => void response.writeHead(204).end()],
    ['answers with a page', (_request, response) => void response.end('<!doctype html>')],
    ['answers with JSON that is no key set', (_request, response) => void response.end('{"keys":"none"}')],
    [
      'cuts the answer short',
      (_request, response) => void response.writeHead(200, { 'content-length': 99 }).end('{'),
    ],
    ['resets', (request) => void request.socket.resetAndDestroy()],
    ['never answers', () => undefined],
    ['never ends its answer', (_request, response) => void response.write('{"keys":[')],
  ])('is no verdict on a token while it %s: 503', async (_what, listener) => {
    const verifier = await verifierAt((await serve(listener)).url)
    await expect(verifier.verify(signed('RS256'))).rejects.toMatchObject({
      code: 'keys_unavailable',
      status: 503,
    })
  })

  it('lets users in again as soon as it is back', async () => {
    let up = false
    const { url } = await serve((_request, response) => {
      if (up) response.end(JSON.stringify(jwks))
      else response.writeHead(503).end()
    })
    const verifier = await verifierAt(url)
    await expect(verifier.verify(signed('ES256'))).rejects.toMatchObject({ code: 'keys_unavailable' })
    up = true
    expect(await verifier.verify(signed('ES256'))).toMatchObject({ userId: 'ann' })
  })

  it('away: the service answers 503 and says when to come again', async () => {
    const service = await startService({
      resolved: { tokenKeys: { kind: 'jwks', url: 'http://127.0.0.1:9/jwks' } },
    })
    onTestFinished(() => service.close())
    const path = '/conversations'
    const answer = await ask(service.origin, { path, token: signed('RS256') })
    expectProblem(answer, { status: 503, code: 'keys_unavailable', path })
  })
})

describe('the scope of services', () => {
  const path = '/health?full=true'
  const rotated = 'the-key-before-that-one-0123456789-01'
  const user = token({ alg: 'HS256' }, hmac(jwtSecret))
  let service: Service
  beforeAll(async () => {
    service = await startService({ env: { INTERNAL_SERVICE_KEY: `${serviceKey}, ${rotated},tooshort` } })
  })
  afterAll(() => service.close())

  it.each([serviceKey, rotated])('the key %s opens it', async (key) => {
    expect((await ask(service.origin, { path, token: key })).status).toBe(200)
  })

  it.each<[what: string, credential: string | undefined]>([
    ['no credential', undefined],
    ['a wrong key', 'x'.repeat(serviceKey.length)],
    ['a key cut short', serviceKey.slice(0, -1)],
    ['a key in another case', serviceKey.toUpperCase()],
    ['a key and more', `${serviceKey}x`],
    ['all keys at once', `${serviceKey},${rotated}`],
    ['a key that is configured but too short', 'tooshort'],
    ['a token with a defect', `${user}x`],
  ])('%s is 401', async (_what, credential) => {
    const answer = await ask(service.origin, { path, token: credential })
    expectProblem(answer, { status: 401, code: 'unauthorized', path })
    expect(answer.headers.get('www-authenticate')).toBe('Bearer')
  })

  it("a user's token is 403", async () => {
    expectProblem(await ask(service.origin, { path, token: user }), { status: 403, code: 'forbidden', path })
  })

  it.each(['key', 'token', 'service_key', 'authorization'])(
    'a key in the query, as %s, is not looked at',
    async (name) => {
      expectProblem(await ask(service.origin, { path: `${path}&${name}=${serviceKey}` }), {
        status: 401,
        code: 'unauthorized',
        path,
      })
    },
  )

  it.each(['x-internal-service', 'x-service-key', 'x-internal-service-key', 'x-forwarded-for'])(
    'no header %s opens it',
    async (name) => {
      const headers = { [name]: name === 'x-forwarded-for' ? '127.0.0.1' : serviceKey }
      expectProblem(await ask(service.origin, { path, headers }), { status: 401, code: 'unauthorized', path })
    },
  )

  const uuid = '0198c0de-0000-7000-8000-000000000000'
  it.each<[method: string, path: string]>([
    ['GET', '/conversations'],
    ['POST', '/conversations'],
    ['GET', `/conversations/${uuid}`],
    ['PUT', `/conversations/${uuid}`],
    ['PATCH', `/conversations/${uuid}`],
    ['DELETE', `/conversations/${uuid}`],
    ['GET', `/conversations/${uuid}/tree`],
    ['POST', `/conversations/${uuid}/fork`],
    ['GET', `/conversations/${uuid}/messages`],
    ['POST', `/conversations/${uuid}/messages`],
    ['GET', `/conversations/${uuid}/messages/${uuid}`],
    ['POST', `/conversations/${uuid}/messages/${uuid}/regenerate`],
  ])('%s %s answers users: a service key is 403', async (method, route) => {
    const answer = await ask(service.origin, { method, path: route, token: serviceKey })
    expectProblem(answer, { status: 403, code: 'forbidden', path: route })
  })
})

describe.each<[what: string, key: string]>([
  ['unset', ''],
  ['shorter than 32 characters', 'x'.repeat(31)],
  ['a list of short ones', `${'x'.repeat(31)},${'y'.repeat(31)}`],
])('the scope of services with a key that is %s is closed', (_what, key) => {
  let service: Service
  beforeAll(async () => {
    service = await startService({ env: { INTERNAL_SERVICE_KEY: key } })
  })
  afterAll(() => service.close())
  const path = '/health?full=true'

  it.each<[what: string, credential: string | undefined]>([
    ['nobody', undefined],
    ['a user', token({ alg: 'HS256' }, hmac(jwtSecret))],
    ['whoever holds the short key', 'x'.repeat(31)],
    ['whoever holds both', `${'x'.repeat(31)},${'y'.repeat(31)}`],
    ['whoever holds a long one', serviceKey],
  ])('to %s: 503', async (_who, credential) => {
    expectProblem(await ask(service.origin, { path, token: credential }), {
      status: 503,
      code: 'service_scope_closed',
      path,
    })
  })

  it('and what is public stays open', async () => {
    expect((await ask(service.origin, { path: '/health' })).status).toBe(200)
  })
})
