/** Profiles are found where they can be, in no time, and nobody's answer depends on them. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createProfiles, type Profiles, type ProfilesOptions } from '../../src/context/profile.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void

const requests: IncomingMessage[] = []
const logged: Record<string, unknown>[] = []
const opened: Profiles[] = []
let answer: Answer
let now = 0
const server = createServer((request, response) => {
  requests.push(request)
  answer(request, response)
})
let baseUrl: string

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((profiles) => profiles.close()))
  requests.length = 0
  logged.length = 0
})
afterAll(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const log = pino(
  { level: 'debug' },
  { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
)

function open(options: Partial<ProfilesOptions> = {}): Profiles {
  // Nobody waits for time: what takes longer than this never comes.
  const profiles = createProfiles({
    baseUrl,
    serviceKey: 'key',
    log,
    nowMs: () => now,
    waitMs: 10_000,
    ...options,
  })
  opened.push(profiles)
  return profiles
}

const json =
  (body: unknown, status = 200): Answer =>
  (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

/** Never ends what it has begun, unless it is told to. */
function held(): { answer: Answer; release: (body: unknown) => void } {
  const waiting: ServerResponse[] = []
  return {
    answer: (_request, response) => void waiting.push(response),
    release: (body) => {
      for (const response of waiting.splice(0)) response.end(JSON.stringify(body))
    },
  }
}

const factsOf = async (body: unknown) => {
  answer = json(body)
  return open().find('ann')
}

describe('the request', () => {
  it('names the user in its path, whatever the name, and shows the key', async () => {
    answer = json({ name: 'Ann' })
    const profiles = open({ baseUrl: `${baseUrl}/auth/` })
    expect(await profiles.find('a/b ?#%é')).toEqual({ name: 'Ann' })
    const [request] = requests
    expect(request?.url).toBe('/auth/api/users/a%2Fb%20%3F%23%25%C3%A9/profile')
    expect(request?.headers.authorization).toBe('Bearer key')
  })

  it.each([undefined, ''])('shows no key where it is %j', async (serviceKey) => {
    answer = json({ name: 'Ann' })
    await open({ serviceKey }).find('ann')
    expect(requests[0]?.headers).not.toHaveProperty('authorization')
  })

  it.each(['', '.', '..', 'x'.repeat(300), 'a\ud800'])(
    'is not made for a name that is none: %j',
    async (name) => {
      expect(await open().find(name)).toBeUndefined()
      expect(requests).toEqual([])
    },
  )
})

describe('what is told', () => {
  it.each<[name: string, body: unknown]>([
    ['as it is', { name: 'Ann' }],
    ['in data', { data: { name: 'Ann' } }],
    ['with success', { success: true, data: { name: 'Ann' } }],
    ['in user', { user: { name: 'Ann' } }],
    ['in data and user', { success: true, data: { user: { name: 'Ann' } } }],
    ['in a profile of the user’s', { data: { user: { id: 5, profile: { name: 'Ann' } } } }],
  ])('is read where it stands %s', async (_name, body) => {
    expect(await factsOf(body)).toEqual({ name: 'Ann' })
  })

  it('is plain facts: texts, numbers, yes and no, and short lists of them', async () => {
    const facts = { name: ' Ann\0 ', age: 34, active: false, languages: ['en', 'id'], scores: [1, 2] }
    const rest = {
      nested: { a: 1 },
      lists: [[1]],
      none: null,
      empty: '',
      long: 'x'.repeat(201),
      many: Array(11).fill(1),
      no: [],
    }
    expect(await factsOf({ ...rest, ...facts })).toEqual({ ...facts, name: 'Ann' })
  })

  it('never opens a door or tells who it is', async () => {
    const secrets = [
      'password',
      'passwordHash',
      'access_token',
      'clientSecret',
      'EMAIL',
      'email_verified',
      'phone',
      'phoneNumber',
      'salt_hash',
    ]
    const ids = ['id', '_id', 'user_id', 'userId', 'uuid', 'sub']
    const body = Object.fromEntries([...secrets, ...ids].map((key) => [key, 'x']))
    expect(await factsOf({ ...body, contact: 'ann@example.com', name: 'Ann' })).toEqual({ name: 'Ann' })
    expect(await factsOf(body)).toBeUndefined()
  })

  it('is at most 20 facts, with keys that mean nothing to JavaScript', async () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`key ${index}`, index]))
    expect(Object.keys((await factsOf(many)) ?? {})).toHaveLength(20)
    const facts = await factsOf(JSON.parse('{"__proto__":"x","constructor":"y","name":"Ann"}'))
    expect(Object.keys(facts ?? {})).toEqual(['name'])
  })
})

describe('the cache', () => {
  it('holds a profile for five minutes, and then asks again', async () => {
    const profiles = open()
    answer = json({ name: 'Ann' })
    await profiles.find('ann')
    answer = json({ name: 'Anne' })
    now += 299_999
    expect(await profiles.find('ann')).toEqual({ name: 'Ann' })
    now += 1
    expect(await profiles.find('ann')).toEqual({ name: 'Anne' })
    expect(requests).toHaveLength(2)
  })

  it.each<[name: string, bad: Answer]>([
    ['no such user', json({}, 404)],
    ['an error', json({ name: 'Ann' }, 500)],
    ['a refused key', json({ name: 'Ann' }, 401)],
    ['a redirect', (_request, response) => response.writeHead(302, { location: '/elsewhere' }).end()],
    ['no JSON', (_request, response) => response.end('<html>')],
    ['no object', json(['name'])],
    ['a text', json('name')],
    ['nothing that may be told', json({ id: 1 })],
    ['more than 64 KiB', json({ name: 'Ann', more: 'x'.repeat(65_536) })],
    ['a cut connection', (_request, response) => response.socket?.destroy()],
    [
      'half a body',
      (_request, response) =>
        response.writeHead(200, { 'content-length': '50' }).write('{', () => response.destroy()),
    ],
  ])('holds for 30 seconds that there was %s', async (_name, bad) => {
    const profiles = open()
    answer = bad
    expect(await profiles.find('ann')).toBeUndefined()
    answer = json({ name: 'Ann' })
    now += 29_999
    expect(await profiles.find('ann')).toBeUndefined()
    expect(requests).toHaveLength(1)
    now += 1
    expect(await profiles.find('ann')).toEqual({ name: 'Ann' })
  })

  it('forgets the oldest user where there are too many', async () => {
    const profiles = open({ usersMax: 3 })
    answer = json({ name: 'x' })
    for (const user of ['a', 'b', 'c', 'd', 'b', 'c', 'd']) await profiles.find(user)
    expect(requests).toHaveLength(4)
    await profiles.find('a')
    expect(requests).toHaveLength(5)
    await profiles.find('b')
    expect(requests).toHaveLength(6)
  })

  it('tells each user’s own', async () => {
    answer = (request, response) => response.end(JSON.stringify({ path: request.url }))
    const profiles = open()
    const users = Array.from({ length: 60 }, (_, index) => `user-${index}`)
    const found = await Promise.all(users.map((user) => profiles.find(user)))
    expect(found).toEqual(users.map((user) => ({ path: `/api/users/${user}/profile` })))
  })
})

describe('a service that is slow', () => {
  it('is asked once for all who wait for the same user', async () => {
    const slow = held()
    answer = slow.answer
    const profiles = open()
    const finding = Array.from({ length: 50 }, () => profiles.find('ann'))
    await expect.poll(() => requests.length).toBe(1)
    slow.release({ name: 'Ann' })
    expect(await Promise.all(finding)).toEqual(Array(50).fill({ name: 'Ann' }))
    expect(requests).toHaveLength(1)
  })

  it('is not waited for longer than 250 ms, and what it says later is there for the next', async () => {
    const slow = held()
    answer = slow.answer
    // Its own measure, not a test's.
    const profiles = createProfiles({ baseUrl, serviceKey: 'key', log, nowMs: () => now })
    opened.push(profiles)
    const startedAt = performance.now()
    expect(await profiles.find('ann')).toBeUndefined()
    const tookMs = performance.now() - startedAt
    expect(tookMs).toBeGreaterThan(240)
    expect(tookMs).toBeLessThan(1_000)
    slow.release({ name: 'Ann' })
    await expect.poll(() => profiles.find('ann')).toEqual({ name: 'Ann' })
    expect(requests).toHaveLength(1)
  })

  it.each<[name: string, silent: Answer]>([
    ['at all', held().answer],
    ['after its first byte', (_request, response) => response.writeHead(200).write('{')],
  ])('and does not answer %s is given up after 2 s', { timeout: 10_000 }, async (_name, silent) => {
    answer = silent
    const profiles = open()
    const startedAt = performance.now()
    expect(await profiles.find('ann')).toBeUndefined()
    expect(performance.now() - startedAt).toBeGreaterThan(1_900)
    expect(performance.now() - startedAt).toBeLessThan(4_000)
    expect(logged).toMatchObject([{ event: 'profiles_away' }])
  })

  it('is not asked about more users than 500 at once', async () => {
    const slow = held()
    answer = slow.answer
    const profiles = open()
    const finding = Array.from({ length: 500 }, (_, index) => profiles.find(`user-${index}`))
    const startedAt = performance.now()
    expect(await profiles.find('one more')).toBeUndefined()
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    await profiles.close()
    await Promise.all(finding)
  })
})

describe('a service that is away', () => {
  it('is told of once, and once when it is back, without a name or a key', async () => {
    const profiles = open({ baseUrl: 'http://127.0.0.1:1' })
    for (const user of ['ann-1', 'bob-2', 'eve-3']) expect(await profiles.find(user)).toBeUndefined()
    expect(logged).toMatchObject([{ event: 'profiles_away' }])
    const other = open()
    answer = json({}, 503)
    await other.find('ann-1')
    answer = json({ name: 'Ann' })
    await other.find('bob-2')
    expect(logged.map(({ event }) => event)).toEqual(['profiles_away', 'profiles_away', 'profiles_back'])
    expect(JSON.stringify(logged)).not.toMatch(/ann-1|bob-2|eve-3|Bearer|"key"/)
  })

  it('costs a user’s next question nothing', async () => {
    const profiles = open({ baseUrl: 'http://127.0.0.1:1' })
    await profiles.find('ann')
    const startedAt = performance.now()
    for (let turn = 0; turn < 1_000; turn++) await profiles.find('ann')
    expect(performance.now() - startedAt).toBeLessThan(100)
  })
})

it('closed, it gives up what is being asked for, says nothing, and asks no more', async () => {
  answer = held().answer
  const profiles = open()
  const finding = profiles.find('ann')
  await expect.poll(() => requests.length).toBe(1)
  const gone = new Promise((resolve) => requests[0]?.socket.once('close', resolve))
  await profiles.close()
  expect(await finding).toBeUndefined()
  await gone
  expect(await profiles.find('bob')).toBeUndefined()
  await delay(0)
  expect(requests).toHaveLength(1)
  expect(logged).toEqual([])
})
