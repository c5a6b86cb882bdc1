/** How soon an event is on its user's device, and how soon its welcome is there, without the time that the model takes. */
import { setTimeout as delay } from 'node:timers/promises'
import { nowUs } from '../probe.ts'
import { number, row } from '../realtime/stage.ts'
import type { Row } from '../report.ts'
import type { Postgres } from '../subjects.ts'
import { createTokenReader } from '../tokens.ts'
import { openDevices, type Devices } from './devices.ts'
import { quantiles } from './quantiles.ts'
import { eventOf, inWords, setStage, type Pace, type Stage } from './stage.ts'

export interface Arrival {
  name: string
  events: number
  /** 0: all at once. */
  perSecond: number
  pace: Pace
}

/** Eight welcomes at once: what comes all at once waits for them, ms. */
const untilReadyMs = 120_000
/** What a process does for the first time is slower. */
const warmUpEvents = 10

export async function arrive(postgres: Postgres, arrivals: readonly Arrival[]): Promise<Row[]> {
  await using stage = await setStage(postgres)
  const rows: Row[] = []
  await measure(stage, {
    name: 'warm-up',
    events: warmUpEvents,
    perSecond: 5,
    pace: { tokens: 2, everyMs: 10 },
  })
  for (const arrival of arrivals) rows.push(await measure(stage, arrival))
  return rows
}

async function measure(stage: Stage, arrival: Arrival): Promise<Row> {
  const { events, perSecond, pace } = arrival
  const names = Array.from(
    { length: events },
    (_, index) => `${arrival.name.replaceAll(/\W+/g, '-')}-${index}`,
  )
  await using devices = await openDevices(stage.origin, names)
  const sentUs = new Map<string, number>()
  const beganMs = performance.now()
  for (const [index, name] of names.entries()) {
    if (perSecond > 0) await delay(Math.max(0, beganMs + (index * 1_000) / perSecond - performance.now()))
    sentUs.set(name, stage.publish(eventOf(name, pace)))
  }
  const untilUs = nowUs() + untilReadyMs * 1_000
  while (devices.reached[100].size < events && nowUs() < untilUs) await delay(20)
  const told = names.flatMap((name) => msBetween(sentUs, devices.reached[75], name))
  const ready = names.flatMap((name) => msBetween(sentUs, devices.reached[100], name))
  const besides = await withoutModel(stage, devices, sentUs)
  const [toSocket, welcome] = [quantiles(told), quantiles(besides)]
  return row(`events → socket, ${arrival.name}`, `model ${inWords(pace)}`, {
    events: String(events),
    'event → socket p50, ms': number(toSocket.p50),
    p95: number(toSocket.p95),
    max: number(toSocket.max),
    'welcome told, less the model’s time, p50': number(welcome.p50),
    'its p95': number(welcome.p95),
    'all ready after, s': number(quantiles(ready).max / 1_000),
    missing: String(events - ready.length),
  })
}

const msBetween = (
  from: ReadonlyMap<string, number>,
  to: ReadonlyMap<string, number>,
  name: string,
): number[] => {
  const [began, ended] = [from.get(name), to.get(name)]
  return began === undefined || ended === undefined ? [] : [(ended - began) / 1_000]
}

/** A welcome's tokens say when the model wrote them: the first one as soon as it was asked, the last one when it ended. */
async function withoutModel(
  { database }: Stage,
  { reached }: Devices,
  sentUs: ReadonlyMap<string, number>,
): Promise<number[]> {
  const { rows } = await database.client.query<{ name: string; content: string }>(`
    select c.assessment_id as name, m.content from chat.conversations c
    join chat.messages m on m.conversation_id = c.id and m.id = c.current_message_id
    where c.assessment_id is not null and m.sender_type = 'assistant'`)
  return rows.flatMap(({ name, content }) => {
    const stampsUs: number[] = []
    createTokenReader((us) => stampsUs.push(us))(`${content} `)
    const modelMs = ((stampsUs.at(-1) ?? NaN) - (stampsUs[0] ?? NaN)) / 1_000
    return msBetween(sentUs, reached[100], name).map((ms) => ms - modelMs)
  })
}
