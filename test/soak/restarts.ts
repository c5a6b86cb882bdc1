/**
 * PostgreSQL crashes and comes back under running streams (an immediate shutdown: sessions die, the log is replayed).
 * A terminal frame says only what is committed, and nothing that was acknowledged is lost.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath, type Client } from '../support/client.ts'
import { startCrashingPostgres } from './crashing-postgres.ts'
import { difference } from './cuts.ts'
import type { Ledger } from './ledger.ts'
import { runCases, type Part } from './part.ts'
import { randomOf, tokensOf } from './random.ts'
import { createReading } from './reading.ts'
import { isTerminal, view, type TimedFrame, type Viewing } from './viewing.ts'
import { createWorld, type Script, type World } from './world.ts'

const streamsAtOnce = 5
/** A settle is tried again for 60 s while the database is away. */
const viewingMs = 90_000
/** A client sends again this long, ms. */
const patientMs = 15_000

/** An answer takes 4 s at most: what takes so much longer was found only by a reaper. */
const afterwardsMs = 15_000

/** When it crashes: at any time, or right behind something that a client was told. */
const moments = ['told an answer', 'any time', 'told a question'] as const
/** Where nobody is told anything: then at this time, ms. */
const tooLateMs = 5_000

/** The database is its own: the world's must not crash under the others. */
export const restarts: Part = async (_world, orders) => {
  const postgres = await startCrashingPostgres()
  orders.releases.add(postgres.stop)
  const world = await createWorld(postgres.url)
  try {
    const ledger = await runCases('restarts', orders, 1, async (caseNumber, found) => {
      const random = randomOf(orders.seed, 'restarts', caseNumber)
      const user = `restarts-${caseNumber}`
      const pair = await world.pair()
      const clients = [await world.client(pair[0], user), await world.client(pair[1], user)] as const
      const ids = await Promise.all(Array.from({ length: streamsAtOnce }, () => clients[0].conversation()))
      const moment = moments[(caseNumber - 1) % moments.length] ?? 'any time'
      const crashAfterMs = random.int(0, orders.quick ? 1_500 : 3_000)
      const awayMs = random.pick([0, random.int(0, 1_000), random.int(0, orders.quick ? 1_000 : 4_000)])
      const told = {
        question: Promise.withResolvers<undefined>(),
        answer: Promise.withResolvers<undefined>(),
      }
      const shortly = random.int(0, 20)
      const crash = async () => {
        const hearing = moment === 'told a question' ? told.question.promise : told.answer.promise
        if (moment === 'any time') await delay(crashAfterMs)
        else await Promise.race([hearing.then(() => delay(shortly)), delay(tooLateMs)])
        return postgres.crash(awayMs)
      }
      const crashed = crash()
      const streams = ids.map((id, index): Stream => {
        const where = random.pick<0 | 1>([0, 1])
        const watched = random.chance(0.5)
        const tokens = tokensOf(random, random.int(20, 150))
        const script = world.script(
          `${user}-${index}`,
          answer(tokens, { perTokenMs: random.int(0, 25), delayMs: random.int(0, 300) }),
        )
        // Anywhere before, in or after it; or so that the turn's own commit meets it.
        const beginMs = random.chance(0.3)
          ? Math.max(0, crashAfterMs - random.int(0, 15))
          : random.int(0, crashAfterMs + awayMs)
        return {
          world,
          ledger: found,
          caseNumber,
          id,
          script,
          whole: tokens.join(''),
          token: clients[0].token ?? '',
          here: pair[where].origin,
          elsewhere: watched ? pair[where === 0 ? 1 : 0].origin : undefined,
          beginMs,
          told,
        }
      })
      const ends = await Promise.all(streams.map(run)).finally(() => crashed)
      const { goneAt, backAt } = await crashed
      found.time('the database was away for', caseNumber, backAt - goneAt)
      for (const { terminal } of ends.flat())
        if (terminal.at > backAt)
          found.time(
            'a terminal frame after it is back',
            caseNumber,
            terminal.at - backAt,
            afterwardsMs * orders.patience,
          )
      for (const [index, stream] of streams.entries()) {
        for (const end of ends[index] ?? [])
          judgeStored(stream, end, await readStored(world, stream.id), 'still ')
        await sendNext(stream, random.pick([...clients]), index)
      }
      const [left] = await world.sql<{ running: number }>`
        select count(*)::int as running from chat.generations where status = 'running'`
      found.check('nothing left running', caseNumber, left?.running === 0, () => JSON.stringify(left))
      return 1
    })
    for (const death of world.deaths())
      ledger.check('no instance ends by itself', undefined, false, () => death)
    return ledger
  } finally {
    await world.close()
    await postgres.stop()
    orders.releases.delete(postgres.stop)
  }
}

interface Stream {
  world: World
  ledger: Ledger
  caseNumber: number
  id: string
  script: Script
  whole: string
  token: string
  here: string
  elsewhere: string | undefined
  beginMs: number
  /** Told by whoever is first. */
  told: Record<'question' | 'answer', { resolve: (value: undefined) => void }>
}

/** A terminal frame that somebody got. */
interface End {
  terminal: TimedFrame
}

async function run(stream: Stream): Promise<End[]> {
  const { ledger, caseNumber, script, here, elsewhere, id, beginMs, told } = stream
  await delay(beginMs)
  const key = crypto.randomUUID()
  const path = `${basePath}/conversations/${id}/messages`
  const headers = { 'idempotency-key': key }
  const sent = await patiently(stream, () =>
    open(stream, here, path, { body: { content: script.content }, headers }),
  )
  void sent.until(({ data }) => data.type === 'user_message').then(() => told.question.resolve(undefined))
  void sent.until(isTerminal).then(() => told.answer.resolve(undefined))
  const located = String((await sent.answered).headers['content-location'])
  const watching =
    elsewhere === undefined ? undefined : await patiently(stream, () => open(stream, elsewhere, located, {}))
  const ends = await Promise.all([
    judge(stream, sent, true),
    watching === undefined ? undefined : judge(stream, watching, false),
  ])
  ledger.check(
    'never a second upstream call',
    caseNumber,
    script.calls() <= 1,
    () => `${script.calls()} calls`,
  )
  return ends.filter((end) => end !== undefined)
}

const open = ({ token }: Stream, origin: string, path: string, rest: object): Viewing =>
  view({ origin, path, token, withinMs: viewingMs, ...rest })

/** As a client does: 503 is tried again, under the same key. */
async function patiently({ ledger, caseNumber }: Stream, ask: () => Viewing): Promise<Viewing> {
  for (const deadline = Date.now() + patientMs; ;) {
    const viewing = ask()
    const { status } = await viewing.answered
    if (status === 200) return viewing
    await viewing.ended
    const words = () => `${status} ${viewing.text()}`
    ledger.check('refused with 503, if at all', caseNumber, status === 503, words)
    if (Date.now() > deadline) throw new Error(`still refused: ${words()}`)
    await delay(100)
  }
}

async function judge(stream: Stream, viewing: Viewing, isSender: boolean): Promise<End | undefined> {
  const { world, ledger, caseNumber, id, whole, script } = stream
  const check = (property: string, holds: boolean, detail: () => string) =>
    ledger.check(property, caseNumber, holds, () => `${script.content}: ${detail()}`)
  const terminal = await viewing.until(isTerminal)
  // At once: what the frame says must be there to read.
  if (terminal !== undefined) judgeStored(stream, { terminal }, await readStored(world, id), '')
  const ending = await viewing.ended
  const reading = createReading()
  reading.begin(isSender ? 'send' : 'no cursor')
  const wrong = [...viewing.faults, ...reading.take(viewing.frames)]
  const { length } = reading.terminals()
  check('one terminal frame, then the end', ending === 'whole' && length === 1 && wrong.length === 0, () =>
    [`${ending}, ${length} terminal frames`, ...wrong, reading.history()].join('\n'),
  )
  if (terminal === undefined) return undefined
  const told = terminal.data['message'] as Message
  check('stored text is what the upstream said', whole.startsWith(told.content), () =>
    difference(told.content, whole),
  )
  if (terminal.data.type === 'complete')
    check(
      'a complete answer is whole',
      told.content === whole && reading.state().text === whole,
      () => `${difference(reading.state().text, whole)}\n${reading.history()}`,
    )
  else ledger.note('answers that the crash ended')
  return { terminal }
}

function judgeStored(
  { ledger, caseNumber, script }: Stream,
  { terminal }: End,
  [question, reply]: readonly Stored[],
  still: 'still ' | '',
): void {
  const told = terminal.data['message'] as Message
  ledger.check(
    `the acknowledged question is ${still}stored`,
    caseNumber,
    question?.content === script.content,
    () => `${script.content}: ${JSON.stringify(question)}`,
  )
  ledger.check(
    `what a terminal frame says is ${still}committed`,
    caseNumber,
    told.status === reply?.status && told.content === reply.content && reply.generation !== 'running',
    () =>
      `${script.content}: told ${told.status}, ${told.content.length} units; stored ${JSON.stringify(reply)}`,
  )
}

interface Stored extends Record<string, unknown> {
  content: string
  status: string
  generation: string | null
}

/** As soon as the database answers. @throws where it does not come back */
async function readStored({ sql }: World, conversationId: string): Promise<Stored[]> {
  for (const deadline = Date.now() + viewingMs; ;) {
    try {
      return await sql<Stored>`
        select m.content, m.status, g.status as generation from chat.messages m
        left join chat.generations g on g.message_id = m.id
        where m.conversation_id = ${conversationId} order by m.id limit 2`
    } catch (error) {
      if (Date.now() > deadline) throw error
      await delay(50)
    }
  }
}

async function sendNext(
  { world, ledger, caseNumber, id }: Stream,
  client: Client,
  index: number,
): Promise<void> {
  const { content } = world.script(`restarts-${caseNumber}-${index}-next`, answer('on we go'))
  const sent = await client.post(`/conversations/${id}/messages`, { content })
  ledger.check('the next send works', caseNumber, sent.status === 200, () => JSON.stringify(sent))
}
