/** Messages that are no events: each lies in the dead letters with its reason, at once, and nobody waits behind it. */
import type { GetMessage } from 'amqplib'
import { headerNames } from '../../src/broker/fate.ts'
import { rabbitUrl } from '../support/rabbitmq.ts'
import { startAmqpTap } from './amqp-tap.ts'
import { judge, judgeQueues } from './events-judge.ts'
import { bodyOf, until, type Stand } from './events-stand.ts'

/** A good event behind them is done within, ms. */
const behindMs = 5_000
const deliveriesMax = 5
const large = 10 * 1_024 * 1_024

export async function poison(stand: Stand): Promise<void> {
  const { orders, ledger, caseNumber, topology } = stand
  const tap = await startAmqpTap(rabbitUrl)
  try {
    const pair = await Promise.all([stand.start(tap.url), stand.start(tap.url)])
    const [victim, behind] = stand.assessments(2)
    if (victim === undefined || behind === undefined) throw new Error('nobody to tell of')
    await stand.publish([bodyOf(victim)])
    await stand.untilReady(1, behindMs * orders.patience)
    const good = JSON.parse(bodyOf(victim)) as Record<string, unknown>
    const json = (wish: object) => JSON.stringify({ ...good, event_id: crypto.randomUUID(), ...wish })
    const poisons: readonly (readonly [what: string, body: string | Buffer, reason: RegExp])[] = [
      ['bad JSON', '{"type": "analysis_complete", ', /^not_json$/],
      ['no JSON at all', Buffer.from([0xff, 0xfe, 0x00, 0x80]), /^not_json$/],
      ['nothing', '', /^not_json$/],
      ['a wrong schema', json({ user_id: 7 }), /^invalid_event: user_id /],
      ['no object', '[[]]', /^invalid_event/],
      ['NUL in an id', json({ event_id: 'a\0b' }), /^invalid_event: event_id /],
      ['NUL in an assessment', json({ assessment_id: 'a\0b' }), /^invalid_event: assessment_id /],
      ['NUL as a byte', Buffer.concat([Buffer.from(bodyOf(victim)), Buffer.from([0])]), /^not_json$/],
      ['__proto__', bodyOf(victim).replace('{', '{"__proto__": {"type": "x"}, '), /^not_json$/],
      ['10 MB', json({ filler: 'x'.repeat(large) }), /^too_large$/],
      ['an unknown type', json({ type: 'assessment_sold' }), /^unknown_type: /],
      ['another user’s assessment', json({ user_id: 'mallory' }), /^foreign_assessment$/],
      [
        'deep nesting',
        json({ deep: 0 }).replace('"deep":0', `"deep":${'['.repeat(50_000)}${']'.repeat(50_000)}`),
        /./,
      ],
    ]
    const before = tap.seen().delivered
    await stand.publish(poisons.map(([, body]) => body))
    const publishedAt = Date.now()
    await stand.publish([bodyOf(behind)])
    await stand.untilReady(2, behindMs * 2 * orders.patience)
    ledger.time(
      'a good event behind them is done',
      caseNumber,
      Date.now() - publishedAt,
      behindMs * orders.patience,
    )
    // One that is only strange is done, and lies nowhere.
    const strange = 1
    await until(
      behindMs * orders.patience,
      async () =>
        (await stand.depth(topology.deadQueue)) >= poisons.length - strange && tap.seen().unacked === 0,
    )
    const dead = await stand.takeAll(topology.deadQueue)
    for (const [what, body, reason] of poisons) {
      if (what === 'deep nesting') continue
      const lying = dead.filter(({ content }) => content.equals(Buffer.from(body)))
      ledger.check(
        'each lies in the dead letters once, with its reason',
        caseNumber,
        lying.length === 1 && lying.every((message) => reason.test(reasonOf(message))),
        () => `${what}: ${JSON.stringify(lying.map(reasonOf))}`,
      )
    }
    const delivered = tap.seen().delivered - before
    const most = delivered - poisons.length
    ledger.check('none is delivered again and again', caseNumber, most < deliveriesMax, () =>
      String(delivered),
    )
    ledger.check('nothing is put back by hand', caseNumber, tap.seen().refused === 0)
    const foreign = await stand.world.sql`select from chat.conversations where user_id = 'mallory'`
    ledger.check('nobody gets another one’s assessment', caseNumber, foreign.length === 0)
    await judge(stand, [victim, behind])
    await Promise.all(pair.map((instance) => instance.kill()))
    await judgeQueues(stand, 0)
  } finally {
    await tap.close()
  }
}

const reasonOf = ({ properties }: GetMessage): string => String(properties.headers?.[headerNames.reason])
