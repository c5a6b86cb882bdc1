/** Of several statements under way the one that failed says why, whichever of them is awaited how. */
import { expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Database, Tx } from '../../src/db/database.ts'
import { ownDatabase } from '../support/own-database.ts'

let database: Database
ownDatabase(4, (own) => ({ database } = own))

/** Heard of later than a statement that is awaited as it is. */
async function deeper(promise: Promise<unknown>): Promise<void> {
  await (async () => {
    await promise
  })()
}

it.each([
  ['deeper', (promise: Promise<unknown>) => deeper(promise)],
  ['as it is', (promise: Promise<unknown>) => promise],
])('where it is awaited %s than those behind it', async (_name, awaited) => {
  await expect(
    database.asSystem('test', (tx) =>
      Promise.all([
        awaited(tx.execute(sql`select 1 / 0`)),
        tx.execute(sql`select 2`),
        tx.execute(sql`select 3`),
      ]),
    ),
  ).rejects.toMatchObject({ code: '22012' })
})

it('a deadlock is known for one, and the transaction is run again', async () => {
  const runs = { one: 0, other: 0 }
  const bothHold = Promise.withResolvers<undefined>()
  let holding = 0
  const crossing = (name: keyof typeof runs, first: number, second: number) =>
    database.asSystem('test', async (tx: Tx) => {
      runs[name]++
      await tx.execute(sql`select pg_advisory_xact_lock(${first}::bigint)`)
      if (++holding === 2) bothHold.resolve(undefined)
      await bothHold.promise
      const [, [row]] = await Promise.all([
        deeper(tx.execute(sql`select pg_advisory_xact_lock(${second}::bigint)`)),
        tx.execute<{ done: number }>(sql`select 1 as done`),
      ])
      return row?.done
    })
  expect(await Promise.all([crossing('one', 1, 2), crossing('other', 2, 1)])).toEqual([1, 1])
  expect(runs.one + runs.other).toBe(3)
})
