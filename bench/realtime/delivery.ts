/** How long an event takes to its clients, and what it costs the server. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Row } from '../report.ts'
import { median, spread } from '../statistics.ts'
import { noteCommits, readCommits } from './commits.ts'
import { compareWith } from './findings.ts'
import { nextSentUs, postSteadily, type Poster } from './posting.ts'
import type { Instance } from './processes.ts'
import { number, row, setStage, type Bench, type Stage } from './stage.ts'
import { rivulet, socketio, type Request, type Subject } from './subjects.ts'

export interface Targeted {
  rows: Row[]
  /** The server's own, user and system, by how it was asked and by subject. */
  cpuUsPerEvent: Map<string, number>
}

const bulkUsers = 50
/** Unmeasured, before: servers live long. */
const warmUpMs = 4_000

/** So many events a second, each to one of many who are there: one request each, then fifty users to a request. */
export async function targeted(bench: Bench): Promise<Targeted> {
  const count = bench.quick ? 500 : 5_000
  const eventsPerSecond = bench.quick ? 200 : 1_000
  const forMs = bench.quick ? 5_000 : 20_000
  const rows: Row[] = []
  const cpuUsPerEvent = new Map<string, number>()
  for (const how of ['one by one', `${bulkUsers} at once`]) {
    for (const subject of [rivulet, socketio].filter(bench.measures)) {
      bench.say(`targeted: ${eventsPerSecond} events a second, ${how}, ${subject.name}`)
      await using stage = await setStage(bench, subject)
      const server = await stage.start()
      await noteCommits(stage.database.client, subject.table)
      await stage.open(0, count, [server.port])
      const poster = stage.poster(server.port)
      const many = how !== 'one by one'
      const send = (ms: number) =>
        postSteadily({
          perSecond: many ? eventsPerSecond / bulkUsers : eventsPerSecond,
          forMs: ms,
          poster: () => poster,
          make(n, sentUs) {
            if (!many) return { request: subject.send(scatter(n, count), sentUs), users: [scatter(n, count)] }
            const users = Array.from({ length: bulkUsers }, (_, index) =>
              scatter(n * bulkUsers + index, count),
            )
            return { request: subject.bulk(users, sentUs), users }
          },
        })
      await send(warmUpMs)
      await stage.settle()
      await stage.crowd.take()
      const before = await server.used()
      const postgresBefore = bench.postgres.cpuUs()
      const posted = await send(forMs)
      const wanted = [...posted.accepted.values()].reduce((sum, users) => sum + users.length, 0)
      await stage.crowd.awaitEvents({ count: wanted, withinMs: 10_000 })
      const postgresUs = bench.postgres.cpuUs() - postgresBefore
      const after = await server.used()
      await stage.settle()
      const events = await stage.crowd.take()
      const found = compareWith(posted.accepted, events, await readCommits(stage.database.client))
      const each = (after.cpuUs - before.cpuUs) / found.delivered
      cpuUsPerEvent.set(`${how} · ${subject.name}`, each)
      rows.push(
        row(`${eventsPerSecond} targeted events/s, ${count} sockets, ${how}`, subject.name, {
          'events/s': number(posted.perSecond * (many ? bulkUsers : 1)),
          'commit → socket p50, ms': number(found.fromCommitMs.p50),
          p99: number(found.fromCommitMs.p99),
          'request → socket p50': number(found.fromSendMs.p50),
          'its p99': number(found.fromSendMs.p99),
          'answer p50': number(posted.answerMs.p50),
          'answer p99': number(posted.answerMs.p99),
          'CPU µs/event': number(each),
          'PostgreSQL µs/event': number(postgresUs / found.delivered),
          missing: String(found.missing + posted.refused),
        }),
      )
    }
  }
  return { rows, cpuUsPerEvent }
}

/** Neighbours in time are not neighbours in the crowd. 7919 is prime: everybody gets the same share. */
const scatter = (n: number, count: number) => (n * 7919) % count

/** One event to everybody: volatile, and stored for everyone who ever connected. */
export async function broadcast(bench: Bench): Promise<Row[]> {
  const count = bench.quick ? 1_000 : 10_000
  const times = bench.quick ? 2 : 8
  const rows: Row[] = []
  for (const subject of [rivulet, socketio].filter(bench.measures)) {
    await using stage = await setStage(bench, subject)
    const server = await stage.start()
    await stage.open(0, count, [server.port])
    const poster = stage.poster(server.port)
    const kinds: [name: string, make: (sentUs: number) => Request][] = [
      ['volatile', (sentUs) => subject.emit(sentUs)],
      ['stored', subject.broadcast],
    ]
    for (const [kind, make] of kinds) {
      bench.say(`broadcast: ${kind}, to ${count} sockets, ${subject.name}`)
      rows.push(await broadcastKind({ stage, server, poster, subject, kind, make, count, times }))
    }
  }
  return rows
}

async function broadcastKind(options: {
  stage: Stage
  server: Instance
  poster: Poster
  subject: Subject
  kind: string
  make: (sentUs: number) => Request
  count: number
  times: number
}): Promise<Row> {
  const { stage, server, poster, subject, kind, make, count, times } = options
  const everybody = Array.from({ length: count }, (_, user) => user)
  const runs: { p50: number; p99: number; maxMs: number; loopMs: number; cpuUs: number; missing: number }[] =
    []
  // The first one warms up.
  for (let time = 0; time <= times; time++) {
    await delay(1_000)
    await stage.crowd.take()
    const before = await server.used()
    await server.loop()
    const sentUs = nextSentUs()
    const accepted = await poster.post(make(sentUs))
    if (!accepted) throw new Error(`${subject.name} refuses a ${kind} broadcast`)
    await stage.crowd.awaitEvents({ count, withinMs: 20_000 })
    const after = await server.used()
    const { maxMs: loopMs } = await server.loop()
    const found = compareWith(new Map([[sentUs, everybody]]), await stage.crowd.take())
    const { p50, p99, max } = found.fromSendMs
    if (time > 0)
      runs.push({
        p50,
        p99,
        maxMs: max,
        loopMs,
        cpuUs: (after.cpuUs - before.cpuUs) / count,
        missing: found.missing,
      })
  }
  const loops = runs.map(({ loopMs }) => loopMs)
  return row(`broadcast to ${count} sockets, ${kind}, ${times} times`, subject.name, {
    'request → socket p50, ms': number(median(runs.map(({ p50 }) => p50))),
    p99: number(median(runs.map(({ p99 }) => p99))),
    'worst p99': number(spread(runs.map(({ p99 }) => p99)).max),
    last: number(median(runs.map(({ maxMs }) => maxMs))),
    'loop late at most, median': number(median(loops)),
    worst: number(spread(loops).max),
    'CPU µs/delivery': number(median(runs.map(({ cpuUs }) => cpuUs))),
    missing: String(runs.reduce((sum, { missing }) => sum + missing, 0)),
  })
}
