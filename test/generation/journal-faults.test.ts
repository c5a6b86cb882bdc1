/** Faults between a process and its database while answers are being written, each made to happen for certain. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { pino } from 'pino'
import { v7 as uuidv7 } from 'uuid'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { cutAfter, gated } from '../../src/embedded/demo-model.ts'
import { createJournal } from '../../src/generation/engine.ts'
import type { JournalVerdict } from '../../src/generation/journal.ts'
import { createLog } from '../../src/generation/log.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client } from '../support/client.ts'
import { begin, endOf, expectExactResume, hold, storedLog, storedText, terminals } from '../support/races.ts'
import { startService, type Service } from '../support/service.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

/** Reaches the database directly, and holds its owner's connection: what is stored. */
let second: Service
/** Runs the answers; reaches the database through the proxy. */
let owner: Service
let proxy: TcpProxy
let ann: Client
let annElsewhere: Client
const logs: Record<string, unknown>[] = []

beforeAll(async () => {
  second = await startService()
  proxy = await startTcpProxy(second.databaseUrl)
  owner = await startService({
    env: { JOURNAL_STALL_MS: '60000', RATE_LIMIT_RUNNING_GENERATIONS: '20' },
    resolved: { databaseUrl: proxy.url, exclusive: false },
    logs,
  })
  ann = await owner.as('ann')
  annElsewhere = await second.as('ann')
})
afterAll(async () => {
  await owner.close()
  await proxy.close()
  await second.close()
})
beforeEach(() => {
  owner.upstream.forget()
  logs.length = 0
})
afterEach(() => proxy.pass())

const statusOf = async (generation: string) =>
  (await second.sql`select status from chat.generations where id = ${generation}`)[0]?.['status'] as string

const untilStored = (generation: string, word: string) =>
  expect.poll(async () => storedText(await storedLog(second.sql, generation))).toContain(word)

async function speak(tokens?: readonly string[]) {
  const gate = gated(tokens === undefined ? {} : { tokens })
  owner.upstream.script(gate)
  const begun = await begin(ann)
  return { ...begun, gate, upstreamRequest: await owner.upstream.nextRequest() }
}

describe('a flush whose acknowledgement is lost', () => {
  const tokens = Array.from({ length: 12 }, (_, n) => `t${n + 1} é🙂 `)

  it('is sent again: nothing is stored twice, nothing is missing, and every cut is resumed exactly', async () => {
    const { stream, gate, generation, url } = await speak(tokens)
    gate.release(2)
    await untilStored(generation, 't2 ')
    const elsewhere = await annElsewhere.stream(`${url}?after=${generation}:0`, undefined)
    // While the upstream talks nobody but the journal sends its words.
    const lost = proxy.loseCommit('t4 ')
    gate.release(2)
    await lost
    expect(storedText(await storedLog(second.sql, generation))).toContain('t4 ')
    gate.release(4)
    await untilStored(generation, 't8 ')
    gate.release(4)
    gate.end()
    const { frame, message } = await endOf(stream)
    expect(message).toMatchObject({ status: 'complete', content: tokens.join('') })
    const log = await storedLog(second.sql, generation)
    expect(storedText(log)).toBe(tokens.join(''))
    expect(log.at(-1)?.seq).toBe(frame.seq)
    expect(textOf(await elsewhere.ended)).toBe(tokens.join(''))
    expect(await endOf(elsewhere)).toEqual({ frame, message })
    const whole = await stream.ended
    await expectExactResume(ann, url, whole)
    await expectExactResume(annElsewhere, url, whole)
    expect(owner.upstream.requests).toHaveLength(1)
  })

  it('while the answer ends is stored over by its settle, from the same event on', async () => {
    const { stream, gate, generation, url, upstreamRequest } = await speak(tokens)
    gate.release(2)
    await untilStored(generation, 't2 ')
    const elsewhere = await annElsewhere.stream(`${url}?after=${generation}:0`, undefined)
    const withheld = proxy.withholdCommit('t4 ')
    gate.release(2)
    const reset = await withheld
    await elsewhere.until(() => textOf(elsewhere.frames).includes('t4 '))
    const [doubtful] = await second.sql`
      select first_seq, last_seq from chat.generation_chunks where generation_id = ${generation}
      order by first_seq desc limit 1`
    gate.release(8)
    gate.end()
    await upstreamRequest.ended
    await stream.until(() => textOf(stream.frames).includes('t12 '))
    expect(terminals(stream.frames)).toHaveLength(0)
    reset()
    const { frame, message } = await endOf(stream)
    expect(message.content).toBe(tokens.join(''))
    // The row in doubt has grown: had the flush been sent again first, the rest would be a row of its own.
    expect(
      await second.sql`
        select first_seq, last_seq from chat.generation_chunks where generation_id = ${generation}
        order by first_seq desc limit 2`,
    ).toEqual([
      { first_seq: String(frame.seq), last_seq: String(frame.seq) },
      { first_seq: doubtful?.['first_seq'] as string, last_seq: String(frame.seq - 1) },
    ])
    expect(storedText(await storedLog(second.sql, generation))).toBe(tokens.join(''))
    expect(textOf(await elsewhere.ended)).toBe(tokens.join(''))
    expect(await endOf(elsewhere)).toEqual({ frame, message })
    await expectExactResume(annElsewhere, url, await stream.ended)
  })
})

describe('a settle whose acknowledgement is lost', () => {
  /** Only a settle carries a terminal event, and as JSON that is not within an array's text. */
  const settled = { complete: '{"type":"complete"}', error: '"type":"error"' }

  it.each([
    ['complete', 'complete', settled.complete],
    ['stopped', 'complete', settled.complete],
    ['interrupted', 'error', settled.error],
  ] as const)('%s: one terminal frame, as it is stored, and its usage once', async (status, type, text) => {
    const gate = gated(status === 'interrupted' ? { then: cutAfter(0).steps } : {})
    owner.upstream.script(gate)
    const { stream, generation, messagePath, url } = await begin(ann)
    gate.release(3)
    await stream.until(() => textOf(stream.frames).includes('t3 '))
    const elsewhere = await annElsewhere.stream(url, undefined)
    const lost = proxy.loseCommit(text)
    const stopping = status === 'stopped' ? ann.post<Message>(`${messagePath}/stop`) : undefined
    if (stopping === undefined) gate.end()
    await lost
    expect(await statusOf(generation)).toBe(status)
    const { frame, message } = await endOf(stream)
    expect(frame.data.type).toBe(type)
    expect(message).toMatchObject({ status, content: 't1 t2 t3 ' })
    expect((await endOf(elsewhere)).frame).toEqual(frame)
    if (stopping !== undefined) expect((await stopping).body).toEqual(message)
    for (const reader of [ann, annElsewhere]) expect((await reader.get(messagePath)).body).toEqual(message)
    const log = await storedLog(second.sql, generation)
    expect(log.at(-1)).toMatchObject({ seq: frame.seq, type })
    expect(
      await second.sql`select 1 from chat.usage_tracking where generation_id = ${generation}`,
    ).toHaveLength(1)
  })
})

describe('a delete whose acknowledgement is lost', () => {
  it('stops the answer all the same: its upstream is closed, its text and its cost are kept', async () => {
    const { stream, gate, id, generation, upstreamRequest } = await speak()
    gate.release(3)
    await untilStored(generation, 't3 ')
    const lost = proxy.loseCommit('deleted')
    const deleting = ann.request('DELETE', `/conversations/${id}`)
    await lost
    expect((await deleting).body).toMatchObject({ code: 'database_unavailable' })
    expect((await annElsewhere.get(`/conversations/${id}`)).status).toBe(404)
    await expect.poll(() => upstreamRequest.closedAt, { timeout: 2_000 }).toEqual(expect.any(Number))
    const { message } = await endOf(stream)
    expect(message).toMatchObject({ status: 'stopped', content: 't1 t2 t3 ' })
    expect(
      await second.sql`select 1 from chat.usage_tracking where generation_id = ${generation}`,
    ).toHaveLength(1)
  })
})

describe('an event that cannot be stored', () => {
  it('ends its own answer with an error, and none of those that are flushed with it', async () => {
    await second.sql`
      alter table chat.generation_chunks add constraint no_poison check (events::text not like '%poison%')`
    const good = [await speak(), await speak()]
    const bad = await speak(['fine', ' poison', ' more', ' and more'])
    for (const { gate } of [...good, bad]) gate.release(2)
    const { message, frame } = await endOf(bad.stream)
    await bad.upstreamRequest.ended
    expect(bad.upstreamRequest.closedAt).toEqual(expect.any(Number))
    expect(frame.data).toMatchObject({
      type: 'error',
      error: {
        code: 'database_unavailable',
        message: expect.stringContaining('could not be stored') as string,
      },
      message: { status: 'failed', content: 'fine poison' },
    })
    expect((await annElsewhere.get(bad.messagePath)).body).toEqual(message)
    expect(
      await second.sql`select 1 from chat.usage_tracking where generation_id = ${bad.generation}`,
    ).toHaveLength(1)
    expect(logs.filter(({ event }) => event === 'journal_row_refused')).toEqual([
      expect.objectContaining({ generationId: bad.generation }),
    ])
    for (const { stream, gate, generation } of good) {
      await untilStored(generation, 't2 ')
      gate.release(1)
      gate.end()
      expect((await endOf(stream)).message).toMatchObject({ status: 'complete', content: 't1 t2 t3 ' })
      expect(storedText(await storedLog(second.sql, generation))).toBe('t1 t2 t3 ')
    }
    const watched = await (await annElsewhere.stream(bad.url, undefined)).ended
    expect(watched.at(-1)?.data).toEqual(frame.data)
    const next = await ann.post(`/conversations/${bad.id}/messages`, { content: 'and now?' })
    expect(next.status).toBe(200)
  })
})

describe('a journal that was silent for so long that somebody may be settling its answers', () => {
  let db: Database
  beforeAll(async () => {
    db = createDatabase({ url: proxy.url, poolMax: 2, log: pino({ level: 'silent' }) })
    await db.prepare(new AbortController().signal)
  })
  afterAll(() => db.close())

  /** A running answer, and a journal of its own for it, whose clock the test moves. */
  async function journalled() {
    const [conversation, message, id, instanceId] = [await ann.conversation(), uuidv7(), uuidv7(), uuidv7()]
    await second.sql`
      insert into chat.messages (conversation_id, id, user_id, sender_type, sender_id, content, content_type, status, metadata)
      values (${conversation}, ${message}, 'ann', 'assistant', 'model', '', 'text', 'streaming', '{}')`
    await second.sql`
      insert into chat.generations (id, conversation_id, message_id, user_id, status, model, instance_id)
      values (${id}, ${conversation}, ${message}, 'ann', 'running', 'model', ${instanceId})`
    let skewMs = 0
    const log = createLog(id)
    const verdicts: JournalVerdict[] = []
    const entry = createJournal({
      transactions: db.settling,
      log: pino({ level: 'silent' }),
      instanceId,
      nowMs: () => performance.now() + skewMs,
      flushMs: 20,
      stallMs: 60_000,
    }).open({ id, log, tell: (verdict) => verdicts.push(verdict), note: () => undefined })
    onTestFinished(async () => {
      await entry.leave()
    })
    const say = (content: string) => log.append({ type: 'assistant_chunk', content })
    return { id, verdicts, say, beSilent: () => (skewMs += 11_000) }
  }

  /** A flush with these words has been sent, and one before it been answered. */
  async function untilTriedTwice(words: string): Promise<void> {
    await proxy.heard(words)
    await proxy.heard(words)
  }

  it('writes nothing while its answer is being settled, nor after', async () => {
    const { id, verdicts, say, beSilent } = await journalled()
    say('one ')
    await untilStored(id, 'one ')
    // As a reaper does it, before its commit.
    const settle = await hold(
      second.sql,
      (session) => session`
        update chat.generations set status = 'interrupted', settled_at = now() where id = ${id}`,
    )
    beSilent()
    say('two ')
    await untilTriedTwice('two ')
    expect(storedText(await storedLog(second.sql, id))).toBe('one ')
    await settle('commit')
    await expect.poll(() => verdicts).toEqual(['lost'])
    expect(storedText(await storedLog(second.sql, id))).toBe('one ')
  })

  it('writes everything, once, where nobody settled it after all, also behind a lost acknowledgement', async () => {
    const { id, verdicts, say, beSilent } = await journalled()
    say('one ')
    await untilStored(id, 'one ')
    const release = await hold(
      second.sql,
      (session) => session`select 1 from chat.generations where id = ${id} for update`,
    )
    const withheld = proxy.withholdCommit('two ')
    say('two ')
    const reset = await withheld
    beSilent()
    say('three ')
    reset()
    await untilTriedTwice('two ')
    await release()
    say('four ')
    await untilStored(id, 'four ')
    expect(storedText(await storedLog(second.sql, id))).toBe('one two three four ')
    expect(verdicts).toEqual([])
  })
})
