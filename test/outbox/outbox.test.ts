/** What is stored for other services: with its transaction or not at all, and only where there is somebody to send to. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import type { Tx } from '../../src/db/database.ts'
import { createOutbox } from '../../src/outbox/outbox.ts'
import { readyEvent, startOutboxBench, type OutboxBench } from '../support/event-receiver.ts'

let bench: OutboxBench
beforeEach(async () => {
  bench = await startOutboxBench()
})
afterEach(() => bench.close())

const exchange = { exchange: true, bridge: false }

/** Counts what leaves through it. */
function counted(tx: Tx): Tx & { statements: () => number } {
  let statements = 0
  return {
    statements: () => statements,
    execute(query) {
      statements++
      return tx.execute(query)
    },
    commit: (issue) => tx.commit(issue),
  }
}

describe('an event', () => {
  it('is stored with its transaction, or not at all', async () => {
    const outbox = createOutbox({ sinks: exchange })
    const failing = bench.database.asSystem('test', async (tx) => {
      await outbox.append(tx, [readyEvent('never')])
      throw new Error('on purpose')
    })
    await expect(failing).rejects.toThrow('on purpose')
    expect(await bench.rows()).toEqual([])
    await bench.database.asSystem('test', (tx) => outbox.append(tx, [readyEvent('stored')]))
    expect(await bench.rows()).toHaveLength(1)
  })

  it('says what it is: its id is its row’s, its time the database’s, its type its routing key', async () => {
    await bench.add(1)
    const [row] = await bench.rows()
    expect(row).toMatchObject({ sink: 'exchange', routing_key: 'chat.conversation_ready', user_id: 'ann' })
    expect(row?.payload).toEqual({
      event_id: row?.id,
      type: 'chat.conversation_ready',
      occurred_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown,
      user_id: 'ann',
      data: { conversation_id: 'c', assessment_id: 'a', title: '0' },
    })
    expect(row?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/)
    const [clock] = await bench.sql<{ same: boolean }[]>`
      select (payload ->> 'occurred_at')::timestamptz = created_at and due_at = created_at and due_at <= now() as same
      from chat.outbox`
    expect(clock?.same).toBe(true)
  })

  it('takes one statement for any number, and none where there is nothing to store or nobody to send to', async () => {
    const events = Array.from({ length: 300 }, (_, n) => readyEvent(String(n)))
    const took = (sinks: { exchange: boolean; bridge: boolean }, stored: typeof events) =>
      bench.database.asSystem('test', async (tx) => {
        const outbox = createOutbox({ sinks })
        const counting = counted(tx)
        await outbox.append(counting, stored)
        await outbox.appendMessage(counting, {
          conversationId: '01900000-0000-7000-8000-000000000000',
          messageId: '01900000-0000-7000-8000-000000000000',
        })
        return counting.statements()
      })
    expect(await took({ exchange: false, bridge: false }, events)).toBe(0)
    // The bridge is of notifications alone.
    expect(await took({ exchange: false, bridge: true }, events)).toBe(0)
    expect(await bench.rows()).toEqual([])
    // One of them is appendMessage's, which finds no such message.
    expect(await took(exchange, [])).toBe(1)
    expect(await took(exchange, events)).toBe(2)
    expect((await bench.rows()).map(({ payload }) => payload.data?.['title'])).toEqual(
      events.map((_, n) => String(n)),
    )
  })

  it('is added by a caller in its own name only, who can neither read nor take back any', async () => {
    const outbox = createOutbox({ sinks: exchange })
    const add = (userId: string) =>
      bench.database.asCaller({ userId: 'ann' }, (tx) => outbox.append(tx, [readyEvent('hers', userId)]))
    await add('ann')
    await expect(add('bob')).rejects.toMatchObject({ code: '42501' })
    expect(await bench.rows()).toMatchObject([{ user_id: 'ann' }])
    for (const attempt of [
      sql`select from chat.outbox`,
      sql`delete from chat.outbox`,
      sql`update chat.outbox set due_at = now()`,
    ])
      await expect(
        bench.database.asCaller({ userId: 'ann' }, (tx) => tx.execute(attempt)),
      ).rejects.toMatchObject({ code: '42501' })
  })

  it('wakes who sends it, and only for whom there is something', () => {
    const woken: unknown[] = []
    const outbox = createOutbox({ sinks: { exchange: true, bridge: true }, wake: (sink) => woken.push(sink) })
    outbox.wake('chat.message_created')
    outbox.wake('notification.events')
    expect(woken).toEqual(['exchange', 'exchange', 'bridge'])
  })
})

describe('a dead letter', () => {
  it('holds what came and why, whatever was in it', async () => {
    const outbox = createOutbox({ sinks: exchange })
    const payload = { 'k\0\ud800': 'a\0b\udc00', path: 'C:\\u0000', deep: [{ t: '😀\\\0' }] }
    await bench.database.asSystem('test', (tx) =>
      outbox.deadLetter(tx, { routingKey: 'analysis.complete', payload, reason: 'unknown_type' }),
    )
    expect(await bench.rows()).toMatchObject([
      {
        sink: 'dead_letters',
        routing_key: 'analysis.complete',
        user_id: null,
        payload: {
          reason: 'unknown_type',
          body: { 'k\ufffd': 'ab\ufffd', path: 'C:\\u0000', deep: [{ t: '😀\\' }] },
        },
      },
    ])
  })

  it('is not stored where there is no broker', async () => {
    const outbox = createOutbox({ sinks: { exchange: false, bridge: true } })
    await bench.database.asSystem('test', (tx) =>
      outbox.deadLetter(tx, { routingKey: 'k', payload: {}, reason: 'r' }),
    )
    expect(await bench.rows()).toEqual([])
  })
})
