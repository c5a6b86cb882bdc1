import { tmpdir } from 'node:os'
import { expect, it } from 'vitest'
import { ConfigError, loadConfig } from '../src/config.ts'

const problemsOf = (env: Record<string, string>): string[] => {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map((problem) => problem.split(':')[0] ?? '')
    throw error
  }
}

it('reports every wrong value at once, by name and without the value', () => {
  const wrong = {
    PORT: 'abc',
    NODE_ENV: 'prod',
    TRUSTED_PROXIES: 'foo',
    CORS_ORIGINS: 'nope',
    LOG_FILE: '/proc/nope/x.log',
    JWT_PUBLIC_KEY: '-----BEGIN PUBLIC KEY-----\nsecret-canary\n-----END PUBLIC KEY-----',
    TEMPERATURE: '3',
    USE_FREE_MODELS_ONLY: 'maybe',
    DATABASE_URL: 'mysql://x',
  }
  expect(problemsOf(wrong).sort()).toEqual(Object.keys(wrong).sort())
  expect(() => loadConfig(wrong)).toThrow(expect.not.stringContaining('secret-canary') as string)
})

it.each([
  ['an empty value', { PORT: '' }, { PORT: 3006 }],
  [
    'origins with a path or a slash',
    { CORS_ORIGINS: 'https://a.example/, *' },
    { CORS_ORIGINS: ['https://a.example', '*'] },
  ],
  [
    'networks',
    { TRUSTED_PROXIES: '10.0.0.0/8,::1,loopback' },
    { TRUSTED_PROXIES: ['10.0.0.0/8', '::1', 'loopback'] },
  ],
  ['a log file', { LOG_FILE: `${tmpdir()}/rivulet-test.log` }, { LOG_FILE: `${tmpdir()}/rivulet-test.log` }],
  [
    'older names',
    { DB_HOST: 'db', DB_USER: 'a@b', DB_NAME: 'chat' },
    { DATABASE_URL: 'postgres://a%40b@db:5432/chat' },
  ],
  [
    'older names of Redis',
    { REDIS_HOST: '::1', REDIS_PASSWORD: 'a@b:/' },
    { REDIS_URL: 'redis://:a%40b%3A%2F@[::1]:6379' },
  ],
  [
    'half of the older names',
    { DB_NAME: 'chat' },
    { DATABASE_URL: 'postgres://postgres@localhost:5432/chat' },
  ],
])('takes %s', (_, env, expected) => {
  expect(loadConfig(env as Record<string, string>)).toMatchObject(expected)
})

it('leaves alone the REDIS_PORT that Kubernetes sets for a service called redis', () => {
  expect(loadConfig({ REDIS_PORT: 'tcp://10.0.0.1:6379' }).REDIS_URL).toBeUndefined()
})

it('refuses in production what is embedded, short or known', () => {
  expect(problemsOf({ NODE_ENV: 'production' })).toEqual(['DATABASE_URL', 'OPENROUTER_API_KEY', 'JWT_SECRET'])
  const sound = { NODE_ENV: 'production', DATABASE_URL: 'postgres://x/y', OPENROUTER_API_KEY: 'k' }
  expect(problemsOf({ ...sound, JWT_SECRET: 'short' })).toEqual(['JWT_SECRET'])
  expect(problemsOf({ ...sound, JWT_SECRET: 'change-me-change-me-change-me-change-me' })).toEqual([
    'JWT_SECRET',
  ])
  expect(problemsOf({ ...sound, JWT_SECRET: 'k9Zq2vX7pL4mN8rT1wB6yH3jF5dS0aGe' })).toEqual([])
})
