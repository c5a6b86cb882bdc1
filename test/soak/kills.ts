/**
 * kill -9 of a process with five streams running, at any moment of theirs. What its clients had been told is the
 * ledger; another process, whose reaper does what it does in production, has to make good for it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import { reap } from '../../src/generation/engine.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath } from '../support/client.ts'
import { openDatabase } from '../support/cluster.ts'
import { judgeCase, type Judged } from './kills-judge.ts'
import type { Ledger } from './ledger.ts'
import { createGate, runCases, type Part } from './part.ts'
import { randomOf, tokensOf, type Random } from './random.ts'
import { createReading, type Reading } from './reading.ts'
import { isTerminal, view, viewPatiently, type Viewing } from './viewing.ts'
import type { Instance, Script, World } from './world.ts'

/** Longer than what is promised, so that a broken promise is told and not only missed. */
const viewingMs = 60_000
const streamsAtOnce = 5

/** In turn, so that a few cases see most of them. */
const moments = ['middle', 'turn', 'settle', 'before the first text', 'middle'] as const
type Moment = (typeof moments)[number]

export interface Stream {
  name: string
  conversationId: string
  whole: string
  script: Script
  sent: Viewing
  body: { content: string }
  key: string
}

/** Processes that start, or stream, at once: on a small machine more would measure the machine. */
const bootsAtOnce = 1
const streamingAtOnce = 2
const casesAtOnce = 24

export const kills: Part = async (world, orders) => {
  const survivors = await world.pair()
  const owners = await ownersOf(world, survivors)
  const booting = createGate(bootsAtOnce)
  const streaming = createGate(streamingAtOnce)

  return runCases('kills', orders, casesAtOnce, async (caseNumber, ledger) => {
    const random = randomOf(orders.seed, 'kills', caseNumber)
    const user = `kills-${caseNumber}`
    const survivor = random.pick([...survivors])
    const client = await world.client(survivor, user)
    const victim = await booting(() => world.start())
    const { streams, standby, killedAt } = await streaming(async () => {
      const moment = moments[(caseNumber - 1) % moments.length] ?? 'middle'
      try {
        const begun = await begin(world, victim, survivor, random, moment, user)
        const watching = begun.map((stream) =>
          random.chance(0.4) ? watch(stream, survivor, client.token ?? '', ledger) : undefined,
        )
        await momentOf(moment, random, begun)
        return { streams: begun, standby: watching, killedAt: Date.now() }
      } finally {
        await victim.kill()
      }
    })
    const over = new AbortController()
    const reaping = orders.quick ? reapSoon(world, user, owners, over.signal) : undefined
    try {
      const origin = survivor.origin
      const after = { origin, token: client.token ?? '', random, ledger }
      const judged = await Promise.all(
        streams.map((stream, index) => afterwards({ ...after, stream, standby: standby[index] })),
      )
      over.abort()
      await reaping
      await judgeCase({ world, ledger, caseNumber, client, killedAt, judged, patience: orders.patience })
    } finally {
      over.abort()
    }
    return 1
  })
}

interface After {
  origin: string
  token: string
  random: Random
  ledger: Ledger
  stream: Stream
  standby: Promise<Viewing | undefined> | undefined
}

/** What the client of a stream does when it is cut: it goes on elsewhere, and sends again what it had sent. */
async function afterwards({ origin, token, random, ledger, stream, standby }: After): Promise<Judged> {
  const { sent, conversationId, body, key } = stream
  const pauses = { resume: random.pick([0, 0, 100, 2_000]), retry: random.pick([0, 0, 50, 3_000]) }
  const endingOfSent = await sent.ended
  const path = (await sent.answered).headers['content-location']
  const reading = createReading()
  reading.begin('send')
  const wrong = [...sent.faults, ...reading.take(sent.frames)]
  const shown = { ...reading.state() }
  const common = { origin, token, withinMs: viewingMs }

  const resume = async () => {
    if (path === undefined || reading.terminals().length > 0) return undefined
    await delay(pauses.resume)
    const { cursor } = reading.state()
    reading.begin(cursor === undefined ? 'no cursor' : 'cursor')
    const headers = cursor === undefined ? {} : { 'last-event-id': cursor }
    const resumed = await viewPatiently({ ...common, path, headers }, ledger)
    await resumed.ended
    wrong.push(...resumed.faults, ...reading.take(resumed.frames))
    return resumed
  }
  const retry = async () => {
    await delay(pauses.retry)
    const again = `${basePath}/conversations/${conversationId}/messages`
    const headers = { 'idempotency-key': key }
    const retried = await viewPatiently({ ...common, path: again, body, headers }, ledger)
    await retried.ended
    return retried
  }
  const [resumed, retried, watching] = await Promise.all([resume(), retry(), standby])
  await watching?.ended
  // Another tab of the same client, where the computer was asleep: it comes back when all is over.
  let late: Reading | undefined
  if (path !== undefined && shown.cursor !== undefined && !sent.frames.some(isTerminal)) {
    late = createReading()
    late.begin('cursor', shown)
    const viewing = await viewPatiently(
      { ...common, path, headers: { 'last-event-id': shown.cursor } },
      ledger,
    )
    await viewing.ended
    wrong.push(...viewing.faults, ...late.take(viewing.frames))
  }
  return {
    stream,
    endingOfSent,
    shown,
    reading,
    resumed,
    late,
    retried,
    standby: watching,
    wrong,
  }
}

async function begin(
  world: World,
  victim: Instance,
  survivor: Instance,
  random: Random,
  moment: Moment,
  user: string,
): Promise<Stream[]> {
  const client = await world.client(survivor, user)
  const conversations = await Promise.all(Array.from({ length: streamsAtOnce }, () => client.conversation()))
  const short = moment === 'settle'
  return Promise.all(
    conversations.map(async (conversationId, index) => {
      const name = `${user}-${index}`
      const tokens = tokensOf(random, short ? random.int(1, 30) : random.int(60, 200))
      const script = world.script(
        name,
        answer(tokens, {
          delayMs: moment === 'before the first text' ? 10_000 : random.int(0, 100),
          perTokenMs: random.int(5, short ? 10 : 25),
        }),
      )
      const body = { content: script.content }
      const key = crypto.randomUUID()
      await delay(random.int(0, 30))
      const sent = view({
        origin: victim.origin,
        token: client.token ?? '',
        path: `${basePath}/conversations/${conversationId}/messages`,
        body,
        headers: { 'idempotency-key': key },
        withinMs: viewingMs,
      })
      return { name, conversationId, whole: tokens.join(''), script, sent, body, key }
    }),
  )
}

/** Returns when it is time to kill. */
async function momentOf(moment: Moment, random: Random, streams: readonly Stream[]): Promise<void> {
  switch (moment) {
    case 'turn':
      return delay(random.int(0, 60))
    case 'before the first text':
      await Promise.all(streams.map(({ sent }) => sent.until(({ data }) => data.type === 'assistant_start')))
      return delay(random.int(0, 1_500))
    case 'middle':
      await Promise.all(streams.map(({ sent }) => sent.until(({ data }) => data.type === 'assistant_chunk')))
      return delay(random.int(0, 2_000))
    case 'settle':
      // An upstream has said all: its process is about to settle, or does.
      await Promise.race(streams.map(async ({ script }) => (await script.request).ended))
      return delay(random.int(0, 25))
    default:
      return moment satisfies never
  }
}

/** A viewer on the surviving instance, there before the kill. */
async function watch(
  { sent }: Stream,
  survivor: Instance,
  token: string,
  ledger: Ledger,
): Promise<Viewing | undefined> {
  const { headers } = await sent.answered
  const path = headers['content-location']
  if (path === undefined) return undefined
  return viewPatiently({ origin: survivor.origin, token, path, withinMs: viewingMs }, ledger)
}

/** How the survivors' own generations name their process: those are alive. */
async function ownersOf(world: World, survivors: readonly Instance[]): Promise<string[]> {
  const owners = await Promise.all(
    survivors.map(async (survivor, index) => {
      const user = `kills-survivor-${index}`
      const client = await world.client(survivor, user)
      const id = await client.conversation()
      const { content } = world.script(user, answer('here'))
      const sent = await client.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
        content,
      })
      const [row] = await world.sql<{ instance_id: string }>`
        select instance_id from chat.generations where message_id = ${sent.body.assistant_message.id}`
      return row?.instance_id ?? ''
    }),
  )
  return owners
}

/**
 * For who cannot wait for heartbeats to grow old: the killed process's are set back, and the reaper is called.
 *
 * @param owners processes that live.
 */
async function reapSoon(
  { sql, databaseUrl }: World,
  user: string,
  owners: readonly string[],
  over: AbortSignal,
): Promise<void> {
  const { database } = openDatabase(databaseUrl)
  await database.prepare(new AbortController().signal)
  while (!over.aborted) {
    await sql`
      update chat.generations set heartbeat_at = now() - interval '1 minute'
      where user_id = ${user} and status = 'running' and instance_id <> all(${[...owners]}::uuid[])`
    // A busy database is looked at again, as by the reaper itself.
    await reap(database, 30).catch(() => undefined)
    await delay(200)
  }
  await database.close()
}
