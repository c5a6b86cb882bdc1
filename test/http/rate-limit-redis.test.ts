/**
 * Limits shared through Redis, and Redis refused, stopped, silent or lost: the answer comes within 500 ms all the same.
 * Needs the Redis of this machine: skipped where there is none, unless REQUIRE_SERVICES=1 says that there must be.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { Answer, Client } from '../support/client.ts'
import { hasRedis, ownKeys, redisUrl, type OwnKeys } from '../support/redis.ts'
import { startService, type Service } from '../support/service.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

/** What the contract allows an answer to take, Redis or not, ms. */
const promisedMs = 500

interface Health {
  status: string
  dependencies: { redis: { status: string } }
}

const user = () => `user-${crypto.randomUUID()}`
const accepted = (answers: Answer[]) => answers.filter(({ status }) => status === 201).length
const refused = (answers: Answer[]) => answers.filter(({ status }) => status === 429).length

/** Conversations are the limit that costs the least to reach. */
const make = (client: Client) => client.post('/conversations', {})

async function timed(client: Client): Promise<{ answer: Answer; ms: number }> {
  const startedMs = performance.now()
  return { answer: await make(client), ms: performance.now() - startedMs }
}

/** Resolves when `/health` says so. */
async function redisIs(service: Service, status: 'up' | 'down'): Promise<void> {
  for (;;) {
    const { body } = await service.anonymous.get<Health>('/health')
    if (body.dependencies.redis.status === status) return
  }
}

describe.skipIf(!(await hasRedis()))('limits with Redis', () => {
  let keys: OwnKeys
  beforeAll(async () => {
    keys = await ownKeys()
  })
  afterAll(() => keys.delete())

  async function instance(
    url: string,
    options: { logs?: Record<string, unknown>[]; env?: Record<string, string> } = {},
  ): Promise<Service> {
    const env = { REDIS_URL: url, REDIS_KEY_PREFIX: keys.prefix, RATE_LIMIT_CONVERSATIONS_PER_DAY: '10' }
    const service = await startService({ ...options, env: { ...env, ...options.env } })
    onTestFinished(() => service.close())
    return service
  }

  async function proxied(): Promise<TcpProxy> {
    const proxy = await startTcpProxy(redisUrl)
    onTestFinished(() => proxy.close())
    return proxy
  }

  it('let exactly 10 of 60 requests at once through on two instances', async () => {
    const services = await Promise.all([instance(redisUrl), instance(redisUrl)])
    await Promise.all(services.map((service) => redisIs(service, 'up')))
    const ann = user()
    const clients = await Promise.all(services.map((service) => service.as(ann)))
    const answers = await Promise.all(Array.from({ length: 30 }, () => clients.map(make)).flat())
    expect([accepted(answers), refused(answers)]).toEqual([10, 50])
    const remaining = answers.filter(({ status }) => status === 201)
    expect(
      remaining.map(({ headers }) => Number(headers.get('ratelimit-remaining'))).sort((a, b) => a - b),
    ).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('give back on one instance what the other may take', async () => {
    const services = await Promise.all([instance(redisUrl), instance(redisUrl)])
    await Promise.all(services.map((service) => redisIs(service, 'up')))
    const ann = user()
    const [here, there] = await Promise.all(services.map((service) => service.as(ann)))
    if (here === undefined || there === undefined) throw new Error('two were asked for')
    for (let n = 0; n < 9; n++) expect((await make(n % 2 === 0 ? here : there)).status).toBe(201)
    const nowhere = `/conversations/${crypto.randomUUID()}/fork`
    for (let n = 0; n < 5; n++)
      expect((await here.post(nowhere, { message_id: crypto.randomUUID() })).status).toBe(404)
    expect([(await make(there)).status, (await make(there)).status]).toEqual([201, 429])
  })

  it('keep nothing in Redis that says who it is or that does not end', async () => {
    const service = await instance(redisUrl)
    await redisIs(service, 'up')
    await make(await service.as('ann@example.org'))
    const all = await keys.list()
    expect(all.some((key) => key.includes(':conversations:'))).toBe(true)
    expect(all.filter((key) => key.includes('ann'))).toEqual([])
    for (const key of all) expect(await keys.client.pttl(key)).not.toBe(-1)
  })

  it('are counted alone while Redis is refused, and /health is degraded with 200', async () => {
    const proxy = await proxied()
    await proxy.refuse()
    const logs: Record<string, unknown>[] = []
    const service = await instance(proxy.url, { logs })
    const ann = await service.as(user())
    const answers = await Promise.all(Array.from({ length: 30 }, () => timed(ann)))
    expect(accepted(answers.map(({ answer }) => answer))).toBe(10)
    expect(Math.max(...answers.map(({ ms }) => ms))).toBeLessThan(promisedMs)
    await redisIs(service, 'down')
    const health = await service.anonymous.get<Health>('/health')
    expect([health.status, health.body.status]).toEqual([200, 'degraded'])
    await proxy.pass()
    await redisIs(service, 'up')
    expect((await service.anonymous.get<Health>('/health')).body.status).toBe('healthy')
    expect(redisEvents(logs)).toEqual(['redis_away', 'redis_back'])
  })

  it('are counted alone where Redis accepts and never says a word', async () => {
    const proxy = await proxied()
    proxy.freeze()
    const service = await instance(proxy.url)
    const ann = await service.as(user())
    const answers = await Promise.all(Array.from({ length: 30 }, () => timed(ann)))
    expect(accepted(answers.map(({ answer }) => answer))).toBe(10)
    expect(Math.max(...answers.map(({ ms }) => ms))).toBeLessThan(promisedMs)
  })

  it.each(['refuse', 'freeze', 'strand'] as const)(
    'go on from what was seen when Redis is lost (%s), answer within 500 ms, and are shared again by themselves',
    async (how) => {
      const proxy = await proxied()
      const logs: Record<string, unknown>[] = []
      const [service, other] = await Promise.all([instance(proxy.url, { logs }), instance(redisUrl)])
      await Promise.all([redisIs(service, 'up'), redisIs(other, 'up')])
      const ann = user()
      const [here, there] = await Promise.all([service.as(ann), other.as(ann)])
      for (let n = 0; n < 4; n++) expect((await make(n % 2 === 0 ? here : there)).status).toBe(201)

      await proxy[how]()
      // Four were used, one of the last two here: nothing is lost of what this instance has seen.
      const lost = await Promise.all(Array.from({ length: 20 }, () => timed(here)))
      expect(Math.max(...lost.map(({ ms }) => ms))).toBeLessThan(promisedMs)
      expect(accepted(lost.map(({ answer }) => answer))).toBe(7)
      // Only those waited who found out.
      if (how === 'freeze') expect((await timed(here)).ms).toBeLessThan(200)

      await proxy.pass()
      await redisIs(service, 'up')
      // What was counted alone is told: the other instance knows that nothing is left.
      expect((await make(here)).status).toBe(429)
      const rest = await Promise.all(Array.from({ length: 5 }, () => make(there)))
      expect(accepted(rest)).toBe(0)
      expect(redisEvents(logs)).toEqual(['redis_away', 'redis_back'])
    },
  )

  it('and the bus hold their connections until the service is closed, and not longer', async () => {
    const proxy = await proxied()
    const service = await startService({ env: { REDIS_URL: proxy.url, REDIS_KEY_PREFIX: keys.prefix } })
    await redisIs(service, 'up')
    await expect.poll(() => proxy.connections()).toBe(3)
    await service.close()
    while (proxy.connections() > 0) await new Promise(setImmediate)
  })
})

const redisEvents = (logs: Record<string, unknown>[]) =>
  logs.map(({ event }) => event).filter((event) => /^redis_/.test(String(event)))
