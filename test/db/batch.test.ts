import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createPool, type Connection, type Pool } from '../../src/db/pool.ts'
import { cloneDatabase } from '../support/service.ts'

let database: Awaited<ReturnType<typeof cloneDatabase>>
let pool: Pool
let connection: Connection

beforeAll(async () => {
  database = await cloneDatabase()
  pool = createPool({ url: database.url, max: 2, withinMs: 2_000 })
})
afterAll(async () => {
  await pool.close()
  await database.drop()
})
beforeEach(async () => {
  connection = await pool.lease()
})
afterEach(() => connection.release(true))

const rowsOf = async (text: string, params?: unknown[]) => (await connection.query(text, params)).rows

describe('statements issued together', () => {
  it('run in order, each seeing what those before it did, and are answered with their own rows', async () => {
    const results = await connection.together(() =>
      Promise.all([
        connection.query('begin'),
        connection.query('create temp table seen (n int) on commit drop'),
        connection.query('insert into seen select generate_series(1, $1::int)', [3]),
        connection.query('select n from seen order by n'),
        connection.query('select sum(n)::int as sum from seen where n > $1', [1]),
        connection.query('commit'),
      ]),
    )
    expect(results.map(({ command, count }) => [command, count])).toEqual([
      ['BEGIN', 0],
      ['CREATE', 0],
      ['INSERT', 3],
      ['SELECT', 3],
      ['SELECT', 1],
      ['COMMIT', 0],
    ])
    expect(results[3].rows).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
    expect(results[4].rows).toEqual([{ sum: 5 }])
  })

  it('are all refused where one is, with its own error; the connection goes on', async () => {
    const results = await connection.together(() =>
      Promise.allSettled([
        connection.query('select 1 as one'),
        connection.query('select 1 / $1::int as none', [0]),
        connection.query('select 2 as two'),
      ]),
    )
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    for (const result of results) expect(result).toMatchObject({ reason: { code: '22012' } })
    // The first was prepared, the last never arrived: both can be asked again.
    expect(await rowsOf('select 1 as one')).toEqual([{ one: 1 }])
    expect(await rowsOf('select 2 as two')).toEqual([{ two: 2 }])
    expect(await rowsOf('select 1 / $1::int as none', [1])).toEqual([{ none: 1 }])
  })

  it('are refused before anything is sent where a parameter is nothing that can be', async () => {
    const results = await connection.together(() =>
      Promise.allSettled([
        connection.query('create temp table never ()'),
        connection.query('select $1::text', [{ an: 'object' }]),
      ]),
    )
    expect(results).toMatchObject([{ reason: { name: 'TypeError' } }, { reason: { name: 'TypeError' } }])
    await expect(rowsOf('select from never')).rejects.toMatchObject({ code: '42P01' })
  })
})

describe('a statement', () => {
  it('is prepared once, and answers the same the second time', async () => {
    const text =
      'select $1::text as text, now() as at, 1.50::numeric as cost, 9007199254740993::bigint as big'
    const first = await rowsOf(text, ['a'])
    expect(await rowsOf(text, ['a'])).toEqual(
      first.map((row) => ({ ...row, at: expect.any(String) as string })),
    )
    expect(first).toEqual([
      {
        text: 'a',
        at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        cost: '1.50',
        big: '9007199254740993',
      },
    ])
    const prepared = await rowsOf(
      'select count(*)::int as n from pg_prepared_statements where statement = $1',
      [text],
    )
    expect(prepared).toEqual([{ n: 1 }])
  })

  it.each([
    ['text', 'quote \' " \\ {} , é🙂 \n'],
    ['text', ''],
    ['text', null],
    ['int', 7],
    ['bool', false],
    ['jsonb', '{"a": "\\"b\\""}'],
  ])('gets a %s as it was given: %j', async (type, value) => {
    const [row] = await rowsOf(`select $1::${type} as value, $2::${type}[] as list`, [value, [value, value]])
    const read = type === 'jsonb' ? (JSON.parse(String(value)) as unknown) : value
    expect(row).toEqual({ value: read, list: [read, read] })
  })

  it('is prepared again when a migration has changed what it returns', async () => {
    await rowsOf('create temp table changing (a int)')
    await rowsOf('select * from changing')
    await rowsOf('alter table changing add b int')
    await expect(rowsOf('select * from changing')).rejects.toMatchObject({ code: '0A000' })
    await rowsOf('insert into changing values (1, 2)')
    expect(await rowsOf('select * from changing')).toEqual([{ a: 1, b: 2 }])
  })

  it('is told that its connection was lost, with all that were sent behind it', async () => {
    const slow = Promise.allSettled([connection.query('select pg_sleep(60)'), connection.query('select 1')])
    const other = await pool.lease()
    await expect
      .poll(async () => {
        const { rows } = await other.query<{ killed: boolean }>(
          `select pg_terminate_backend(pid) as killed from pg_stat_activity where query = 'select pg_sleep(60)'`,
        )
        return rows.length
      })
      .toBe(1)
    other.release(false)
    expect((await slow).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  })
})
