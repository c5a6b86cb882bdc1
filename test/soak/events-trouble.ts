/** Events while something is away: their process, the database, the broker. None is lost, and none is done twice. */
import { execFile } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { answer } from '../../src/embedded/demo-model.ts'
import { rabbitUrl } from '../support/rabbitmq.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { startAmqpTap } from './amqp-tap.ts'
import { judge, judgeQueues } from './events-judge.ts'
import { bodyOf, until, type Stand, type Told } from './events-stand.ts'

const kills = { full: 50, quick: 3 }
/** Whoever waits for a lock of ours is given up after 5 s, and its event tried again later: less than that, ms. */
const holdMs = 3_500
/** A killed process's jobs are leased for a minute, its welcomes silent for half of one: what has to wait for that, ms. */
const leasesMs = 180_000
/** What nobody has to wait for that is done, ms. */
const soonMs = 20_000
const outage = {
  events: 100,
  databaseMs: { full: 60_000, quick: 10_000 },
  brokerMs: { full: 10_000, quick: 3_000 },
}
/** What an instance may hold. */
const prefetch = 20
/** From a broker that is back until something is taken from it again, ms. */
const backWithinMs = 15_000

/** kill -9 between commit and acknowledgement: what an instance has committed is always brought again, to the next one. */
export async function killed(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber, random, topology, world } = stand
  const proxy = await startTcpProxy(rabbitUrl)
  const told: Told[] = []
  try {
    const count = orders.quick ? kills.quick : kills.full
    for (let aimed = 0, tried = 0; aimed < count && tried < 2 * count; tried++) {
      const beganAt = Date.now()
      const instance = await stand.start(proxy.url)
      ledger.time('an instance starts', caseNumber, Date.now() - beganAt)
      const emptied = await until(
        soonMs * orders.patience,
        async () => (await stand.depth(topology.queue)) === 0,
      )
      ledger.check('what came back is taken by the next one', caseNumber, emptied)
      ledger.time('a start until it has taken what came back', caseNumber, Date.now() - beganAt)
      const some = stand.assessments(
        random.int(1, 12),
        answer(['Welcome', ' to', ' your', ' results.'], { perTokenMs: random.pick([0, 50, 400]) }),
      )
      told.push(...some)
      const claims = await holdClaims(world.databaseUrl)
      const heldAt = Date.now()
      await stand.publish(some.map((one) => bodyOf(one, { event_id: one.assessmentId })))
      // One has come as far as the database, and all of them to the instance.
      await until(holdMs, async () => (await claims.waiting()) > 0)
      await until(holdMs, async () => (await stand.depth(topology.queue)) === 0)
      proxy.freeze()
      await claims.release()
      const isAimed = Date.now() - heldAt < holdMs
      const committed = await until(soonMs * orders.patience, () => areClaimed(stand, some))
      if (isAimed)
        ledger.check('all is committed although nothing can be acknowledged', caseNumber, committed)
      ledger.time('a start until the moment of the kill', caseNumber, Date.now() - beganAt)
      await delay(random.int(0, 60))
      await instance.kill()
      await proxy.refuse()
      await proxy.pass()
      if (!isAimed) {
        ledger.note('kills that came too late to be aimed')
        continue
      }
      aimed++
      const all = await until(soonMs, async () => (await stand.depth(topology.queue)) >= some.length)
      ledger.check('each kill came between commit and acknowledgement', caseNumber, all)
      ledger.note('kills')
    }
    // Nobody lives who could hold them: who is in a hurry need not wait until they run out.
    if (orders.quick) {
      await world.sql`update chat.jobs set leased_until = now() where leased_until > now()`
      await world.sql`
        update chat.generations set heartbeat_at = now() - interval '1 minute' where status = 'running'`
    }
    const last = await stand.start(proxy.url)
    const startedAt = Date.now()
    const inTime = await stand.untilReady(told.length, leasesMs)
    ledger.check('every adviser is ready in the end', caseNumber, inTime)
    ledger.time('from the last start until every adviser is ready', caseNumber, Date.now() - startedAt)
    await judge(stand, told, { killed: true })
    await last.kill()
    await judgeQueues(stand, 0)
  } finally {
    await proxy.close()
  }
}

/** Claims of events wait until they are released: as behind a slow disk. */
async function holdClaims(
  databaseUrl: string,
): Promise<{ waiting: () => Promise<number>; release: () => Promise<void> }> {
  const [holder, looker] = [databaseUrl, databaseUrl].map(
    (connectionString) => new pg.Client({ connectionString }),
  )
  if (holder === undefined || looker === undefined) throw new Error('no connection')
  await Promise.all([holder.connect(), looker.connect()])
  await holder.query('begin')
  await holder.query('lock table chat.processed_events in share mode')
  return {
    async waiting() {
      const { rows } = await looker.query<{ count: number }>(`
        select count(*)::int from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%processed_events%'`)
      return rows[0]?.count ?? 0
    },
    async release() {
      await holder.query('commit')
      await Promise.all([holder.end(), looker.end()])
    },
  }
}

async function areClaimed({ world }: Stand, told: readonly Told[]): Promise<boolean> {
  const [row] = await world.sql<{ count: number }>`
    select count(*)::int from chat.processed_events where event_id = any(${told.map((one) => one.assessmentId)})`
  return row?.count === told.length
}

/** A hundred events come while PostgreSQL is stopped. */
export async function withoutDatabase(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber, postgres, topology } = stand
  const tap = await startAmqpTap(rabbitUrl)
  try {
    const pair = await Promise.all([stand.start(tap.url), stand.start(tap.url)])
    const told = stand.assessments(outage.events)
    // Both take from the queue when it goes.
    const [first, ...others] = told
    if (first === undefined) throw new Error('nothing to tell')
    await stand.publish([bodyOf(first)])
    await stand.untilReady(1, soonMs * orders.patience)
    const before = tap.seen()
    const crashed = postgres.crash(orders.quick ? outage.databaseMs.quick : outage.databaseMs.full)
    await until(soonMs, async () => (await stand.ready()) === undefined)
    await stand.publish(others.map((one) => bodyOf(one)))
    await delay((orders.quick ? outage.databaseMs.quick : outage.databaseMs.full) / 2)
    const half = tap.seen()
    const { backAt } = await crashed
    const meanwhile = tap.seen()
    const kept = meanwhile.acked === before.acked
    ledger.check('nothing is acknowledged that is not committed', caseNumber, kept, () =>
      JSON.stringify(meanwhile),
    )
    const delivered = meanwhile.delivered - before.delivered
    // Each of two instances looks at what it may hold, and once or twice more before it knows.
    const few = 3 * 2 * prefetch
    ledger.check('no hot loop: few are delivered while it is away', caseNumber, delivered <= few, () =>
      JSON.stringify({ half, meanwhile }),
    )
    for (let one = 0; one < delivered; one++) ledger.note('deliveries while the database is away')
    const inTime = await stand.untilReady(told.length, leasesMs)
    ledger.check('none is lost: every adviser is ready', caseNumber, inTime)
    ledger.time('from the database back until every adviser is ready', caseNumber, Date.now() - backAt)
    await until(soonMs, () => tap.seen().unacked === 0)
    await judge(stand, told)
    await Promise.all(pair.map((instance) => instance.kill()))
    await judgeQueues(stand, 0)
    const dead = await stand.depth(topology.deadQueue)
    ledger.check('no event is given up', caseNumber, dead === 0)
  } finally {
    await tap.close()
  }
}

/** The broker restarts (`--broker`), or its network is cut and refuses: what was published before and meanwhile is done. */
export async function withoutBroker(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber } = stand
  const proxy = await startTcpProxy(rabbitUrl)
  try {
    const pair = await Promise.all([stand.start(proxy.url), stand.start(proxy.url)])
    const [before, meanwhile, after] = [stand.assessments(60), stand.assessments(40), stand.assessments(1)]
    await stand.publish(before.slice(0, 10).map((one) => bodyOf(one)))
    await stand.untilReady(10, soonMs * orders.patience)
    await stand.publish(before.slice(10).map((one) => bodyOf(one)))
    // In the middle of it.
    await until(soonMs, async () => ((await stand.ready()) ?? 0) > 15)
    const sending = Promise.withResolvers<undefined>()
    const published = sending.promise.then(() => stand.publish(meanwhile.map((one) => bodyOf(one))))
    const backAt = await takeBrokerAway(stand, proxy, () => sending.resolve(undefined))
    await published
    // Published behind its return: somebody consumes again when it is done.
    const [probe] = after
    if (probe === undefined) throw new Error('nothing to ask with')
    await stand.publish([bodyOf(probe, { event_id: probe.assessmentId })])
    const takenAgain = await until(backWithinMs * 2 * orders.patience, () => areClaimed(stand, [probe]))
    ledger.check('somebody consumes again', caseNumber, takenAgain)
    ledger.time(
      'from the broker back until all that waited was taken',
      caseNumber,
      Date.now() - backAt,
      backWithinMs * orders.patience,
    )
    const told = [...before, ...meanwhile, ...after]
    const inTime = await stand.untilReady(told.length, leasesMs)
    ledger.check('none is lost: every adviser is ready', caseNumber, inTime)
    ledger.time('from the broker back until every adviser is ready', caseNumber, Date.now() - backAt)
    await judge(stand, told)
    await Promise.all(pair.map((instance) => instance.kill()))
    await judgeQueues(stand, 0)
  } finally {
    await proxy.close()
  }
}

/** @param gone is called when it is. @returns since when it is back, epoch ms. */
async function takeBrokerAway(
  { orders }: Stand,
  proxy: { refuse: () => Promise<void>; pass: () => Promise<void> },
  gone: () => void,
): Promise<number> {
  const awayMs = orders.quick ? outage.brokerMs.quick : outage.brokerMs.full
  if (orders.broker === true) {
    const control = async (command: string) =>
      promisify(execFile)('rabbitmqctl', [command], { timeout: 60_000 })
    await control('stop_app')
    gone()
    try {
      await delay(awayMs)
    } finally {
      await control('start_app')
    }
  } else {
    await proxy.refuse()
    gone()
    await delay(awayMs)
    await proxy.pass()
  }
  return Date.now()
}
