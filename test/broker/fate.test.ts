/** Where a message goes that was not done, and what is written on it. */
import { expect, it } from 'vitest'
import type { ConsumeMessage } from 'amqplib'
import { parcelAfter, parcelAgain } from '../../src/broker/fate.ts'
import { topologyOf } from '../../src/broker/topology.ts'

const topology = topologyOf({ exchange: 'x', queue: 'q', routingKey: 'chat.events' })
const now = new Date('2026-01-02T03:04:05.678Z')

/** As amqplib gives it: what is not there is undefined. */
function messageWith(headers: Record<string, unknown>, properties: Record<string, unknown> = {}) {
  return {
    content: Buffer.from('body'),
    fields: {
      deliveryTag: 1,
      redelivered: false,
      exchange: 'x',
      routingKey: 'analysis.complete',
      consumerTag: 'c',
    },
    properties: {
      contentType: undefined,
      messageId: undefined,
      timestamp: undefined,
      ...properties,
      headers,
    },
  } as unknown as ConsumeMessage
}

const after = (headers: Record<string, unknown>, kind: 'retry' | 'dead' = 'retry') =>
  parcelAfter({ kind, reason: 'why' }, messageWith(headers), topology, now)

it.each([
  [undefined, 'q.delay.10s', 1],
  [1, 'q.delay.60s', 2],
  [2, 'q.delay.300s', 3],
])('sends what was tried %s times before to its next delay', (attempts, routingKey, next) => {
  const parcel = after({ 'x-rivulet-attempts': attempts })
  expect(parcel).toMatchObject({ exchange: '', routingKey, dead: false, mandatory: true })
  expect(parcel.properties.headers).toEqual({
    'x-rivulet-attempts': next,
    'x-rivulet-reason': 'why',
    'x-rivulet-routing-key': 'analysis.complete',
  })
})

it.each([
  ['after the last delay', 3, 'retry'],
  ['after more than there are delays', 99, 'retry'],
  ['at once where there is no point in trying again', 0, 'dead'],
] as const)('sends it to the dead letters %s', (_when, attempts, kind) => {
  const parcel = after({ 'x-rivulet-attempts': attempts }, kind)
  expect(parcel).toMatchObject({ exchange: 'q.dead', routingKey: '', dead: true, mandatory: true })
  expect(parcel.properties.headers).toEqual({
    'x-rivulet-attempts': attempts + 1,
    'x-rivulet-reason': 'why',
    'x-rivulet-dead-at': '2026-01-02T03:04:05.678Z',
    'x-rivulet-routing-key': 'analysis.complete',
  })
})

it.each(['7', -1, 1.5, NaN, 2 ** 60, null, {}])('takes %s for no count of attempts', (attempts) => {
  expect(after({ 'x-rivulet-attempts': attempts }).routingKey).toBe('q.delay.10s')
})

it('keeps what a producer wrote on it, and not what would send it elsewhere, end it, or be refused', () => {
  const headers = {
    tenant: 'a',
    CC: ['elsewhere'],
    BCC: ['elsewhere'],
    'x-death': [{ queue: 'q.delay.10s' }],
    'x-first-death-queue': 'q',
    'x-last-death-reason': 'expired',
    'x-delivery-count': 3,
    'x-acquired-count': 3,
  }
  const kept = {
    messageId: 'm',
    type: 't',
    contentType: 'application/json',
    timestamp: 7,
    correlationId: 'c',
  }
  const message = messageWith(headers, { ...kept, expiration: '1', userId: 'guest', replyTo: 'r' })
  const { properties, body } = parcelAfter({ kind: 'dead', reason: 'why' }, message, topology, now)
  expect(properties).toEqual({ ...kept, headers: expect.objectContaining({ tenant: 'a' }) as unknown })
  expect(Object.keys(properties.headers as object).filter((name) => !name.startsWith('x-rivulet-'))).toEqual([
    'tenant',
  ])
  expect(body).toBe(message.content)
})

it('gives a dead message back as it was before it was tried', () => {
  const dead = after({ tenant: 'a', 'x-rivulet-attempts': 3 })
  const message = messageWith(dead.properties.headers as Record<string, unknown>, { messageId: 'm' })
  const fields = { ...message.fields, messageCount: 0 }
  const again = parcelAgain({ ...message, fields }, topology)
  expect(again).toMatchObject({ exchange: '', routingKey: 'q', mandatory: true, body: message.content })
  expect(again.properties).toEqual({
    messageId: 'm',
    headers: { tenant: 'a', 'x-rivulet-routing-key': 'analysis.complete' },
  })
})
