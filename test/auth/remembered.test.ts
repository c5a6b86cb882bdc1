import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createTokenVerifier, mintToken } from '../../src/auth/tokens.ts'

const secret = 'a-secret-of-at-least-32-characters-for-this'
const verifierOf = () => createTokenVerifier({ kind: 'secrets', secrets: [secret] }, {})

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] })
})
afterEach(() => vi.useRealTimers())

describe('a token that was found good a moment ago', () => {
  it('says the same again', async () => {
    const verifier = await verifierOf()
    const token = await mintToken(secret, { sub: 'ann', tier: 'premium', hours: 1 })
    const first = await verifier.verify(token)
    const validUntil = Math.floor(Date.now() / 1000 + 3600) * 1000
    expect(first).toEqual({ kind: 'user', userId: 'ann', tier: 'premium', name: undefined, validUntil })
    expect(await verifier.verify(token)).toEqual(first)
  })

  it('is refused from the second on in which it expires', async () => {
    const verifier = await verifierOf()
    const token = await mintToken(secret, { sub: 'ann', hours: 10 / 3600 })
    await verifier.verify(token)
    vi.setSystemTime(Date.now() + 8_000)
    await verifier.verify(token)
    vi.setSystemTime(Date.now() + 2_000)
    await expect(verifier.verify(token)).rejects.toMatchObject({ code: 'unauthorized' })
  })

  it('does not vouch for another one with the same signature or the same payload', async () => {
    const verifier = await verifierOf()
    const token = await mintToken(secret, { sub: 'ann', hours: 1 })
    const other = await mintToken(secret, { sub: 'bob', hours: 1 })
    await verifier.verify(token)
    await verifier.verify(other)
    const [head, , mac] = token.split('.')
    const [, payload] = other.split('.')
    await expect(verifier.verify(`${head}.${payload}.${mac}`)).rejects.toMatchObject({ code: 'unauthorized' })
  })
})
