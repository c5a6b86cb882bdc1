/** Two things at once, on a database that is well: a lock held from outside decides which of them waits. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client } from '../support/client.ts'
import { begin, blocked, endOf, expectExactResume, hold, statements } from '../support/races.ts'
import { storedLog, storedText, untilBlocked, type Begun } from '../support/races.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let other: Service
let ann: Client
let annElsewhere: Client

beforeAll(async () => {
  const env = { RATE_LIMIT_RUNNING_GENERATIONS: '2' }
  service = await startService({ env })
  const { databaseUrl, upstream } = service
  other = await startService({
    env,
    resolved: {
      databaseUrl,
      exclusive: false,
      upstream: { baseUrl: upstream.baseUrl, apiKey: 'test', defaultModel: 'rivulet/demo:free' },
    },
  })
  ann = await service.as('ann')
  annElsewhere = await other.as('ann')
})
afterAll(async () => {
  await other.close()
  await service.close()
})
beforeEach(() => service.upstream.forget())

interface Spoken extends Begun {
  /** Holds the upstream after its third token; `gate.end()` ends the answer well. */
  gate: ReturnType<typeof gated>
  /** The same stream, watched on the other instance. */
  elsewhere: Begun['stream']
  upstreamRequest: Awaited<ReturnType<Service['upstream']['nextRequest']>>
}

const words = 't1 t2 t3 '

/** An answer of three tokens, watched on both instances, and stored so far: no flush is under way or due. */
async function speak(): Promise<Spoken> {
  const gate = gated()
  service.upstream.script(gate)
  const begun = await begin(ann)
  const upstreamRequest = await service.upstream.nextRequest()
  const elsewhere = await annElsewhere.stream(begun.url, undefined)
  gate.release(3)
  await elsewhere.until(() => textOf(elsewhere.frames).endsWith('t3 '))
  return { ...begun, gate, elsewhere, upstreamRequest }
}

const lockGeneration = (id: string) =>
  hold(service.sql, (session) => session`select 1 from chat.generations where id = ${id} for update`)
const lockConversation = (id: string) =>
  hold(service.sql, (session) => session`select 1 from chat.conversations where id = ${id} for update`)

/** What the stopper or deleter cannot have changed: one end, the same for everybody, and stored once. */
async function expectOneEnd(spoken: Spoken, status: Message['status']): Promise<Message> {
  const [here, there] = [await endOf(spoken.stream), await endOf(spoken.elsewhere)]
  expect(here.message).toMatchObject({ status, content: words })
  expect(there.frame).toEqual(here.frame)
  const log = await storedLog(service.sql, spoken.generation)
  expect(storedText(log)).toBe(words)
  expect(log.at(-1)).toMatchObject({ seq: here.frame.seq, type: 'complete' })
  const [stored] = await service.sql`select status from chat.generations where id = ${spoken.generation}`
  expect(stored).toEqual({ status })
  const used = await service.sql`
    select source, cost from chat.usage_tracking where generation_id = ${spoken.generation}`
  expect(used).toHaveLength(1)
  return here.message
}

describe('an end that meets a flush in flight', () => {
  it('is stored behind it: the log has no gap and no repeat, and the terminal frame waits for both', async () => {
    const { stream, elsewhere, gate, generation, messagePath, url, upstreamRequest } = await speak()
    const release = await hold(
      service.sql,
      (session) => session`lock table chat.generation_chunks in share mode`,
    )
    gate.release(2)
    await untilBlocked(service.sql, statements.flush)
    gate.release(2)
    gate.end()
    await stream.until(() => textOf(stream.frames).endsWith('t7 '))
    await upstreamRequest.ended
    // Many round trips later the settle has still not come to the database: it waits for the flush.
    for (let asked = 0; asked < 25; asked++) {
      expect((await ann.get(messagePath)).body).toMatchObject({ status: 'streaming' })
      expect(await blocked(service.sql)).toEqual([expect.stringContaining(statements.flush)])
    }
    expect(stream.frames.at(-1)?.data.type).toBe('assistant_chunk')
    await release()
    const { message } = await endOf(stream)
    expect(message).toMatchObject({ status: 'complete', content: 't1 t2 t3 t4 t5 t6 t7 ' })
    expect((await endOf(elsewhere)).message).toEqual(message)
    expect(storedText(await storedLog(service.sql, generation))).toBe(message.content)
    const whole = await stream.ended
    await expectExactResume(ann, url, whole)
    await expectExactResume(annElsewhere, url, whole)
  })
})

describe('a stop that comes between the upstream’s end and its commit', () => {
  it.each([
    ['here', () => ann],
    ['on another instance', () => annElsewhere],
  ])('%s is told what the viewers are told, and what is stored: complete', async (where, stopper) => {
    const spoken = await speak()
    const release = await lockGeneration(spoken.generation)
    spoken.gate.end()
    await untilBlocked(service.sql, statements.settle)
    const stopping = stopper().post<Message>(`${spoken.messagePath}/stop`)
    // Elsewhere the request for it queues behind the settle; here it has come long before three others are answered.
    if (where !== 'here') await untilBlocked(service.sql, statements.settle, statements.requestStop)
    else for (let asked = 0; asked < 3; asked++) await ann.get(spoken.messagePath)
    expect(spoken.stream.frames.at(-1)?.data.type).toBe('assistant_chunk')
    await release()
    const { status, body } = await stopping
    const message = await expectOneEnd(spoken, 'complete')
    expect({ status, body }).toEqual({ status: 200, body: message })
    for (const reader of [ann, annElsewhere])
      expect((await reader.get<Message>(spoken.messagePath)).body).toEqual(message)
  })

  it('and is asked for before the settle has touched the generation changes nothing either', async () => {
    const spoken = await speak()
    const release = await lockConversation(spoken.id)
    spoken.gate.end()
    await untilBlocked(service.sql, statements.lockConversation)
    const stopping = annElsewhere.post<Message>(`${spoken.messagePath}/stop`)
    await expect
      .poll(
        () => service.sql`
          select 1 from chat.generations where id = ${spoken.generation} and stop_requested_at is not null`,
      )
      .toHaveLength(1)
    await release()
    const message = await expectOneEnd(spoken, 'complete')
    expect((await stopping).body).toEqual(message)
  })
})

describe('a delete', () => {
  /** Nothing is found any more, by any way, on any instance, and nothing runs on. */
  async function expectGone({ id, messagePath, url, upstreamRequest }: Spoken): Promise<void> {
    await upstreamRequest.ended
    for (const client of [ann, annElsewhere])
      for (const path of [`/conversations/${id}`, messagePath, url]) {
        const { status, body } = await client.get(path)
        expect([path, status, body['code']]).toEqual([path, 404, 'conversation_not_found'])
      }
    expect((await ann.post(`/conversations/${id}/messages`, { content: 'back?' })).status).toBe(404)
    const [row] = await service.sql`select status from chat.conversations where id = ${id}`
    expect(row).toEqual({ status: 'deleted' })
  }

  it('that meets a settle waits for it: the answer is stored and paid for, and everything is gone', async () => {
    const spoken = await speak()
    const release = await lockGeneration(spoken.generation)
    spoken.gate.end()
    await untilBlocked(service.sql, statements.settle)
    const deleting = ann.request('DELETE', `/conversations/${spoken.id}`)
    await untilBlocked(service.sql, statements.settle, statements.lockConversation)
    await release()
    expect((await deleting).status).toBe(204)
    await expectOneEnd(spoken, 'complete')
    await expectGone(spoken)
  })

  it('that is being stored lets the settle behind it end the answer, and brings nothing back', async () => {
    await service.sql`
      create function wait_for_test() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(4711); return new; end $$`
    await service.sql`
      create trigger wait_for_test before update on chat.conversations for each row
        when (new.status = 'deleted') execute function wait_for_test()`
    const spoken = await speak()
    const release = await hold(service.sql, (session) => session`select pg_advisory_xact_lock(4711)`)
    const deleting = ann.request('DELETE', `/conversations/${spoken.id}`)
    await untilBlocked(service.sql, 'update chat.conversations set')
    spoken.gate.end()
    await untilBlocked(service.sql, 'update chat.conversations set', statements.lockConversation)
    await release()
    expect((await deleting).status).toBe(204)
    await expectOneEnd(spoken, 'complete')
    await expectGone(spoken)
  })

  it('on another instance stops the answer here: its upstream is closed, its text and its cost are kept', async () => {
    const spoken = await speak()
    expect((await annElsewhere.request('DELETE', `/conversations/${spoken.id}`)).status).toBe(204)
    await expect.poll(() => spoken.upstreamRequest.closedAt, { timeout: 2_000 }).toEqual(expect.any(Number))
    await expectOneEnd(spoken, 'stopped')
    await expectGone(spoken)
  })
})

describe('three sends at once on two instances where two may run', () => {
  it('run twice and are refused once, however they meet', async () => {
    const bob = [await service.as('bob'), await other.as('bob'), await service.as('bob')]
    const ids = await Promise.all(bob.map((client) => client.conversation()))
    const gate = gated()
    service.upstream.always(gate)
    const lock = "pg_advisory_xact_lock(hashtextextended('running:bob', 0))"
    const release = await hold(service.sql, (session) => session.unsafe(`select ${lock}`))
    const sending = bob.map((client, n) =>
      client.stream(`/conversations/${ids[n] ?? ''}/messages`, { content: 'me' }),
    )
    await untilBlocked(service.sql, ...sending.map(() => 'select pg_advisory_xact_lock'))
    await release()
    const streams = await Promise.all(sending)
    expect(streams.map(({ status }) => status).sort()).toEqual([200, 200, 429])
    const running =
      await service.sql`select 1 from chat.generations where user_id = 'bob' and status = 'running'`
    expect(running).toHaveLength(2)
    gate.release(1)
    gate.end()
    await Promise.all(streams.map(({ ended }) => ended))
    expect(service.upstream.requests).toHaveLength(2)
    expect(await service.sql`select 1 from chat.messages where user_id = 'bob'`).toHaveLength(4)
  })
})

describe('an answer that begins while a flush is in flight', () => {
  it('starts no second one: what was said meanwhile is stored behind it, with no gap', async () => {
    const { stream, gate, generation } = await speak()
    const release = await hold(
      service.sql,
      (session) => session`lock table chat.generation_chunks in share mode`,
    )
    gate.release(1)
    await untilBlocked(service.sql, statements.flush)
    gate.release(2)
    await stream.until(() => textOf(stream.frames).endsWith('t6 '))
    const bob = await service.as('bob')
    const other = gated()
    service.upstream.script(other)
    const begun = await begin(bob)
    // Several times the pause between two flushes.
    const until = performance.now() + 400
    await expect.poll(() => performance.now() > until).toBe(true)
    expect(await blocked(service.sql)).toEqual([expect.stringContaining(statements.flush)])
    await release()
    gate.release(1)
    await expect
      .poll(async () => storedText(await storedLog(service.sql, generation)))
      .toBe('t1 t2 t3 t4 t5 t6 t7 ')
    gate.end()
    other.end()
    await endOf(stream)
    await begun.stream.ended
  })
})

describe('a viewer elsewhere who comes before anything is stored', () => {
  it('with the cursor of another answer is told to drop what it has, and gets all of this one', async () => {
    const foreign = await speak()
    foreign.gate.end()
    const [cut] = await foreign.stream.ended
    const gate = gated()
    service.upstream.script(gate)
    const release = await hold(
      service.sql,
      (session) => session`lock table chat.generation_chunks in share mode`,
    )
    const begun = await begin(ann)
    gate.release(2)
    const viewer = await annElsewhere.stream(`${begun.url}?after=${cut?.id ?? ''}`, undefined)
    const first = await viewer.until(() => true)
    expect(first.data).toMatchObject({ type: 'snapshot', message: { id: begun.message, content: '' } })
    await release()
    gate.end()
    const { message } = await endOf(viewer)
    expect([message.content, textOf(viewer.frames)]).toEqual(['t1 t2 ', 't1 t2 '])
    await endOf(begun.stream)
  })

  it('is told nothing of an end that its log has not got: no thoughts of it either, they come with the log', async () => {
    service.upstream.script(answer(['said'], { reasoning: ['thought'] }))
    const id = await ann.conversation()
    const sent = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    const { message } = await endOf(sent)
    expect(message.metadata['reasoning']).toBe('thought')
    // As it is seen by who reads the generation before its settle and the message after it.
    const [row] = await service.sql<{ id: string }[]>`
      update chat.generations set status = 'running', heartbeat_at = now() + interval '1 minute'
      where message_id = ${message.id} returning id`
    await service.sql`delete from chat.generation_chunks where generation_id = ${row?.id ?? ''}`
    const url = `/conversations/${id}/messages/${message.id}/stream?after=${crypto.randomUUID()}:1`
    const viewer = await annElsewhere.stream(url, undefined)
    const first = await viewer.until(() => true)
    expect(first.data['message']).toMatchObject({ content: '', status: 'streaming' })
    expect((first.data['message'] as Message).metadata).not.toHaveProperty('reasoning')
    await service.sql`update chat.generations set status = 'complete' where id = ${row?.id ?? ''}`
    viewer.drop()
  })
})
