/** The Redis of this machine, for tests that need a real one: under keys of their own, which are deleted at the end. */
import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'

export const redisUrl = process.env['TEST_REDIS_URL'] ?? 'redis://127.0.0.1:6379'

/** Whether it answers. @throws where it does not and `REQUIRE_SERVICES=1` says that it must. */
export async function hasRedis(): Promise<boolean> {
  const client = connect()
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.ping()
    return true
  } catch (error) {
    if (process.env['REQUIRE_SERVICES'] === '1')
      throw new Error(`no Redis at ${redisUrl}, and REQUIRE_SERVICES=1`, { cause: error })
    return false
  } finally {
    client.disconnect()
  }
}

export interface OwnKeys {
  prefix: string
  client: Redis
  list(): Promise<string[]>
  delete(): Promise<void>
}

export async function ownKeys(): Promise<OwnKeys> {
  const prefix = `rivulet-test-${randomBytes(6).toString('hex')}:`
  const client = connect()
  await client.connect()
  const list = () => client.keys(`${prefix}*`)
  return {
    prefix,
    client,
    list,
    async delete() {
      const keys = await list()
      if (keys.length > 0) await client.del(...keys)
      client.disconnect()
    },
  }
}

const connect = () =>
  new Redis(redisUrl, {
    lazyConnect: true,
    connectTimeout: 1_000,
    commandTimeout: 1_000,
    retryStrategy: null,
  })
