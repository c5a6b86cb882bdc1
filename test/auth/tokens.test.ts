/** Who gets in by a token: nobody with a defect in it, and everybody whose `sub` is odd but whole. */
import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PAID_MODEL_ID } from '../../src/embedded/demo-model.ts'
import { createClient } from '../support/client.ts'
import { ask, expectProblem, sendRaw } from '../support/problem.ts'
import { jwtSecret, startService, type Service } from '../support/service.ts'

const secondSecret = 'the-secret-before-that-one-0123456789'
const inAnHour = Math.floor(Date.now() / 1000) + 3_600
const good = { sub: 'ann', exp: inAnHour }

let service: Service

beforeAll(async () => {
  service = await startService({
    resolved: { tokenKeys: { kind: 'secrets', secrets: [jwtSecret, secondSecret] } },
  })
})
afterAll(() => service.close())

/** Strings are taken as they are: tokens need not hold JSON. */
function sign(
  payload: unknown,
  header: unknown = { alg: 'HS256' },
  secret = jwtSecret,
  hash = 'sha256',
): string {
  const part = (value: unknown) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
  const signed = `${part(header)}.${part(payload)}`
  return `${signed}.${createHmac(hash, secret).update(signed).digest('base64url')}`
}

const path = '/conversations'
const withHeader = (authorization: string | undefined, at = service) =>
  ask(at.origin, { path, headers: { authorization } })

async function expectRefused(authorization: string | undefined, at = service): Promise<void> {
  const answer = await withHeader(authorization, at)
  expectProblem(answer, { status: 401, code: 'unauthorized', path })
  expect(answer.headers.get('www-authenticate')).toBe('Bearer')
}

describe('a token with a valid signature and a defect is 401', () => {
  const { sub, exp } = good
  it.each<[what: string, payload: unknown, header?: unknown]>([
    ['nbf in a minute', { ...good, nbf: exp - 3_540 }],
    ['nbf as a string', { ...good, nbf: '0' }],
    ['exp a minute ago', { sub, exp: exp - 3_660 }],
    ['exp = 0', { sub, exp: 0 }],
    ['exp as a string', { sub, exp: String(exp) }],
    ['exp = null', { sub, exp: null }],
    ['exp = true', { sub, exp: true }],
    ['exp as a list', { sub, exp: [exp] }],
    ['no exp', { sub }],
    ['no sub', { exp }],
    ['sub empty', { sub: '', exp }],
    ['sub = null', { sub: null, exp }],
    ['sub a number', { sub: 1, exp }],
    ['sub a list', { sub: ['ann'], exp }],
    ['sub an object', { sub: { id: 'ann' }, exp }],
    ['sub of 256 characters', { sub: 'x'.repeat(256), exp }],
    ['sub of 256 characters outside the BMP', { sub: '🙂'.repeat(256), exp }],
    ['sub with NUL', { sub: 'ann\0', exp }],
    ['sub with half a surrogate pair', `{"sub":"ann\\ud800","exp":${exp}}`],
    ['payload a list', [good]],
    ['payload a string', JSON.stringify('ann')],
    ['payload a number', '1'],
    ['payload null', 'null'],
    ['payload no JSON', 'sub=ann'],
    ['payload empty', ''],
    ['payload no UTF-8', Buffer.from([0xff, 0xfe]).toString('latin1')],
    ['an unknown crit', good, { alg: 'HS256', crit: ['nonsense'], nonsense: true }],
    ['an empty crit', good, { alg: 'HS256', crit: [] }],
    ['crit a string', good, { alg: 'HS256', crit: 'exp' }],
    ['b64: false', good, { alg: 'HS256', crit: ['b64'], b64: false }],
    ['no alg', good, {}],
    ['alg a list', good, { alg: ['HS256'] }],
    ['alg in lower case', good, { alg: 'hs256' }],
    ['alg none', good, { alg: 'none' }],
    ['alg RS256', good, { alg: 'RS256' }],
    ['alg HS512, signed as HS256', good, { alg: 'HS512' }],
    ['header a list', good, [{ alg: 'HS256' }]],
    ['header no JSON', good, 'HS256'],
    ['header null', good, 'null'],
  ])('%s', async (_what, payload, header) => {
    await expectRefused(`Bearer ${sign(payload, header)}`)
  })
})

describe('a signature that is not HS256 by one of the secrets is 401', () => {
  const token = sign(good)
  const [head = '', body = '', mac = ''] = token.split('.')
  it.each<[what: string, token: string]>([
    ['HS384 by the same secret', sign(good, { alg: 'HS384' }, jwtSecret, 'sha384')],
    ['HS512 by the same secret', sign(good, { alg: 'HS512' }, jwtSecret, 'sha512')],
    ['another secret', sign(good, { alg: 'HS256' }, 'somebody-elses-secret-0123456789-0123')],
    ['an empty secret', sign(good, { alg: 'HS256' }, '')],
    ['a key that the token brings along', sign(good, { alg: 'HS256', jwk: { kty: 'oct', k: 'eA' } }, 'x')],
    [
      'both secrets as they stand in the environment',
      sign(good, { alg: 'HS256' }, `${jwtSecret},${secondSecret}`),
    ],
    ['none at all', `${head}.${body}.`],
    ['two parts', `${head}.${body}`],
    ['four parts', `${token}.${mac}`],
    ['the last character missing', token.slice(0, -2)],
    ['padding', `${token}=`],
    ["another token's payload", `${head}.${sign({ ...good, sub: 'bob' }).split('.')[1] ?? ''}.${mac}`],
    ['alg none and no signature', sign(good, { alg: 'none' }).replace(/[^.]*$/, '')],
    ['garbage', 'garbage'],
    ['dots', '..'],
    ['10,000 characters', 'a'.repeat(10_000)],
  ])('%s', async (_what, odd) => {
    await expectRefused(`Bearer ${odd}`)
  })
})

describe('a header that is not one bearer token is 401', () => {
  const token = sign(good)
  it.each<[what: string, header: string | undefined]>([
    ['none', undefined],
    ['empty', ''],
    ['the scheme alone', 'Bearer'],
    ['the scheme and spaces', 'Bearer    '],
    ['no scheme', token],
    ['Basic', `Basic ${Buffer.from(`ann:${token}`).toString('base64')}`],
    ['Token', `Token ${token}`],
    ['two tokens', `Bearer ${token} ${token}`],
    ['two tokens and a comma', `Bearer ${token}, Bearer ${token}`],
    ['a comma', `Bearer ${token},`],
    ['quotes', `Bearer "${token}"`],
    ['an equals sign', `Bearer=${token}`],
    ['no space', `Bearer${token}`],
  ])('%s', async (_what, header) => {
    await expectRefused(header)
  })

  it('two headers, of which gateways may have looked at the other one', async () => {
    const lines = [`authorization: Bearer ${token}`, `authorization: Bearer ${sign({ ...good, sub: 'bob' })}`]
    const answer = await sendRaw(
      service.origin,
      `GET /api/chat/conversations HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${lines.join('\r\n')}\r\n\r\n`,
    )
    expect(answer.status).toBe(401)
  })

  it.each(['token', 'access_token', 'jwt', 'authorization', 'ticket', 'bearer'])(
    'a token in the query, as %s',
    async (name) => {
      for (const value of [token, `Bearer%20${token}`])
        expectProblem(await ask(service.origin, { path: `${path}?${name}=${value}` }), {
          status: 401,
          code: 'unauthorized',
          path,
        })
    },
  )

  it.each([
    'cookie',
    'x-access-token',
    'x-authorization',
    'proxy-authorization',
    'sec-websocket-protocol',
    'x-user-id',
  ])('a token in %s', async (name) => {
    const headers = { [name]: name === 'cookie' ? `token=${token}; jwt=${token}` : `Bearer ${token}` }
    expectProblem(await ask(service.origin, { path, headers }), { status: 401, code: 'unauthorized', path })
  })
})

describe('a whole token gets in', () => {
  it.each([
    ['signed with the first secret', jwtSecret],
    ['signed with a secret that is being rotated out', secondSecret],
  ])('%s', async (_what, secret) => {
    expect(
      (await withHeader(`Bearer ${sign(good, { alg: 'HS256', typ: 'JWT', kid: 'any' }, secret)}`)).status,
    ).toBe(200)
  })

  it('the scheme is written in any case, as HTTP has it', async () => {
    for (const scheme of ['bearer', 'BEARER', 'Bearer  '])
      expect((await withHeader(`${scheme} ${sign(good)}`)).status).toBe(200)
  })

  it.each([
    'auth0|64f1',
    'google-oauth2|1',
    'user@example.org',
    '👩‍👩‍👧 🙂',
    'x'.repeat(255),
    '🙂'.repeat(255),
    "' or 1=1 --",
    '"; drop schema chat cascade; --',
    '%',
    '\\',
    ' ',
    'line\nbreak\ttab',
    'null',
    '__proto__',
    'café',
    'cafe\u0301',
    'Ann',
    'ann ',
    '*',
    '{"sub":"bob"}',
    '../../etc',
  ])('sub %j is a user of their own, end to end', async (sub) => {
    const user = createClient(service.origin, sign({ sub, exp: inAnHour }))
    const id = await user.conversation()
    const sent = await user.post(`/conversations/${id}/messages`, { content: 'hello' })
    expect(sent.body).toMatchObject({
      user_message: { sender_id: sub },
      assistant_message: { status: 'complete' },
    })
    const list = await user.get<{ conversations: { id: string }[]; total: number }>('/conversations')
    expect(list.body).toMatchObject({ conversations: [{ id }], total: 1 })
    const rows = await service.sql`select distinct user_id from chat.messages where conversation_id = ${id}`
    expect(rows.map((row) => row['user_id'] as string)).toEqual([sub])
  })

  it.each([undefined, 'free', 'Premium', 'premium ', 'admin', ['premium'], { premium: true }, true, 1, null])(
    'the tier %j is the free one',
    async (tier) => {
      const user = createClient(service.origin, sign({ ...good, tier, name: 7 }))
      expect(await user.post('/conversations', { model: PAID_MODEL_ID })).toMatchObject({
        status: 422,
        body: { code: 'model_not_allowed' },
      })
    },
  )
})

describe('issuer and audience, where configured', () => {
  let strict: Service
  beforeAll(async () => {
    strict = await startService({ env: { JWT_ISSUER: 'https://id.example', JWT_AUDIENCE: 'chat' } })
  })
  afterAll(() => strict.close())
  const right = { ...good, iss: 'https://id.example', aud: 'chat' }

  it.each<[what: string, payload: unknown]>([
    ['neither', good],
    ['another issuer', { ...right, iss: 'https://evil.example' }],
    ['an issuer that begins alike', { ...right, iss: 'https://id.example.evil' }],
    ['no issuer', { ...right, iss: undefined }],
    ['a list of issuers', { ...right, iss: ['https://id.example'] }],
    ['another audience', { ...right, aud: 'mail' }],
    ['no audience', { ...right, aud: undefined }],
    ['an empty list of audiences', { ...right, aud: [] }],
    ['an audience in another case', { ...right, aud: 'Chat' }],
  ])('%s is 401', async (_what, payload) => {
    await expectRefused(`Bearer ${sign(payload)}`, strict)
  })

  it.each([right, { ...right, aud: ['mail', 'chat'] }])('the right ones get in: %j', async (payload) => {
    expect((await withHeader(`Bearer ${sign(payload)}`, strict)).status).toBe(200)
  })
})
