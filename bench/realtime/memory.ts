/** What sockets cost that do nothing, and those whose clients stopped reading. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Used } from '../probe.ts'
import type { Row } from '../report.ts'
import { median } from '../statistics.ts'
import { compareWith, type Findings } from './findings.ts'
import { postSteadily, type Poster } from './posting.ts'
import type { Instance } from './processes.ts'
import { kilobytes, megabytes, number, row, setStage, type Bench, type Stage } from './stage.ts'
import { rivulet, socketio, type Subject } from './subjects.ts'

/** What a server needs to come to rest after connects, ms. */
const restMs = 4_000

/**
 * What is garbage of the start keeps its pages, in which sockets then find room: how much one takes is seen only where
 * there is little garbage, so there the young generation is small (MB).
 */
const smallYoung = '--max-semi-space-size=2'

/** So many sockets, and nothing is sent but heartbeats. After a full collection, in a server that has served before. */
export async function idle(bench: Bench): Promise<{ rows: Row[]; bytesPerSocket: Map<string, number> }> {
  const count = bench.quick ? 1_000 : 10_000
  const rows: Row[] = []
  const bytesPerSocket = new Map<string, number>()
  for (const subject of [rivulet, socketio].filter(bench.measures)) {
    bench.say(`idle: ${count} sockets, ${subject.name}`)
    const asStarted = await hold(bench, subject, count, [])
    const small = await hold(bench, subject, count, [smallYoung])
    const each = (of: (used: Used) => number) => (of(small.after) - of(small.before)) / count
    const bytes = each(({ rssBytes }) => rssBytes)
    bytesPerSocket.set(subject.name, bytes)
    rows.push(
      row(`${count} idle sockets`, subject.name, {
        'MB with none': megabytes(asStarted.before.rssBytes),
        'MB with all': megabytes(asStarted.after.rssBytes),
        'small young generation: with none': megabytes(small.before.rssBytes),
        'with all': megabytes(small.after.rssBytes),
        'KB each': kilobytes(bytes),
        'of it heap': kilobytes(each(({ heapBytes }) => heapBytes)),
        'connects/s': number((count / asStarted.tookMs) * 1000),
        'CPU µs/connect': number((asStarted.after.cpuUs - asStarted.before.cpuUs) / count),
        'PostgreSQL µs/connect': number(asStarted.postgresUs / count),
      }),
    )
  }
  return { rows, bytesPerSocket }
}

async function hold(
  bench: Bench,
  subject: Subject,
  count: number,
  args: string[],
): Promise<{ before: Used; after: Used; tookMs: number; postgresUs: number }> {
  await using stage = await setStage(bench, subject, ['--expose-gc', ...args])
  const server = await stage.start()
  // Code and pools that the first ones need stay: they are no cost of the others.
  const first = count / 20
  await stage.open(0, first, [server.port])
  await stage.crowd.leave({ first: 0, count: first })
  await delay(restMs)
  const before = await server.used()
  const postgresBefore = bench.postgres.cpuUs()
  const tookMs = await stage.open(0, count, [server.port])
  const postgresUs = bench.postgres.cpuUs() - postgresBefore
  await delay(restMs)
  const after = await server.used()
  return { before, after, tookMs, postgresUs }
}

/** Of a flood to each: first what fills the kernel's buffers of a client that does not read (4 MB here), and then some more. */
const fill = { perSecond: 40, forMs: 10_000 }
const more = { perSecond: 5, forMs: 10_000 }
const fillBytes = 12 * 1024
const stoppedCount = 100

/**
 * Others get events of their own, while a hundred are sent a flood that they read, or do not. What the others notice of
 * the difference, and what a client costs that does not read. The others are measured when the buffers are full.
 */
export async function slow(bench: Bench): Promise<Row[]> {
  const others = bench.quick ? 200 : 1_000
  const rounds = bench.quick ? 1 : 3
  await using stage = await setStage(bench, rivulet, ['--expose-gc'])
  const server = await stage.start()
  const poster = stage.poster(server.port)
  await stage.open(0, others, [server.port])
  const reading: Round[] = []
  const stopped: Round[] = []
  bench.say('slow: warming up')
  await oneRound({ stage, server, poster, others, stops: false })
  for (let round = 1; round <= rounds; round++) {
    bench.say(`slow: ${stoppedCount} clients in a flood, round ${round} of ${rounds}`)
    reading.push(await oneRound({ stage, server, poster, others, stops: false }))
    stopped.push(await oneRound({ stage, server, poster, others, stops: true }))
  }
  const p99 = (list: Round[]) => median(list.map(({ seen }) => seen.fromSendMs.p99))
  const p50 = (list: Round[]) => median(list.map(({ seen }) => seen.fromSendMs.p50))
  const grown = (list: Round[], of: (used: Used) => number) =>
    kilobytes(median(list.map(({ before, after }) => of(after) - of(before))) / stoppedCount)
  const flooded = (fill.perSecond * fill.forMs + more.perSecond * more.forMs) * (fillBytes / 1000)
  const scenario = `${stoppedCount} stopped clients beside ${others} others, ${megabytes(flooded)} MB sent to each of the ${stoppedCount}`
  return [
    row(scenario, rivulet.name, {
      'others p50, all read, ms': number(p50(reading)),
      p99: number(p99(reading)),
      'p50, 100 stopped': number(p50(stopped)),
      'p99, stopped': number(p99(stopped)),
      'p99 / p99': (p99(stopped) / p99(reading)).toFixed(2),
      'KB each, RSS': grown(stopped, ({ rssBytes }) => rssBytes),
      'of it heap': grown(stopped, ({ heapBytes }) => heapBytes),
      'RSS, all read': grown(reading, ({ rssBytes }) => rssBytes),
      'durable missing': String(stopped.reduce((sum, { missing }) => sum + missing, 0)),
      'how they were closed': JSON.stringify(stopped.at(-1)?.endings ?? {}).replaceAll('"', ''),
    }),
  ]
}

interface Round {
  /** The others' events. */
  seen: Findings
  before: Used
  after: Used
  /** Durable events that those in the flood never got. */
  missing: number
  endings: Record<string, number>
}

async function oneRound(options: {
  stage: Stage
  server: Instance
  poster: Poster
  others: number
  stops: boolean
}): Promise<Round> {
  const { stage, server, poster, others, stops } = options
  const { crowd } = stage
  const flooded = Array.from({ length: stoppedCount }, (_, index) => others + index)
  await stage.open(others, stoppedCount, [server.port])
  await crowd.forget()
  await crowd.take()
  const before = await server.used()
  if (stops) await crowd.stopReading({ first: others, count: stoppedCount })
  const flood = (rate: typeof fill) =>
    postSteadily({
      ...rate,
      poster: () => poster,
      make: (_n, sentUs) => ({ request: rivulet.emit(sentUs, { users: flooded, fillBytes }), users: [] }),
    })
  await flood(fill)
  const [posted, durable] = await Promise.all([
    postSteadily({
      perSecond: 200,
      forMs: more.forMs,
      poster: () => poster,
      make: (n, sentUs) => ({ request: rivulet.send(n % others, sentUs), users: [n % others] }),
    }),
    postSteadily({
      perSecond: 1,
      forMs: more.forMs,
      poster: () => poster,
      make: (_n, sentUs) => ({ request: rivulet.bulk(flooded, sentUs), users: flooded }),
    }),
    flood(more),
  ])
  const after = await server.used()
  await crowd.goOnReading()
  // What the kernel held is read first, then what the server has to say, if it has closed them.
  await stage.settle()
  const { endings, live } = await crowd.awaitLive({ count: others + stoppedCount, withinMs: 60_000 })
  if (live < others + stoppedCount)
    throw new Error(`${others + stoppedCount - live} clients did not come back`)
  await stage.settle()
  const events = await crowd.take()
  await crowd.leave({ first: others, count: stoppedCount })
  return {
    seen: compareWith(posted.accepted, events),
    before,
    after,
    missing: compareWith(durable.accepted, events).missing,
    endings,
  }
}
