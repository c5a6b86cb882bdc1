/** Ten thousand events at once: how long they take, what of them is held, and what the chat beside them notices. */
import { setTimeout as delay } from 'node:timers/promises'
import { megabytes, number, row } from '../realtime/stage.ts'
import type { Row } from '../report.ts'
import type { Postgres } from '../subjects.ts'
import { chat, type Chatting } from './chat.ts'
import { eventOf, inWords, setStage, type Pace, type Stage } from './stage.ts'

export interface Flood {
  events: number
  pace: Pace
  /** Welcomes are watched so long at most, ms: with a model that takes its time they take half an hour. */
  watchMs: number
  /** The chat before it, ms. */
  beforeMs: number
  /** Other services listen to what we tell. */
  heard: boolean
  profile: string | undefined
  say: (text: string) => void
}

const sampleMs = 500
const warmUpMs = 10_000

export async function flood(postgres: Postgres, of: Flood): Promise<Row[]> {
  const { events, pace, watchMs, beforeMs, say } = of
  await using stage = await setStage(postgres, of)
  await chat(stage.origin, AbortSignal.timeout(warmUpMs))
  stage.publish(eventOf('warm-up', pace))
  const before = await chat(stage.origin, AbortSignal.timeout(beforeMs))
  const used = await stage.server.used()
  const [startBytes, startCpuUs, startPostgresUs] = [used.rssBytes, used.cpuUs, postgres.cpuUs()]

  const over = new AbortController()
  const beganMs = performance.now()
  const taking = new AbortController()
  const chatting = chat(stage.origin, taking.signal)
  for (let index = 0; index < events; index++) {
    stage.publish(eventOf(`flood-${index}`, pace))
    // The publisher is not what is measured, and must not hold up what is.
    if (index % 500 === 499) await stage.confirmed()
  }
  await stage.confirmed()
  say(`published after ${number((performance.now() - beganMs) / 1_000)} s`)
  let rssMax = startBytes
  let takenMs = NaN
  let readyAtTaken = NaN
  let answering: Promise<Chatting> | undefined
  for (;;) {
    await delay(sampleMs)
    // A profile is of the whole flood: who asks would end it.
    if (of.profile === undefined) rssMax = Math.max(rssMax, (await stage.server.used()).rssBytes)
    const elapsedMs = performance.now() - beganMs
    const { acked, unacked } = stage.tap.seen()
    if (Number.isNaN(takenMs) && acked >= events && unacked === 0) {
      takenMs = elapsedMs
      readyAtTaken = await ready(stage)
      say(
        `taken after ${number(takenMs / 1_000)} s; ${readyAtTaken} ready; ${stage.tap.seen().delivered} delivered`,
      )
      taking.abort()
      answering = chat(stage.origin, over.signal)
    }
    if (elapsedMs > watchMs && !Number.isNaN(takenMs)) break
    if (elapsedMs > watchMs * 2 || (await ready(stage)) > events) break
  }
  taking.abort()
  over.abort()
  const [duringTaking, duringWelcomes] = [await chatting, await answering]
  const elapsedMs = performance.now() - beganMs
  const done = await ready(stage)
  const end = await stage.server.used()
  const dead = await stage.dead()
  const { unackedMax, redelivered } = stage.tap.seen()
  const about = `${events} events, model ${inWords(pace)}${of.heard ? '' : ', nobody listens to ours'}`
  return [
    row(about, 'events', {
      'taken after, s': number(takenMs / 1_000),
      'events/s': number(events / (takenMs / 1_000)),
      'unacknowledged, most': String(unackedMax),
      redelivered: String(redelivered),
      'dead letters': String(dead),
      'ready then': String(readyAtTaken),
      'ready at the end': `${done} after ${number(elapsedMs / 1_000)} s`,
      'welcomes/s behind that': number((done - readyAtTaken) / ((elapsedMs - takenMs) / 1_000)),
      'RSS before, MB': megabytes(startBytes),
      'more at most': megabytes(Math.max(rssMax, end.rssBytes) - startBytes),
      'more at the end': megabytes(end.rssBytes - startBytes),
      'CPU, s': number((end.cpuUs - startCpuUs) / 1e6),
      'PostgreSQL, s': number((postgres.cpuUs() - startPostgresUs) / 1e6),
    }),
    sends(about, 'a short send, before', before),
    sends(about, 'while events are taken', duringTaking),
    ...(duringWelcomes === undefined ? [] : [sends(about, 'while welcomes are written', duringWelcomes)]),
  ]
}

const sends = (about: string, subject: string, { firstMs, wholeMs, sends: count, failed }: Chatting): Row =>
  row(about, subject, {
    sends: String(count),
    'first token p50, ms': number(firstMs.p50),
    p95: number(firstMs.p95),
    max: number(firstMs.max),
    'whole answer p50': number(wholeMs.p50),
    'its p95': number(wholeMs.p95),
    'its max': number(wholeMs.max),
    failed: String(failed),
  })

async function ready({ database }: Stage): Promise<number> {
  const { rows } = await database.client.query<{ count: number }>(
    'select count(*)::int from chat.assessments where ready_at is not null',
  )
  return rows[0]?.count ?? 0
}
