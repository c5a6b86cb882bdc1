/** What a transaction promises to the code inside it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Database, Tx } from '../../src/db/database.ts'
import { enterMs } from '../../src/db/transact.ts'
import { openDatabase } from '../support/cluster.ts'
import { cloneDatabase } from '../support/service.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const ann = { userId: 'ann' }
let database: Database
let drop: () => Promise<void>
let url: string

beforeAll(async () => {
  const clone = await cloneDatabase()
  ;({ drop, url } = clone)
  ;({ database } = openDatabase(url, 10))
  await database.prepare(new AbortController().signal)
})
afterAll(async () => {
  await database.close()
  await drop()
})

const insert = (tx: Tx, id: string, owner = 'ann') =>
  tx.execute(sql`
    insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
    values (${id}, ${owner}, 'a title', 'user', 'general', '{}', '{}')`)
const count = async (tx: Tx) =>
  (await tx.execute<{ n: number }>(sql`select count(*)::int as n from chat.conversations`))[0]?.n ?? 0

let made = 0
const newId = () => `01900000-0000-7000-8000-${String(++made).padStart(12, '0')}`

describe('statements that are not awaited one by one', () => {
  it('run in the order of the calls, prepared before or not, with parameters or without', async () => {
    const trail = await database.asCaller(ann, async (tx) => {
      const steps = Array.from({ length: 60 }, (_, step) => {
        const add = sql`current_setting('test.trail', true)`
        if (step % 3 === 0)
          return sql`select set_config('test.trail', ${add} || ${`${step},`}::text, true) as trail`
        if (step % 3 === 1)
          return sql.raw(
            `select set_config('test.trail', current_setting('test.trail', true) || '${step},', true) as trail`,
          )
        return sql`select set_config('test.trail', ${add} || ${`${step},`}::text, true) as trail, ${sql.raw(String(step))} as fresh`
      })
      const rows = await Promise.all([
        tx.execute<{ trail: string }>(sql`select set_config('test.trail', '', true) as trail`),
        ...steps.map((step) => tx.execute<{ trail: string }>(step)),
      ])
      return rows.at(-1)?.[0]?.trail
    })
    expect(trail).toBe(Array.from({ length: 60 }, (_, step) => `${step},`).join(''))
  })

  it('see what those before them did', async () => {
    const counts = await database.asCaller({ userId: 'counter' }, (tx) =>
      Promise.all([
        count(tx),
        insert(tx, newId(), 'counter'),
        count(tx),
        insert(tx, newId(), 'counter'),
        count(tx),
      ]),
    )
    expect([counts[0], counts[2], counts[4]]).toEqual([0, 1, 2])
  })

  it.each([
    ['of several', (tx: Tx) => count(tx)],
    ['that is all there is', (tx: Tx) => tx.commit(() => count(tx))],
  ])(
    'may wait for a lock for longer than a sign of the database may take: the first %s',
    async (_which, read) => {
      const locked = Promise.withResolvers<undefined>()
      const slow = database.asSystem('lock', async (tx) => {
        await tx.execute(sql`lock table chat.conversations`)
        locked.resolve(undefined)
        await tx.execute(sql`select pg_sleep(${(enterMs + 300) / 1000}::float8)`)
      })
      await locked.promise
      expect(await database.asCaller({ userId: 'patient' }, read)).toBe(0)
      await slow
    },
  )

  it('a lock holds the check behind it back: 1 of 30 at once gets through', async () => {
    const user = { userId: 'locker' }
    const passed = await Promise.all(
      Array.from({ length: 30 }, () =>
        database.asCaller(user, async (tx) => {
          const [, found] = await Promise.all([
            tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${'locker'}, 0))`),
            count(tx),
          ])
          if (found === 0) await insert(tx, newId(), user.userId)
          return found === 0
        }),
      ),
    )
    expect(passed.filter(Boolean)).toHaveLength(1)
  })

  it('nothing is kept where one of them fails, and the others are not unhandled rejections', async () => {
    const user = { userId: 'failing' }
    await expect(
      database.asCaller(user, (tx) =>
        Promise.all([
          insert(tx, newId(), user.userId),
          tx.execute(sql`select 1 / 0`),
          insert(tx, newId(), user.userId),
          count(tx),
        ]),
      ),
    ).rejects.toMatchObject({ code: '22012' })
    expect(await database.asCaller(user, count)).toBe(0)
  })
})

describe('commit with the last statements', () => {
  const user = { userId: 'committer' }

  it('resolves with their results when all of it is committed', async () => {
    const seen = await database.asCaller(user, async (tx) => {
      await insert(tx, newId(), user.userId)
      const [, n] = await tx.commit(() => Promise.all([insert(tx, newId(), user.userId), count(tx)]))
      return [n, await database.asCaller(user, count)]
    })
    expect(seen).toEqual([2, 2])
  })

  it('keeps nothing where one of them fails, and tells that one’s error', async () => {
    const before = await database.asCaller(user, count)
    await expect(
      database.asCaller(user, (tx) =>
        tx.commit(() => Promise.all([insert(tx, newId(), user.userId), tx.execute(sql`select 1 / 0`)])),
      ),
    ).rejects.toMatchObject({ code: '22012' })
    expect(await database.asCaller(user, count)).toBe(before)
  })
})

describe('a transaction', () => {
  it.each<[name: string, forget: (failing: Promise<unknown>) => unknown]>([
    ['was caught', (failing) => failing.catch(() => undefined)],
    ['was not waited for', (failing) => void failing.catch(() => undefined)],
  ])('is no success when a failure in it %s: nothing of it was stored', async (_name, forget) => {
    const user = { userId: 'careless' }
    const told = database.asCaller(user, async (tx) => {
      await insert(tx, newId(), user.userId)
      await forget(tx.execute(sql`select 1 / 0`))
      return 'stored'
    })
    await expect(told).rejects.toThrow()
    expect(await database.asCaller(user, count)).toBe(0)
  })

  it('that throws is rolled back, and its connection is used again', async () => {
    const user = { userId: 'thrower' }
    const mistake = new Error('on purpose')
    for (let round = 0; round < 25; round++)
      await expect(
        database.asCaller(user, async (tx) => {
          await insert(tx, newId(), user.userId)
          throw mistake
        }),
      ).rejects.toBe(mistake)
    expect(await database.asCaller(user, count)).toBe(0)
  })

  it('that throws while its statements run is rolled back all the same', async () => {
    const user = { userId: 'hasty' }
    const mistake = new Error('on purpose')
    await expect(
      database.asCaller(user, async (tx) => {
        void insert(tx, newId(), user.userId)
        void insert(tx, newId(), user.userId)
        throw mistake
      }),
    ).rejects.toBe(mistake)
    expect(await database.asCaller(user, count)).toBe(0)
  })

  it('that lost a deadlock is run again, and both succeed', async () => {
    const [one, two] = [newId(), newId()]
    await database.asCaller(ann, (tx) => Promise.all([insert(tx, one), insert(tx, two)]))
    const lock = (tx: Tx, id: string) =>
      tx.execute(sql`update chat.conversations set title = title || '!' where id = ${id}`)
    const first = Promise.withResolvers<undefined>()
    const second = Promise.withResolvers<undefined>()
    await Promise.all([
      database.asCaller(ann, async (tx) => {
        await lock(tx, one)
        first.resolve(undefined)
        await second.promise
        await lock(tx, two)
      }),
      database.asCaller(ann, async (tx) => {
        await lock(tx, two)
        second.resolve(undefined)
        await first.promise
        await lock(tx, one)
      }),
    ])
    const titles = await database.asCaller(ann, (tx) =>
      tx.execute(sql`select title from chat.conversations where id in (${one}, ${two})`),
    )
    expect(titles).toEqual([{ title: 'a title!!' }, { title: 'a title!!' }])
  })

  it(
    'that fell silent in the middle is told to have changed nothing, and that is true',
    { timeout: 40_000 },
    async () => {
      const user = { userId: 'silenced' }
      const proxy = await startTcpProxy(url)
      const { database: remote } = openDatabase(proxy.url)
      await remote.prepare(new AbortController().signal)
      const told = remote.asCaller(user, async (tx) => {
        await insert(tx, newId(), user.userId)
        proxy.freeze()
        await tx.execute(sql`select 'silenced'`)
      })
      await expect(told).rejects.toMatchObject({
        code: 'database_unavailable',
        detail: expect.stringContaining('Nothing was changed') as string,
      })
      await proxy.pass()
      // The server's session must be over before it can be said what it left.
      const sessions = sql`select 1 from pg_stat_activity where query like ${'%silenced%'} and pid <> pg_backend_pid()`
      await expect
        .poll(() => database.asSystem('look', (tx) => tx.execute(sessions)), { timeout: 10_000 })
        .toEqual([])
      expect(await database.asCaller(user, count)).toBe(0)
      await remote.close()
      await proxy.close()
    },
  )
})
