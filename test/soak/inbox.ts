/**
 * kill -9 while notifications are sent: 200 devices, two instances of which one after the other is killed, and Redis, where
 * there is one, goes away too. In the end every device shows what the inbox holds, told in order, and its badge is right.
 *
 * The control is the same with servers whose cursor is a table's serial number: it has to lose something, or this
 * test could not find anything.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { hasRedis, redisUrl } from '../support/redis.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { startInboxReader, type InboxReader } from './inbox-reader.ts'
import type { Ledger } from './ledger.ts'
import { createGate, runCases, type Orders, type Part } from './part.ts'
import { randomOf, type Random } from './random.ts'
import type { Instance, World } from './world.ts'

const serviceKey = 'a-service-key-of-a-soak-with-more-than-32-characters'
/** 20,000 in 50 kills. */
const eventsPerKill = 400
const sendersAtOnce = 16
/** What an event gets to be taken by somebody, and the devices to be told of all, ms. */
const patienceMs = 60_000
const keysPerUser = 5

export const inbox: Part = (world, orders) =>
  runCases('inbox', orders, 1, (caseNumber, ledger) => round(world, orders, caseNumber, ledger, undefined))

export const serialInbox: Part = (world, orders) =>
  runCases('serial', orders, 1, async (caseNumber, ledger) => {
    const found = await lossesOf(world, orders, caseNumber)
    ledger.check(
      'a cursor of serial numbers loses notifications',
      caseNumber,
      found > 0,
      () => 'nothing was lost',
    )
    for (let index = 0; index < found; index++) ledger.note('notifications that a serial cursor lost')
    return orders.count
  })

/** How much the same load loses behind a cursor of serial numbers. */
async function lossesOf(world: World, orders: Orders, caseNumber: number): Promise<number> {
  const violations: string[] = []
  const listen: Pick<Ledger, 'check' | 'note' | 'time'> = {
    check: (_property, _case, holds, detail) => {
      if (!holds) violations.push(detail?.() ?? '')
    },
    note: () => undefined,
    time: () => undefined,
  }
  await round(world, orders, caseNumber, listen, join(import.meta.dirname, 'serial-instance.ts'))
  return violations.length
}

type Notes = Pick<Ledger, 'check' | 'note' | 'time'>

/** @param program of other instances than ours. @returns how many were killed */
async function round(
  world: World,
  { seed, count, quick, patience }: Orders,
  caseNumber: number,
  ledger: Notes,
  program: string | undefined,
): Promise<number> {
  const random = randomOf(seed, 'inbox', caseNumber)
  const users = Array.from({ length: quick ? 40 : 200 }, (_, index) => `inbox-${caseNumber}-${index}`)
  const redis = program === undefined && (await hasRedis()) ? await startTcpProxy(redisUrl) : undefined
  const env = {
    INTERNAL_SERVICE_KEY: serviceKey,
    ...(redis !== undefined && { REDIS_URL: redis.url, REDIS_KEY_PREFIX: `soak-${seed}-${caseNumber}:` }),
  }
  const start = () => world.start(env, program)
  const instances: (Instance | undefined)[] = await Promise.all([start(), start()])
  const origins = () => instances.flatMap((instance) => (instance === undefined ? [] : [instance.origin]))
  const readers = await Promise.all(
    users.map(async (user) =>
      startInboxReader({
        user,
        token: await world.token(user),
        random: randomOf(seed, `inbox ${user}`, caseNumber),
        origins,
      }),
    ),
  )
  const over = new AbortController()
  try {
    // Who comes without a cursor begins at the head.
    while (!readers.every((reader) => reader.isLive())) await delay(20)
    const kills = quick ? Math.min(count, 2) : count
    const sending = send({
      users,
      events: kills * eventsPerKill,
      random,
      origins,
      readers,
      world,
      over: over.signal,
    })
    await killOneAfterAnother({ instances, start, kills, random, redis, ledger })
    const sent = await sending
    ledger.check(
      'what is sent is taken by somebody',
      caseNumber,
      sent.refused === 0,
      () => `${sent.refused} not`,
    )
    const startedAt = Date.now()
    const late = await settled(world, readers, program, patienceMs * patience)
    ledger.time('from the last event until every device has all', caseNumber, Date.now() - startedAt)
    ledger.check('every device is told of all', caseNumber, late.length === 0, () =>
      late.slice(0, 5).join('\n'),
    )
    await judge(world, readers, program, caseNumber, ledger)
    for (const { counts } of readers) {
      for (let index = 1; index < counts.connects; index++) ledger.note('times that a device came back')
      for (let index = 0; index < counts.applied; index++) ledger.note('events that devices applied')
      for (let index = 0; index < counts.gaps; index++) ledger.note('gaps that a device found')
    }
    return count
  } finally {
    over.abort()
    await Promise.all(readers.map((reader) => reader.close()))
    await Promise.all(instances.flatMap((instance) => (instance === undefined ? [] : [instance.kill()])))
    await redis?.close()
  }
}

async function killOneAfterAnother(of: {
  instances: (Instance | undefined)[]
  start: () => Promise<Instance>
  kills: number
  random: Random
  redis: TcpProxy | undefined
  ledger: Notes
}): Promise<void> {
  const { instances, start, kills, random, redis, ledger } = of
  for (let kill = 0; kill < kills; kill++) {
    await delay(random.int(50, 1_500))
    if (redis !== undefined && random.chance(0.3)) {
      ledger.note('times that Redis was killed')
      await redis.refuse()
      await delay(random.int(0, 500))
      await redis.pass()
    }
    const victim = random.int(0, 1)
    const instance = instances[victim]
    // Nobody is sent there any more, and whoever is there finds out by itself.
    instances[victim] = undefined
    await instance?.kill()
    ledger.note('kills')
    instances[victim] = await start()
  }
}

/** @returns how many were taken by nobody. */
async function send(of: {
  users: readonly string[]
  events: number
  random: Random
  origins: () => readonly string[]
  readers: readonly InboxReader[]
  world: World
  over: AbortSignal
}): Promise<{ refused: number }> {
  const { users, events, random, origins, readers, world, over } = of
  const gate = createGate(sendersAtOnce)
  let refused = 0
  const all: Promise<void>[] = []
  for (let n = 0; n < events && !over.aborted;) {
    const index = random.int(0, users.length - 1)
    const user = users[index] ?? ''
    // Several at once to one user: whose numbers are those that get mixed up.
    const bodies = Array.from({ length: Math.min(random.pick([1, 1, 1, 4]), events - n) }, () => ({
      user_id: user,
      type: 'reminder',
      title: `event ${n}`,
      body: 'x'.repeat(random.int(1, 400)),
      data: { n: n++ },
      ...(random.chance(0.3) && { dedupe_key: `key-${random.int(1, keysPerUser)}` }),
    }))
    const read = random.chance(0.1)
    all.push(
      gate(async () => {
        const post = (path: string, body: object, token: string, key: string) =>
          insist(origins, path, body, token, key, over)
        const taken = await Promise.all(
          bodies.map((body) => post('/internal/notifications', body, serviceKey, `${user}-${body.data.n}`)),
        )
        refused += taken.filter((one) => !one).length
        const upTo = readers[index]?.cursor() ?? 0
        if (read && upTo > 0)
          await post('/notifications/read', { up_to: upTo }, await world.token(user), `${user}-${n}-read`)
        await delay(100)
      }),
    )
  }
  await Promise.all(all)
  return { refused }
}

/** Sends until somebody takes it: an instance that was killed may have stored it. @returns whether it was taken */
async function insist(
  origins: () => readonly string[],
  path: string,
  body: object,
  token: string,
  key: string,
  over: AbortSignal,
): Promise<boolean> {
  const deadline = Date.now() + patienceMs
  // Each sender has its own idea of who comes first.
  const first = key.length + (key.codePointAt(key.length - 1) ?? 0)
  for (let attempt = first; Date.now() < deadline && !over.aborted; attempt++) {
    const all = origins()
    const origin = all[attempt % Math.max(all.length, 1)]
    try {
      const answer = await fetch(`${String(origin)}/api/chat${path}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'idempotency-key': key,
        },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(5_000),
      })
      await answer.arrayBuffer()
      if (answer.ok) return true
    } catch {
      // Killed, or being killed.
    }
    await delay(20 + (attempt - first) * 20)
  }
  return false
}

interface HeadRow {
  user_id: string
  seq: string
  unread: number
}

const headsIn = (world: World, program: string | undefined) =>
  program === undefined
    ? world.sql<HeadRow>`select user_id, seq, unread from chat.inbox_heads where user_id like 'inbox-%'`
    : world.sql<HeadRow>`select user_id, max(id) as seq, 0 as unread from serial_notifications group by user_id`

/** Waits until every device stands at its log's end. @returns those who do not, in words */
async function settled(
  world: World,
  readers: readonly InboxReader[],
  program: string | undefined,
  withinMs: number,
): Promise<string[]> {
  for (const deadline = Date.now() + withinMs; ;) {
    const heads = new Map((await headsIn(world, program)).map((row) => [row.user_id, Number(row.seq)]))
    const late = readers.filter(
      (reader) => !reader.isLive() || reader.cursor() < (heads.get(reader.user) ?? 0),
    )
    if (late.length === 0 || Date.now() > deadline)
      return late.map(
        (reader) =>
          `${reader.user}: at ${reader.cursor()} of ${heads.get(reader.user) ?? 0}, live ${String(reader.isLive())}`,
      )
    await delay(100)
  }
}

interface StoredRow {
  user_id: string
  id: string
  seq: string
  title: string
  read: boolean
}

async function judge(
  world: World,
  readers: readonly InboxReader[],
  program: string | undefined,
  caseNumber: number,
  ledger: Notes,
): Promise<void> {
  const stored =
    program === undefined
      ? await world.sql<StoredRow>`
          select user_id, id::text, seq, title, read_at is not null as read from chat.notifications
          where user_id like 'inbox-%' and seq is not null`
      : await world.sql<StoredRow>`
          select user_id, id::text, id as seq, title, false as read from serial_notifications`
  const unread = new Map((await headsIn(world, program)).map((row) => [row.user_id, row.unread]))
  const byUser = Map.groupBy(stored, ({ user_id }) => user_id)
  for (const { user, rows, faults, counts, unread: badge } of readers) {
    const own = byUser.get(user) ?? []
    ledger.check(
      'a device is told in order',
      caseNumber,
      faults.length === 0,
      () => `${user}: ${faults.join('\n')}`,
    )
    for (const { id, seq, title, read } of own) {
      const shown = rows.get(id)
      ledger.check(
        'a device has the last version of every notification',
        caseNumber,
        shown?.seq === Number(seq) && shown.title === title && shown.read === read,
        () => `${user}: ${JSON.stringify(shown)} instead of ${JSON.stringify({ seq, title, read })}`,
      )
    }
    ledger.check(
      'and nothing else',
      caseNumber,
      rows.size <= own.length,
      () => `${user}: ${rows.size} of ${own.length}`,
    )
    if (program !== undefined) continue
    const exact = own.filter(({ read }) => !read).length
    ledger.check(
      'the badge of the last frame is what is unread',
      caseNumber,
      unread.get(user) === exact || (own.length === 0 && unread.get(user) === 0),
      () => `${user}: the head says ${unread.get(user) ?? '?'}, the rows ${exact}`,
    )
    if (counts.applied > 0)
      ledger.check(
        'and the device shows it',
        caseNumber,
        badge() === exact,
        () => `${user}: ${badge() ?? '?'}, ${exact}`,
      )
  }
  if (program !== undefined) return
  const twice = await world.sql<{ n: string }>`
    select data->>'n' as n from chat.notifications where user_id like 'inbox-%' group by 1 having count(*) > 1`
  ledger.check('nothing is stored twice', caseNumber, twice.length === 0, () =>
    twice.map(({ n }) => n).join(' '),
  )
}
