/** What devices say that they have: which rows become delivered, and when not. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { createAcks, lookBackMax } from '../../src/realtime/acks.ts'
import { openDatabase } from '../support/cluster.ts'
import { createGate } from '../support/gate.ts'
import { hold } from '../support/races.ts'
import { cloneDatabase } from '../support/service.ts'
import { publishTitles, startSockets } from '../support/sockets.ts'

let database: Database
let sql: Sql
let drop: () => Promise<void>

beforeAll(async () => {
  const clone = await cloneDatabase()
  drop = clone.drop
  database = openDatabase(clone.url, 4).database
  await database.prepare(new AbortController().signal)
  sql = postgres(clone.url, { max: 3, onnotice: () => undefined })
})
afterAll(async () => {
  await sql.end()
  await database.close()
  await drop()
})

const someone = () => `ann-${randomUUID()}`

async function delivered(userId: string): Promise<number[]> {
  const rows = await sql<{ seq: number }[]>`
    select seq::int as seq from chat.notifications
    where user_id = ${userId} and delivered_at is not null order by seq`
  return rows.map(({ seq }) => seq)
}

function start(transactions = database as Parameters<typeof createAcks>[0]['transactions'], everyMs = 10) {
  const acks = createAcks({ transactions, log: pino({ level: 'silent' }), everyMs })
  onTestFinished(() => acks.close())
  return acks
}

it('marks what is between two places, of that user and that log alone', async () => {
  const [ann, bob] = [someone(), someone()]
  const [head] = await publishTitles(database, ann, ['a', 'b', 'c', 'd'])
  await publishTitles(database, bob, ['a', 'b'])
  const epoch = head?.epoch ?? ''
  const acks = start()
  acks.note({ userId: ann, epoch: 'another', after: 0, upTo: 4 })
  acks.note({ userId: ann, epoch, after: 1, upTo: 2 })
  acks.note({ userId: ann, epoch, after: 2, upTo: 3 })
  await expect.poll(() => delivered(ann)).toEqual([2, 3])
  expect(await delivered(bob)).toEqual([])
})

it('is one statement for all who acknowledged meanwhile', async () => {
  const users = Array.from({ length: 20 }, someone)
  const heads = (await Promise.all(users.map((userId) => publishTitles(database, userId, ['a'])))).flat()
  let statements = 0
  const acks = start({
    asCaller: (caller, fn) => database.asCaller(caller, fn),
    asSystem(why, fn) {
      statements++
      return database.asSystem(why, fn)
    },
  })
  for (const { userId, epoch } of heads) acks.note({ userId, epoch, after: 0, upTo: 1 })
  for (const userId of users) await expect.poll(() => delivered(userId)).toEqual([1])
  expect(statements).toBe(1)
})

it('leaves out a row that somebody changes at the moment, and waits for nobody', async () => {
  const ann = someone()
  const [head] = await publishTitles(database, ann, ['a', 'b', 'c'])
  const release = await hold(
    sql,
    (session) => session`
    select from chat.notifications where user_id = ${ann} and seq = 2 for update`,
  )
  const acks = start()
  acks.note({ userId: ann, epoch: head?.epoch ?? '', after: 0, upTo: 3 })
  await expect.poll(() => delivered(ann)).toEqual([1, 3])
  await release()
})

it('does not mark a newer version than the one that was acknowledged', async () => {
  const ann = someone()
  const [head] = await publishTitles(database, ann, ['a', 'b'])
  const gate = createGate(database, 'acknowledge')
  const acks = start(gate.transactions)
  acks.note({ userId: ann, epoch: head?.epoch ?? '', after: 0, upTo: 2 })
  await expect.poll(() => gate.held.length).toBe(1)
  // It moves before the statement is executed.
  await sql`update chat.notifications set seq = 3, delivered_at = null where user_id = ${ann} and seq = 1`
  await gate.open()
  await expect.poll(() => delivered(ann)).toEqual([2])
})

it('is tried again where the database is away, with what came meanwhile', async () => {
  const ann = someone()
  const [head] = await publishTitles(database, ann, ['a', 'b'])
  const epoch = head?.epoch ?? ''
  const gate = createGate(database, 'acknowledge')
  const acks = start(gate.transactions)
  acks.note({ userId: ann, epoch, after: 0, upTo: 1 })
  await expect.poll(() => gate.held.length).toBe(1)
  acks.note({ userId: ann, epoch, after: 1, upTo: 2 })
  gate.held[0]?.fail(new Error('gone'))
  await expect.poll(() => gate.held.length).toBe(1)
  await gate.open()
  await expect.poll(() => delivered(ann)).toEqual([1, 2])
})

it('writes what is noted before it is closed', async () => {
  const ann = someone()
  const [head] = await publishTitles(database, ann, ['a'])
  const acks = start(database, 3_600_000)
  acks.note({ userId: ann, epoch: head?.epoch ?? '', after: 0, upTo: 1 })
  await acks.close()
  expect(await delivered(ann)).toEqual([1])
})

it('takes the cursor that a device comes back with for an ack, as far back as it may have missed one', async () => {
  const bench = await startSockets({ transactions: database })
  const ann = someone()
  const { epoch } = await bench.publish(
    ann,
    Array.from({ length: lookBackMax + 10 }, (_, n) => `${n}`),
  )
  const socket = await bench.open(ann, { cursor: `${epoch}.${lookBackMax + 5}`, ack: false })
  await socket.live()
  await expect.poll(() => delivered(ann)).toEqual(Array.from({ length: lookBackMax }, (_, n) => n + 6))
})
