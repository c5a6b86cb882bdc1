/**
 * Streams that are cut anywhere, also inside a frame, and gone on with on any instance: what a client has at the end is
 * what the upstream said.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath } from '../support/client.ts'
import type { Ledger } from './ledger.ts'
import { createGate, runCases, type Part } from './part.ts'
import { randomOf, tokensOf, type Random } from './random.ts'
import { createReading, type Asked, type Reading } from './reading.ts'
import { viewPatiently, type Viewing } from './viewing.ts'
import type { Instance } from './world.ts'

/** An answer takes 4 s at most: what has not ended by then is silence. */
const viewingMs = 30_000

const ways = [
  'cursor',
  'cursor',
  'cursor',
  'cursor',
  'older cursor',
  'no cursor',
  'foreign',
  'beyond',
] as const

/** One cut, and how it is gone on from. */
interface Cut {
  bytes: number
  by: 'fin' | 'reset'
  pauseMs: number
  way: (typeof ways)[number]
  inHeader: boolean
  where: 0 | 1
  /** Which of the earlier frames an older cursor is, as a share of them. */
  older: number
}

const cutOf = (random: Random): Cut => ({
  bytes: random.int(0, random.pick([60, 400, 1_500, 6_000])),
  by: random.pick(['fin', 'reset']),
  pauseMs: random.pick([0, 0, 0, 10, 120, 400]),
  way: random.pick(ways),
  inHeader: random.chance(0.5),
  where: random.pick<0 | 1>([0, 1]),
  older: random.next(),
})

const cutsOf = (random: Random) => Array.from({ length: random.int(2, 8) }, () => cutOf(random))

/** The count is of cuts. */
export const cuts: Part = async (world, orders) => {
  const instances = await world.pair()
  const oneHold = createGate(1)
  return runCases('cuts', orders, 8, async (caseNumber, ledger) => {
    const random = randomOf(orders.seed, 'cuts', caseNumber)
    const owner = random.pick<0 | 1>([0, 1])
    const perTokenMs = random.pick([0, 0, 1, 5, 20, 60])
    const tokens = tokensOf(random, random.int(1, perTokenMs > 5 ? 60 : 300))
    const reasoning = random.chance(0.3) ? tokensOf(random, random.int(1, 20)) : []
    const spoken = { text: tokens.join(''), reasoning: reasoning.join('') }
    const plans = Array.from({ length: random.int(1, 3) }, () => cutsOf(random))
    const joinsAfterMs = plans.map(() => random.int(0, 600))

    const user = `cuts-${caseNumber}`
    const client = await world.client(instances[owner], user)
    const id = await client.conversation()
    const delayMs = random.pick([0, 0, 50, 400])
    const script = world.script(user, answer(tokens, { reasoning, perTokenMs, delayMs }))
    const slowForMs = random.chance(0.15) ? random.int(100, 900) : 0
    const slowAfterMs = random.int(0, 800)
    const slow =
      slowForMs === 0 ? undefined : delay(slowAfterMs).then(() => oneHold(() => world.hold(slowForMs)))
    const common = { token: client.token ?? '', withinMs: viewingMs }
    const sent = await viewPatiently(
      {
        ...common,
        origin: instances[owner].origin,
        path: `${basePath}/conversations/${id}/messages`,
        body: { content: script.content },
        cutAfterBytes: plans[0]?.[0]?.bytes,
        cutBy: plans[0]?.[0]?.by ?? 'fin',
      },
      ledger,
    )
    const { status, headers } = await sent.answered
    ledger.check('a send is answered', caseNumber, status === 200, () => `${status} ${sent.text()}`)
    if (status !== 200) return 0
    const path = String(headers['content-location'])

    const made = await Promise.all(
      plans.map(async (plan, chain) => {
        const reader = { ...common, caseNumber, ledger, instances, owner, path }
        if (chain === 0) return follow({ ...reader, plan }, sent)
        await delay(joinsAfterMs[chain])
        const [first] = plan
        const joined = await viewPatiently(
          {
            ...common,
            origin: instances[first?.where ?? 0].origin,
            path,
            cutAfterBytes: first?.bytes,
            cutBy: first?.by ?? 'fin',
          },
          ledger,
        )
        return follow({ ...reader, plan, joined: true }, joined)
      }),
    )
    await slow
    for (const { reading } of made) judge(ledger, caseNumber, reading, spoken)
    ledger.check('one send is one call', caseNumber, script.calls() === 1, () => `${script.calls()} calls`)
    return made.reduce((sum, { count }) => sum + count, 0)
  })
}

interface Reader {
  token: string
  caseNumber: number
  ledger: Ledger
  instances: readonly [Instance, Instance]
  owner: 0 | 1
  path: string
  plan: readonly Cut[]
  /** Came later, without a cursor. */
  joined?: boolean
}

/** One viewer: reads, is cut, goes on, and at last reads to the end. @returns how often it was cut. */
async function follow(reader: Reader, first: Viewing): Promise<{ reading: Reading; count: number }> {
  const { ledger, caseNumber, plan, path, token, instances } = reader
  const reading = createReading()
  reading.begin(reader.joined === true ? 'no cursor' : 'send')
  let viewing = first
  let count = 0
  for (let step = 0; ; step++) {
    const { status } = await viewing.answered
    const ending = await viewing.ended
    const how = () => `${ending} with status ${status}, after ${JSON.stringify(plan[step - 1] ?? 'none')}`
    const last = plan[step] === undefined
    ledger.check('a viewer is answered', caseNumber, status === 200, () => `${how()}: ${viewing.text()}`)
    ledger.check('never silence', caseNumber, ending === 'whole' || (ending === 'cut' && !last), how)
    if (status !== 200) break
    const wrong = [...viewing.faults.map((fault) => `no frame: ${fault}`), ...reading.take(viewing.frames)]
    ledger.check(
      'frames as the contract has them',
      caseNumber,
      wrong.length === 0,
      () => `${wrong.join('\n')}\n${how()}`,
    )
    const cut = plan[step]
    if (ending === 'cut') count++
    else if (ending !== 'whole' || cut === undefined) break
    if (cut === undefined) break
    await delay(cut.pauseMs)
    const next = plan[step + 1]
    const { cursor, asked } = goOn(reading, cut)
    if (asked === 'cursor' && cut.where !== reader.owner) ledger.note('resumed elsewhere with a cursor')
    viewing = await viewPatiently(
      {
        origin: instances[cut.where].origin,
        token,
        withinMs: viewingMs,
        path: cursor === undefined || cut.inHeader ? path : `${path}?after=${cursor}`,
        headers: cursor !== undefined && cut.inHeader ? { 'last-event-id': cursor } : {},
        cutAfterBytes: next?.bytes,
        cutBy: next?.by ?? 'fin',
      },
      ledger,
    )
  }
  const { length } = reading.terminals()
  ledger.check('exactly one terminal frame', caseNumber, length === 1, () => `${length} terminal frames`)
  if (reading.snapshots() > 0) ledger.note('of these answered by a snapshot')
  return { reading, count }
}

/** Where the client goes on, and what it sends for it. */
function goOn(reading: Reading, cut: Cut): { cursor: string | undefined; asked: Asked } {
  const states = reading.states()
  const newest = reading.state()
  // Behind a terminal frame there is nothing to go on to: then from an earlier one, as a client that forgot.
  const back = cut.way === 'older cursor' || reading.terminals().length > 0
  const from = back ? (states[Math.floor(cut.older * states.length)] ?? newest) : newest
  const known = from.cursor
  let asked: Asked = 'cursor'
  let cursor = known
  if (cut.way === 'no cursor' || known === undefined) [asked, cursor] = ['no cursor', undefined]
  else if (cut.way === 'foreign')
    [asked, cursor] = ['unknown cursor', `${crypto.randomUUID()}:${known.split(':')[1] ?? ''}`]
  else if (cut.way === 'beyond') [asked, cursor] = ['unknown cursor', known.replace(/:.*/, ':999999')]
  reading.begin(asked, from)
  return { cursor, asked }
}

function judge(
  ledger: Ledger,
  caseNumber: number,
  reading: Reading,
  spoken: { text: string; reasoning: string },
): void {
  const { text, reasoning } = reading.state()
  const differs = (what: string, whole: string) => () => `${difference(what, whole)}\n${reading.history()}`
  ledger.check(
    'text byte-equal to the upstream’s',
    caseNumber,
    text === spoken.text,
    differs(text, spoken.text),
  )
  ledger.check(
    'reasoning byte-equal',
    caseNumber,
    reasoning === spoken.reasoning,
    differs(reasoning, spoken.reasoning),
  )
  const terminal = reading.terminals()[0]?.data
  const message = terminal?.['message'] as Message | undefined
  ledger.check(
    'the terminal frame holds the whole answer',
    caseNumber,
    terminal?.type === 'complete' && message?.status === 'complete' && message.content === spoken.text,
    () => JSON.stringify(terminal ?? null).slice(0, 300),
  )
}

/** Where two texts part. */
export function difference(found: string, wanted: string): string {
  let at = 0
  while (at < wanted.length && found[at] === wanted[at]) at++
  const around = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 20), at + 40))
  return `${found.length} instead of ${wanted.length} units; at ${at} ${around(found)} instead of ${around(wanted)}`
}
