/** One idempotency key, however often, wherever and however it is sent: one call, one answer. */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath } from '../support/client.ts'
import type { Ledger } from './ledger.ts'
import { runCases, type Part } from './part.ts'
import { randomOf, tokensOf, type Random } from './random.ts'
import { createReading } from './reading.ts'
import { view, viewPatiently, type Viewing } from './viewing.ts'
import type { Instance, World } from './world.ts'

const requestsAtOnce = 50
const viewingMs = 45_000

export const once: Part = async (world, orders) => {
  const pair = await world.pair()
  return runCases('once', orders, 1, async (caseNumber, ledger) => {
    const random = randomOf(orders.seed, 'once', caseNumber)
    await together({ world, pair, ledger, caseNumber, random })
    await again({ world, pair, ledger, caseNumber, random })
    return 1
  })
}

interface Round {
  world: World
  pair: readonly [Instance, Instance]
  ledger: Ledger
  caseNumber: number
  random: Random
}

interface Asking {
  name: string
  conversationId: string
  token: string
  body: { content: string }
  key: string
  whole: string
  calls: () => number
}

async function prepare({ world, pair, caseNumber, random }: Round, what: string): Promise<Asking> {
  const name = `once-${what}-${caseNumber}`
  const client = await world.client(pair[0], name)
  const conversationId = await client.conversation()
  const tokens = tokensOf(random, random.int(5, 60))
  const script = world.script(
    name,
    answer(tokens, { perTokenMs: random.pick([0, 5, 20]), delayMs: random.int(0, 200) }),
  )
  const key = crypto.randomUUID()
  const token = client.token ?? ''
  return {
    name,
    conversationId,
    token,
    body: { content: script.content },
    key,
    whole: tokens.join(''),
    calls: script.calls,
  }
}

const optionsOf = ({ conversationId, token, body, key }: Asking, origin: string, stream: boolean) => ({
  origin,
  token,
  path: `${basePath}/conversations/${conversationId}/messages`,
  body,
  headers: { 'idempotency-key': key, accept: stream ? 'text/event-stream' : 'application/json' },
  withinMs: viewingMs,
})

interface Outcome {
  status: number
  id: string | undefined
  text: string
  raw: string
}

async function outcomeOf(asking: Asking, origin: string, stream: boolean, ledger: Ledger): Promise<Outcome> {
  const viewing = await viewPatiently(optionsOf(asking, origin, stream), ledger)
  const { status } = await viewing.answered
  await viewing.ended
  return { status, ...(stream ? streamed(viewing) : jsonOf(viewing.text())), raw: viewing.text() }
}

function streamed(viewing: Viewing): { id: string | undefined; text: string } {
  const reading = createReading()
  reading.begin('send')
  const wrong = [...viewing.faults, ...reading.take(viewing.frames)]
  const terminals = reading.terminals()
  const message = terminals[0]?.data['message'] as Message | undefined
  const sound = wrong.length === 0 && terminals.length === 1
  return { id: message?.id, text: sound ? reading.state().text : wrong.join('\n') }
}

function jsonOf(text: string): { id: string | undefined; text: string } {
  const { assistant_message: message } = JSON.parse(text) as { assistant_message?: Message }
  return { id: message?.id, text: message?.content ?? text }
}

/** All at once, over both instances, as streams and as JSON. */
async function together(round: Round): Promise<void> {
  const { pair, ledger, caseNumber, random } = round
  const asking = await prepare(round, 'together')
  const outcomes = await Promise.all(
    Array.from({ length: requestsAtOnce }, () => {
      const { origin } = random.pick([...pair])
      return outcomeOf(asking, origin, random.chance(0.5), ledger)
    }),
  )
  const ids = new Set(outcomes.map(({ id }) => id))
  for (const { status, text, raw } of outcomes)
    ledger.check(
      'each gets the whole answer',
      caseNumber,
      status === 200 && text === asking.whole,
      () => `${status} ${text}\n${raw.slice(0, 500)}`,
    )
  ledger.check('all get the same message', caseNumber, ids.size === 1, () => [...ids].join(' '))
  await judgeOnce(round, asking)
}

/** A client whose connection was dropped, at any moment, sends again, elsewhere too, and again. */
async function again(round: Round): Promise<void> {
  const { pair, ledger, caseNumber, random } = round
  const asking = await prepare(round, 'again')
  for (let tried = 0; tried < 3; tried++) {
    const viewing = view(optionsOf(asking, random.pick([...pair]).origin, random.chance(0.7)))
    await Promise.race([viewing.ended, delay(random.pick([0, random.int(0, 20), random.int(0, 300)]))])
    viewing.cut(random.pick(['fin', 'reset']))
  }
  const { status, text, raw } = await outcomeOf(asking, random.pick([...pair]).origin, true, ledger)
  ledger.check(
    'a resend gets the whole answer',
    caseNumber,
    status === 200 && text === asking.whole,
    () => `${status} ${text}\n${raw.slice(0, 500)}`,
  )
  await judgeOnce(round, asking)
}

async function judgeOnce({ world, ledger, caseNumber }: Round, asking: Asking): Promise<void> {
  const calls = asking.calls()
  ledger.check('exactly one upstream call', caseNumber, calls === 1, () => `${asking.name}: ${calls} calls`)
  const [row] = await world.sql<{ count: number }>`
    select count(*)::int from chat.messages where conversation_id = ${asking.conversationId}`
  ledger.check('one question and one answer are stored', caseNumber, row?.count === 2, () =>
    JSON.stringify(row),
  )
}
