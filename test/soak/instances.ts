/** One answer watched on two instances at once: how much later does the other one show it? */
import { answer } from '../../src/embedded/demo-model.ts'
import { basePath } from '../support/client.ts'
import { difference } from './cuts.ts'
import { runCases, type Part } from './part.ts'
import { randomOf, tokensOf } from './random.ts'
import { createReading } from './reading.ts'
import { isTerminal, viewPatiently, type TimedFrame, type Viewing } from './viewing.ts'

/** Added to each text by being watched elsewhere: 95 of 100. */
const addedMs = 250
const viewingMs = 40_000
const tokensPerAnswer = 80

export const instances: Part = async (world, orders) => {
  const pair = await world.pair()
  const ledger = await runCases('instances', orders, 4, async (caseNumber, found) => {
    const random = randomOf(orders.seed, 'instances', caseNumber)
    const user = `instances-${caseNumber}`
    const owner = random.pick<0 | 1>([0, 1])
    const client = await world.client(pair[owner], user)
    const id = await client.conversation()
    const tokens = tokensOf(random, tokensPerAnswer)
    const script = world.script(user, answer(tokens, { perTokenMs: 20, delayMs: random.int(0, 300) }))
    const common = { token: client.token ?? '', withinMs: viewingMs }
    const here = await viewPatiently(
      {
        ...common,
        origin: pair[owner].origin,
        path: `${basePath}/conversations/${id}/messages`,
        body: { content: script.content },
      },
      found,
    )
    const { headers } = await here.answered
    const path = String(headers['content-location'])
    const elsewhere = await viewPatiently(
      { ...common, origin: pair[owner === 0 ? 1 : 0].origin, path },
      found,
    )
    const attached = await elsewhere.answered
    for (const viewing of [here, elsewhere]) {
      const ending = await viewing.ended
      const { text, wrong, terminals } = read(viewing, viewing === here)
      found.check('each viewer has the whole text', caseNumber, text === tokens.join(''), () =>
        difference(text, tokens.join('')),
      )
      found.check(
        'frames as the contract has them',
        caseNumber,
        ending === 'whole' && wrong.length === 0 && terminals === 1,
        () => [`${ending}, ${terminals} terminal frames`, ...wrong].join('\n'),
      )
    }
    const shownThere = arrivals(elsewhere.frames)
    for (const { length, at } of arrivals(here.frames)) {
      // What was shown before the second viewer came could not be there in time.
      if (at < attached.at) continue
      const there = shownThere.find((arrival) => arrival.length >= length)
      if (there !== undefined) found.time('text elsewhere, later by', caseNumber, there.at - at)
    }
    const ends = [here, elsewhere].map(({ frames }) => frames.find(isTerminal)?.at ?? 0)
    found.time('terminal frame elsewhere, later by', caseNumber, (ends[1] ?? 0) - (ends[0] ?? 0))
    return 1
  })
  ledger.bound('text elsewhere, later by', 'p95', addedMs * orders.patience)
  return ledger
}

function read(viewing: Viewing, sent: boolean): { text: string; wrong: string[]; terminals: number } {
  const reading = createReading()
  reading.begin(sent ? 'send' : 'no cursor')
  const wrong = [...viewing.faults, ...reading.take(viewing.frames)]
  return { text: reading.state().text, wrong, terminals: reading.terminals().length }
}

/** When a viewer had how much of the text. */
function arrivals(frames: readonly TimedFrame[]): { length: number; at: number }[] {
  const reading = createReading()
  reading.begin('send')
  return frames.flatMap((frame) => {
    const before = reading.state().text.length
    reading.take([frame])
    const { length } = reading.state().text
    return length > before ? [{ length, at: frame.at }] : []
  })
}
