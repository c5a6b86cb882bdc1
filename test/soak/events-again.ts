/** The same events again and again, in any order, by any way, to two instances: done once. */
import { bodyOf, serviceKey, until, type Stand, type Told } from './events-stand.ts'
import { judge, judgeQueues } from './events-judge.ts'
import { startAmqpTap } from './amqp-tap.ts'
import { rabbitUrl } from '../support/rabbitmq.ts'
import type { Random } from './random.ts'

/** What an event gets to be done, ms: most is the time of two busy cores. */
const doneWithinMs = 60_000
const scoreOf = { first: 11, newest: 22 }
const copies = 3

/** Submitted, started and complete in two versions, each three times, shuffled, to two instances. */
export async function shuffled(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber, random } = stand
  const tap = await startAmqpTap(rabbitUrl)
  try {
    const pair = await Promise.all([stand.start(tap.url), stand.start(tap.url)])
    const told = stand.assessments(orders.quick ? 10 : 100)
    const bodies = told
      .flatMap((one) => versionsOf(one, random))
      .flatMap((body) => Array.from({ length: copies }, () => body))
    const all = shuffle(bodies, random)
    // Of equal strings the publisher waits for one only.
    await stand.publish(all.map((body) => Buffer.from(body)))
    const inTime = await stand.untilReady(told.length, doneWithinMs * orders.patience)
    ledger.check('all is done in time', caseNumber, inTime)
    const settled = await untilTaken(stand, tap.seen, all.length)
    ledger.check('every delivery is acknowledged', caseNumber, settled, () => JSON.stringify(tap.seen()))
    await judge(stand, told, { score: scoreOf.newest })
    await Promise.all(pair.map((instance) => instance.kill()))
    await judgeQueues(stand, 0)
    const { refused, unackedMax } = tap.seen()
    ledger.check('nothing is put back by hand', caseNumber, refused === 0)
    ledger.check('at most 20 are unacknowledged', caseNumber, unackedMax <= 20, () => String(unackedMax))
  } finally {
    await tap.close()
  }
}

async function untilTaken(
  { orders }: Stand,
  seen: () => { acked: number; unacked: number },
  count: number,
): Promise<boolean> {
  return until(doneWithinMs * orders.patience, () => seen().acked >= count && seen().unacked === 0)
}

/** Its four events; some tellers count ids, some write camelCase, some number nothing but versions. */
function versionsOf(told: Told, random: Random): string[] {
  const named = random.chance(0.5)
  const id = (name: string) => (named ? { event_id: `${told.assessmentId}/${name}` } : {})
  const at = (minute: number) => ({ occurred_at: `2026-11-20T10:0${minute}:00.000Z` })
  const [submitted, started, complete] = random.chance(0.5)
    ? ['assessment_submitted', 'analysis_started', 'analysis_complete']
    : ['assessment_submitted', 'assessment_started', 'analysis_complete']
  return [
    bodyOf(told, { type: submitted, version: 1, ...id('submitted'), ...at(1) }),
    bodyOf(told, { type: started, version: 1, ...id('started'), ...at(2) }),
    bodyOf(told, { type: complete, version: 1, ...id('complete'), ...at(3) }, scoreOf.first),
    bodyOf(told, { type: complete, version: 2, ...id('complete again'), ...at(4) }, scoreOf.newest),
  ]
}

function shuffle<T>(things: readonly T[], random: Random): T[] {
  return things
    .map((thing) => ({ thing, at: random.next() }))
    .sort((one, other) => one.at - other.at)
    .map(({ thing }) => thing)
}

const atOnce = 10

/** One event ten times at once, over HTTP and over the queue, to two instances. */
export async function together(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber } = stand
  const tap = await startAmqpTap(rabbitUrl)
  try {
    const pair = await Promise.all([stand.start(tap.url), stand.start(tap.url)])
    const told = stand.assessments(orders.quick ? 3 : 20)
    for (const one of told) {
      const body = bodyOf(one, { event_id: `event ${one.assessmentId}` })
      const overHttp = Array.from({ length: atOnce / 2 }, (_, index) =>
        post(pair[index % 2]?.origin ?? '', body),
      )
      const overQueue = stand.publish(Array.from({ length: atOnce / 2 }, () => body))
      const answers = await Promise.all(overHttp)
      await overQueue
      ledger.check(
        'each is taken, over HTTP as new by one at most',
        caseNumber,
        answers.every((status) => status === 200 || status === 202) &&
          answers.filter((status) => status === 202).length <= 1,
        () => answers.join(' '),
      )
    }
    const inTime = await stand.untilReady(told.length, doneWithinMs * orders.patience)
    ledger.check('all is done in time', caseNumber, inTime)
    // It may be done over HTTP alone: what came over the queue is still to be taken, and known.
    const settled = await untilTaken(stand, tap.seen, (told.length * atOnce) / 2)
    ledger.check('every delivery is acknowledged', caseNumber, settled, () => JSON.stringify(tap.seen()))
    await judge(stand, told)
    await Promise.all(pair.map((instance) => instance.kill()))
    await judgeQueues(stand, 0)
  } finally {
    await tap.close()
  }
}

async function post(origin: string, body: string): Promise<number> {
  const answer = await fetch(`${origin}/api/chat/internal/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${serviceKey}`, 'content-type': 'application/json' },
    body,
  })
  await answer.arrayBuffer()
  return answer.status
}
