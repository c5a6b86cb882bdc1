/** Stops at any moment, before the first text too, here and from another instance: how soon is the upstream closed? */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath } from '../support/client.ts'
import { difference } from './cuts.ts'
import { runCases, type Part } from './part.ts'
import { randomOf, tokensOf } from './random.ts'
import { createReading } from './reading.ts'
import { viewPatiently } from './viewing.ts'
import type { Script } from './world.ts'

const hereMs = 500
const elsewhereMs = 2_000
const viewingMs = 40_000
/** An upstream that is not closed by then is not closed by the stop. */
const patientMs = 5_000

/** Two of three are stopped where they run: the full count of 300 is 200 here, 100 from elsewhere. */
export const stops: Part = async (world, orders) => {
  const pair = await world.pair()
  const ledger = await runCases('stops', orders, 4, async (caseNumber, found) => {
    const random = randomOf(orders.seed, 'stops', caseNumber)
    const isHere = caseNumber % 3 !== 0
    const user = `stops-${caseNumber}`
    const owner = random.pick<0 | 1>([0, 1])
    const other = owner === 0 ? 1 : 0
    const client = await world.client(pair[owner], user)
    const stopper = await world.client(pair[isHere ? owner : other], user)
    const id = await client.conversation()
    const tokens = tokensOf(random, 2_000)
    const delayMs = random.pick([0, 0, 200, 5_000])
    const script = world.script(user, answer(tokens, { perTokenMs: random.int(2, 30), delayMs }))
    const sent = await viewPatiently(
      {
        origin: pair[owner].origin,
        token: client.token ?? '',
        path: `${basePath}/conversations/${id}/messages`,
        body: { content: script.content },
        withinMs: viewingMs,
      },
      found,
    )
    const { headers } = await sent.answered
    const path = String(headers['content-location'])
    await delay(random.pick([0, random.int(0, 20), random.int(0, 900)]))

    const askedAt = Date.now()
    const answered = stopper
      .post<Message>(path.replace(/stream$/, 'stop'))
      .then((answer) => ({ ...answer, at: Date.now() }))
    const closedAt = await Promise.race([closing(script, answered), delay(patientMs * orders.patience)])
    const where = isHere ? 'stop here' : 'stop from elsewhere'
    if (closedAt === undefined) {
      found.check(`${where}: the upstream is closed`, caseNumber, false, () => `not within ${patientMs} ms`)
      sent.cut()
      return 1
    }
    const maxMs = isHere ? undefined : elsewhereMs * orders.patience
    found.time(`${where}: upstream closed after`, caseNumber, closedAt - askedAt, maxMs)
    const stopped = await answered
    found.time(`${where}: answered after`, caseNumber, stopped.at - askedAt)

    const ending = await sent.ended
    const reading = createReading()
    reading.begin('send')
    const wrong = [...sent.faults, ...reading.take(sent.frames)]
    const terminals = reading.terminals()
    const { text } = reading.state()
    const told = terminals[0]?.data['message'] as Message | undefined
    found.check(
      'a stop is answered with the message',
      caseNumber,
      stopped.status === 200 && stopped.body.status === 'stopped',
      () => `${stopped.status} ${JSON.stringify(stopped.body).slice(0, 300)}`,
    )
    found.check(
      'what was shown is kept',
      caseNumber,
      stopped.body.content === text && told?.content === text,
      () => difference(stopped.body.content, text),
    )
    found.check('shown text is what the upstream said', caseNumber, tokens.join('').startsWith(text), () =>
      difference(text, tokens.join('')),
    )
    found.check(
      'one terminal frame, stopped',
      caseNumber,
      ending === 'whole' && wrong.length === 0 && terminals.length === 1 && told?.status === 'stopped',
      () =>
        [`${ending}, ${terminals.length} terminal frames, ${told?.status ?? 'none'}`, ...wrong].join('\n'),
    )
    return 1
  })
  ledger.bound('stop here: upstream closed after', 'p99', hereMs * orders.patience)
  return ledger
}

/** When the upstream saw its client go, or when the stop was answered where the upstream had not been asked yet. */
async function closing({ calls, request }: Script, answered: Promise<{ at: number }>): Promise<number> {
  const first = await Promise.race([request.then(() => undefined), answered])
  if (first !== undefined && calls() === 0) return first.at
  const asked = await request
  await asked.ended
  // It was sent to its end: nothing was closed.
  return asked.closedAt ?? Infinity
}
