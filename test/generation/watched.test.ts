/** Who has watched an answer to its end: what its response's socket took; and how that is noted for many at once. */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import postgres, { type Sql } from 'postgres'
import type { Database, Transactions } from '../../src/db/database.ts'
import { createWatched, type Watched } from '../../src/generation/engine.ts'
import { unwatchedKind } from '../../src/generation/news.ts'
import { enqueue } from '../../src/jobs/jobs.ts'
import { openDatabase } from '../support/cluster.ts'
import { cloneDatabase } from '../support/service.ts'

let db: Database
let sql: Sql
let drop: () => Promise<void>

beforeAll(async () => {
  const clone = await cloneDatabase()
  drop = clone.drop
  sql = postgres(clone.url, { max: 1, onnotice: () => undefined })
  db = openDatabase(clone.url).database
  await db.prepare(new AbortController().signal)
})
afterAll(async () => {
  await db.close()
  await sql.end()
  await drop()
})

/** Over the real database. `transactions`: how many there were, and when, ms. */
function watch(options: { everyMs?: number } = {}) {
  const startedAtMs: number[] = []
  const counting: Transactions = {
    ...db,
    asSystem(why, fn) {
      startedAtMs.push(performance.now())
      return db.asSystem(why, fn)
    },
  }
  const watched = createWatched({
    transactions: counting,
    log: pino({ level: 'silent' }),
    nowMs: () => performance.now(),
    ...options,
  })
  onTestFinished(() => watched.close())
  return { watched, startedAtMs }
}

const leave = (ids: readonly string[]) =>
  db.asSystem('a test', (tx) =>
    tx.commit(() =>
      Promise.all(
        ids.map((key) =>
          enqueue(tx, { kind: unwatchedKind, key, userId: null, payload: {}, afterMs: 60_000 }),
        ),
      ),
    ),
  )
const left = async () => (await sql`select key from chat.jobs order by key`).map(({ key }) => String(key))

/** A server that answers each request as it is told to, and a client's socket that has asked. */
async function serve(answer: (response: ServerResponse) => void, requests = 1) {
  const server = createServer((_request, response) => answer(response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.on('error', () => undefined)
  onTestFinished(() => {
    client.destroy()
    server.closeAllConnections()
    server.close()
  })
  const asked = once(server, 'request')
  client.write('GET / HTTP/1.1\r\nhost: test\r\n\r\n'.repeat(requests))
  await asked
  return client
}

/** More than any socket's buffers hold. */
const muchBytes = 64 * 1024 * 1024

it.each<[string, (client: Socket, response: ServerResponse) => void]>([
  ['is cut off for it', (_client, response) => response.destroy()],
  ['goes', (client) => client.destroy()],
  ['is reset', (client) => client.resetAndDestroy()],
])('a client who has not read the end, and %s, has not watched it', async (_how, end) => {
  const { watched, startedAtMs } = watch()
  const responses: ServerResponse[] = []
  const client = await serve((response) => {
    responses.push(response)
    watched.by(response, 'g1')
    response.end(Buffer.alloc(muchBytes))
  })
  const [response] = responses
  if (response === undefined) throw new Error('nobody asked')
  const closed = once(response, 'close')
  // It does not read, and then is gone.
  await delay(20)
  end(client, response)
  await closed
  await watched.close()
  expect(startedAtMs).toEqual([])
})

it('a client who has read it has, also where its request waited behind another', async () => {
  await leave(['first', 'second', 'third'])
  const { watched } = watch()
  const names = ['first', 'second']
  const client = await serve((response) => {
    watched.by(response, names.shift() ?? '')
    setImmediate(() => response.end(Buffer.alloc(1024 * 1024)))
  }, 2)
  client.resume()
  await expect.poll(left).toEqual(['third'])
  await sql`delete from chat.jobs`
})

/** Responses that have ended, as far as anybody who listens can tell. */
async function end(watched: Watched, ids: readonly string[]): Promise<void> {
  for (let at = 0; at < ids.length; at += 500) {
    const some = [...ids.slice(at, at + 500)]
    const count = some.length
    let ended = 0
    const all = Promise.withResolvers<undefined>()
    const client = await serve((response) => {
      watched.by(response, some.shift() ?? '')
      response.end()
      if (++ended === count) response.once('finish', () => all.resolve(undefined))
    }, count)
    client.resume()
    await all.promise
  }
}

it('many are noted together: the first at once, then a statement a second, of a thousand at most', async () => {
  const ids = Array.from({ length: 2_500 }, (_, n) => `g${n}`)
  await leave(ids)
  const { watched, startedAtMs } = watch()
  await end(watched, ids.slice(0, 1))
  await expect.poll(() => startedAtMs).toHaveLength(1)
  await end(watched, ids.slice(1))
  await expect.poll(left, { timeout: 10_000 }).toEqual([])
  expect(startedAtMs.length).toBeGreaterThanOrEqual(3)
  for (const [nth, atMs] of startedAtMs.slice(1).entries())
    expect(atMs - (startedAtMs[nth] ?? Infinity)).toBeGreaterThan(990)
})

it('what is noted and not stored yet is stored by the close', async () => {
  await leave(['g1', 'g2', 'g3'])
  const { watched } = watch({ everyMs: 3_600_000 })
  await end(watched, ['g1'])
  await expect.poll(left).toEqual(['g2', 'g3'])
  await end(watched, ['g2'])
  expect(await left()).toEqual(['g2', 'g3'])
  await watched.close()
  expect(await left()).toEqual(['g3'])
  await sql`delete from chat.jobs`
})

it('a statement that another one holds up is not waited for: who is being told at this moment is told', async () => {
  await leave(['held', 'free'])
  const holding = await sql.begin(async (session) => {
    await session`select from chat.jobs where key = 'held' for update`
    const { watched } = watch()
    await end(watched, ['held', 'free'])
    await expect
      .poll(async () => (await session`select key from chat.jobs order by key`).map(({ key }) => String(key)))
      .toEqual(['held'])
    await watched.close()
    return 'done'
  })
  expect(holding).toBe('done')
  await sql`delete from chat.jobs`
})
