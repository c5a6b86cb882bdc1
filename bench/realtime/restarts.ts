/** What clients notice when an instance is killed, stopped, or started again: how soon they are back, and what is missing then. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Row } from '../report.ts'
import { compareWith } from './findings.ts'
import { postSteadily, type Posted } from './posting.ts'
import type { CrowdState } from './crowd.ts'
import { number, row, seconds, setStage, type Bench, type Stage } from './stage.ts'
import { rivulet, socketio, socketioReplaying, type Subject } from './subjects.ts'

const backMsMax = 90_000

/** One of two instances is killed: its clients all come to the other one, whose own go on. */
export async function herd(bench: Bench): Promise<Row[]> {
  const count = bench.quick ? 500 : 5_000
  const bystanders = bench.quick ? 100 : 500
  bench.say(`herd: ${count} clients of a killed instance`)
  await using stage = await setStage(bench, rivulet)
  const killed = await stage.start()
  const other = await stage.start()
  await stage.open(0, count, [killed.port, other.port])
  await stage.open(count, bystanders, [other.port])
  const all = count + bystanders
  const sending = sendWhile(stage, rivulet, { port: other.port, perSecond: 200, count: all })
  await delay(3_000)
  await stage.crowd.forget()
  await other.loop()
  const killedUs = performance.now()
  await killed.signal('SIGKILL')
  const state = await stage.crowd.awaitLive({ count: all, withinMs: backMsMax })
  const backMs = performance.now() - killedUs
  const loop = await other.loop()
  const posted = await sending.stop()
  await stage.settle()
  const events = await stage.crowd.take()
  const found = compareWith(posted.accepted, events)
  const staying = compareWith(
    onlyTo(posted, (user) => user >= count),
    events,
  )
  return [
    row(`kill -9 of one of two instances, ${count} clients`, rivulet.name, {
      'all back after, s': state.live === all ? seconds(backMs) : `never (${all - state.live} missing)`,
      half: seconds(backAfterMs(state, 0.5)),
      '99 %': seconds(backAfterMs(state, 0.99)),
      'attempts/s, most': String(state.attemptsPerSecondMax),
      'live/s, most': String(state.livePerSecondMax),
      attempts: String(state.attempts),
      'in vain': JSON.stringify(refusals(state)).replaceAll('"', ''),
      'loop late, max ms': number(loop.maxMs),
      "bystanders' events p99, ms": number(staying.fromSendMs.p99),
      missing: String(found.missing),
    }),
  ]
}

/** Behind the first end, so many of the ones that came back were live. */
function backAfterMs({ liveUs }: CrowdState, share: number): number {
  const sorted = liveUs.toSorted()
  const first = sorted[0] ?? NaN
  return ((sorted[Math.ceil(share * sorted.length) - 1] ?? NaN) - first) / 1000
}

/** Attempts that came to nothing. */
const refusals = ({ endings }: CrowdState) =>
  Object.fromEntries(Object.entries(endings).filter(([name]) => !name.startsWith('cut while open')))

const onlyTo = ({ accepted }: Posted, wanted: (user: number) => boolean) =>
  new Map([...accepted].filter(([, users]) => users.every(wanted)))

/** One of two instances is told to stop, with all clients on it: what they are told, and whether anything is lost. */
export async function stop(bench: Bench): Promise<Row[]> {
  const count = bench.quick ? 1_000 : 10_000
  bench.say(`stop: SIGTERM with ${count} sockets`)
  await using stage = await setStage(bench, rivulet)
  const stopped = await stage.start()
  const other = await stage.start()
  await stage.open(0, count, [stopped.port])
  await stage.crowd.aim({ ports: [other.port] })
  const sending = sendWhile(stage, rivulet, { port: other.port, perSecond: 200, count })
  await delay(3_000)
  await stage.crowd.forget()
  const exit = await stopped.signal('SIGTERM')
  const back = await stage.crowd.awaitLive({ count, withinMs: backMsMax })
  const posted = await sending.stop()
  await stage.settle()
  const found = compareWith(posted.accepted, await stage.crowd.take())
  const behind = await countBehind(stage)
  return [
    row(`SIGTERM with ${count} sockets`, rivulet.name, {
      'gone after, s': seconds(exit.afterMs),
      exit: exit.signal ?? String(exit.code),
      'how they were closed': JSON.stringify(back.endings).replaceAll('"', ''),
      'back elsewhere': String(back.live),
      'attempts/s, most': String(back.attemptsPerSecondMax),
      'events accepted': String(posted.accepted.size),
      missing: String(found.missing),
      twice: String(found.twice),
      'cursors that differ from the database': String(behind),
    }),
  ]
}

/** Clients whose cursor is not where their log stands. */
async function countBehind({ database, crowd }: Stage): Promise<number> {
  const cursors = await crowd.cursors()
  const { rows } = await database.client.query<{ user_id: string; seq: string }>(
    'select user_id, seq from chat.inbox_heads',
  )
  const heads = new Map(rows.map(({ user_id, seq }) => [user_id, Number(seq)]))
  return cursors
    .entries()
    .reduce((count, [user, cursor]) => count + Number((heads.get(`user-${user}`) ?? 0) !== cursor), 0)
}

/** The only instance is killed again and again, under a steady rate, and started again each time: what was accepted, and never came? */
export async function kill(bench: Bench): Promise<{ rows: Row[]; missing: Map<string, number> }> {
  const count = bench.quick ? 200 : 1_000
  const kills = bench.quick ? 1 : 3
  const rows: Row[] = []
  const missing = new Map<string, number>()
  for (const subject of [rivulet, socketio, socketioReplaying].filter(bench.measures)) {
    bench.say(`kill: ${kills} × kill -9 under 300 events a second, ${subject.name}`)
    await using stage = await setStage(bench, subject)
    let server = await stage.start()
    const { port } = server
    await stage.open(0, count, [port])
    await stage.crowd.forget()
    const sending = sendWhile(stage, subject, { port, perSecond: 300, count })
    const upMs: number[] = []
    const backMs: number[] = []
    for (let time = 0; time < kills; time++) {
      await delay(4_000)
      const killedMs = performance.now()
      await server.signal('SIGKILL')
      server = await stage.start(port)
      upMs.push(performance.now() - killedMs)
      const { live } = await stage.crowd.awaitLive({ count, withinMs: backMsMax })
      if (live < count) throw new Error(`${count - live} clients did not come back to ${subject.name}`)
      backMs.push(performance.now() - killedMs)
    }
    await delay(4_000)
    const posted = await sending.stop()
    await stage.settle()
    const state = await stage.crowd.state()
    const found = compareWith(posted.accepted, await stage.crowd.take())
    missing.set(subject.name, found.missing)
    rows.push(
      row(`${kills} × kill -9 of the only instance, ${count} clients, 300 events/s`, subject.name, {
        accepted: String(posted.accepted.size),
        lost: String(found.missing),
        'lost, %': ((found.missing / posted.accepted.size) * 100).toFixed(2),
        twice: String(found.twice),
        'not accepted': String(posted.refused),
        'up again after, s': seconds(Math.max(...upMs)),
        'all back after, s': seconds(Math.max(...backMs)),
        'gaps asked again': String(state.gaps),
      }),
    )
  }
  return { rows, missing }
}

interface Sending {
  stop(): Promise<Posted>
}

/** Bounded, should nobody stop it. */
const sendingMsMax = 300_000

/** One event after the other, to everybody in turn. */
function sendWhile(
  stage: Stage,
  subject: Subject,
  options: { port: number; perSecond: number; count: number },
): Sending {
  const { port, perSecond, count } = options
  const enough = new AbortController()
  const poster = stage.poster(port)
  const posted = postSteadily({
    perSecond,
    forMs: sendingMsMax,
    poster: () => poster,
    make: (n, sentUs) => ({ request: subject.send(n % count, sentUs), users: [n % count] }),
    signal: enough.signal,
  })
  return {
    stop() {
      enough.abort()
      return posted
    },
  }
}
