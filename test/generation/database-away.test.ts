/** The database is away from the process that writes an answer: for a while, for too long, or for everybody. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import { reap } from '../../src/generation/engine.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client } from '../support/client.ts'
import { prepareDatabase, startCluster, type Cluster } from '../support/cluster.ts'
import { begin, endOf, hold, storedLog, storedText, terminals, type Begun } from '../support/races.ts'
import { startService, type Service } from '../support/service.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { startUnready, type UnreadyService } from '../support/unready.ts'

/** Reaches the database directly. */
let second: Service
/** Runs the answers; reaches the database through the proxy. */
let owner: Service
let proxy: TcpProxy
let reaper: Database
let ann: Client
let annElsewhere: Client

beforeAll(async () => {
  second = await startService()
  proxy = await startTcpProxy(second.databaseUrl)
  annElsewhere = await second.as('ann')
  reaper = createDatabase({ url: second.databaseUrl, poolMax: 2, log: pino({ level: 'silent' }) })
  await reaper.prepare(new AbortController().signal)
})
afterAll(async () => {
  await reaper.close()
  await proxy.close()
  await second.close()
})

/** For a test. @returns how it ends. */
async function startOwner(stallMs: number): Promise<() => Promise<void>> {
  owner = await startService({
    env: { JOURNAL_STALL_MS: String(stallMs), RATE_LIMIT_RUNNING_GENERATIONS: '20' },
    resolved: { databaseUrl: proxy.url, exclusive: false },
  })
  ann = await owner.as('ann')
  return async () => {
    await proxy.pass()
    await owner.close()
  }
}

const untilStored = (generation: string, word: string) =>
  expect.poll(async () => storedText(await storedLog(second.sql, generation))).toContain(word)

/** An answer of three tokens, and all of it stored. */
async function speak() {
  const gate = gated()
  owner.upstream.script(gate)
  const begun = await begin(ann)
  const upstreamRequest = await owner.upstream.nextRequest()
  gate.release(3)
  await untilStored(begun.generation, 't3 ')
  return { ...begun, gate, upstreamRequest }
}

async function expectNextSendWorks(conversation: string): Promise<void> {
  owner.upstream.script(answer('on we go'))
  const next = await ann.post(`/conversations/${conversation}/messages`, { content: 'next' })
  expect(next.body).toMatchObject({ assistant_message: { content: 'on we go', status: 'complete' } })
}

/** As if it had been silent for a minute; then the second instance looks. */
async function reapNow(generation: string): Promise<void> {
  await second.sql`
    update chat.generations set heartbeat_at = now() - interval '1 minute' where id = ${generation}`
  await reap(reaper, 30)
  const [row] = await second.sql`select status from chat.generations where id = ${generation}`
  expect(row).toEqual({ status: 'interrupted' })
}

describe('an owner that is away for longer than the reaper waits', () => {
  beforeEach(() => startOwner(60_000))

  const kept = { status: 'interrupted', content: 't1 t2 t3 ' }

  /** What holds of its answer once the owner is back, however it was away. */
  async function expectWritesNothingMore(
    { stream, id, messagePath, generation }: Begun,
    atReaping: readonly unknown[],
  ): Promise<void> {
    const { frame, message } = await endOf(stream)
    expect(frame.data).toMatchObject({ type: 'error', error: { retryable: true }, message: kept })
    for (const reader of [ann, annElsewhere])
      expect((await reader.get<Message>(messagePath)).body).toEqual(message)
    await expectNextSendWorks(id)
    expect(await storedLog(second.sql, generation)).toEqual(atReaping)
    expect(
      await second.sql`select 1 from chat.usage_tracking where generation_id = ${generation}`,
    ).toHaveLength(1)
  }

  it('writes nothing more when it is back, closes its upstream, and tells its viewers what is stored', async () => {
    const spoken = await speak()
    const { stream, gate, generation, url, upstreamRequest } = spoken
    const elsewhere = await annElsewhere.stream(url, undefined)
    await elsewhere.until(({ data }) => data.type === 'snapshot')
    await proxy.refuse()
    gate.release(2)
    await stream.until(() => textOf(stream.frames).endsWith('t5 '))
    // Shown, and never stored: who asks for what came behind it is told what there is.
    const beyond = await annElsewhere.stream(`${url}?after=${stream.frames.at(-1)?.id ?? ''}`, undefined)
    expect((await beyond.until(() => true)).data).toMatchObject({
      type: 'snapshot',
      message: { content: 't1 t2 t3 ' },
    })
    await reapNow(generation)
    for (const viewer of [elsewhere, beyond])
      expect((await endOf(viewer)).frame.data).toMatchObject({ type: 'error', message: kept })
    const atReaping = await storedLog(second.sql, generation)
    expect(terminals(stream.frames)).toHaveLength(0)
    expect(upstreamRequest.open).toBe(true)
    await proxy.pass()
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    await expectWritesNothingMore(spoken, atReaping)
  })

  it('and whose flush was under way all that time stores nothing with it', async () => {
    const spoken = await speak()
    const { gate, generation, upstreamRequest } = spoken
    const held = proxy.holdBack('t5 ')
    gate.release(2)
    const passFlush = await held
    await reapNow(generation)
    const atReaping = await storedLog(second.sql, generation)
    expect(upstreamRequest.open).toBe(true)
    passFlush()
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    await expectWritesNothingMore(spoken, atReaping)
  })

  it('and whose answer was complete by then does not make it so: what was settled first counts', async () => {
    const spoken = await speak()
    const { stream, gate, generation, upstreamRequest } = spoken
    const held = proxy.holdBack('select 1 from chat.conversations where id')
    await proxy.refuse()
    gate.release(2)
    gate.end()
    await upstreamRequest.ended
    await stream.until(() => textOf(stream.frames).endsWith('t5 '))
    await proxy.pass()
    // Its settle has set out, and arrives when all is over.
    const passSettle = await held
    await reapNow(generation)
    const atReaping = await storedLog(second.sql, generation)
    expect(terminals(stream.frames)).toHaveLength(0)
    passSettle()
    await expectWritesNothingMore(spoken, atReaping)
  })
})

it('an answer that cannot be reaped keeps no other one from it', async () => {
  onTestFinished(await startOwner(60_000))
  const bad = await speak()
  const good = [await speak(), await speak()]
  await second.sql.unsafe(`
    alter table chat.messages add constraint no_end check (id <> '${bad.message}' or status = 'streaming')`)
  await second.sql`
    update chat.generations set heartbeat_at = now() - interval '1 minute' where status = 'running'`
  await reap(reaper, 30).catch(() => undefined)
  await second.sql`alter table chat.messages drop constraint no_end`
  const statuses = await second.sql`
    select status from chat.generations where id in ${second.sql(good.map(({ generation }) => generation))}`
  expect(statuses).toEqual([{ status: 'interrupted' }, { status: 'interrupted' }])
})

describe('a journal that cannot write for JOURNAL_STALL_MS while its upstream talks', () => {
  beforeEach(() => startOwner(1_000))

  const lock = () => hold(second.sql, (session) => session`lock table chat.generation_chunks in share mode`)

  it.each<[string, () => Promise<() => Promise<void>>]>([
    ['since the database is away', () => proxy.refuse().then(() => () => proxy.pass())],
    ['since its table is locked', lock],
  ])('%s, closes it; the end is told once it is stored, and then all goes on', async (_why, breakIt) => {
    const { stream, gate, generation, id, messagePath, upstreamRequest } = await speak()
    const mend = await breakIt()
    gate.release(2)
    await stream.until(() => textOf(stream.frames).endsWith('t5 '))
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    expect(terminals(stream.frames)).toHaveLength(0)
    await mend()
    const { frame, message } = await endOf(stream)
    expect(frame.data).toMatchObject({
      type: 'error',
      error: { code: 'database_unavailable', retryable: true },
      message: { status: 'failed', content: 't1 t2 t3 t4 t5 ' },
    })
    expect((await annElsewhere.get<Message>(messagePath)).body).toEqual(message)
    expect(storedText(await storedLog(second.sql, generation))).toBe(message.content)
    await expectNextSendWorks(id)
  })
})

describe('PostgreSQL crashes and is started again, with five answers running over it', () => {
  let cluster: Cluster
  let here: UnreadyService
  let there: UnreadyService
  let sql: Sql

  beforeAll(async () => {
    cluster = await startCluster()
    const name = await cluster.create()
    await prepareDatabase(cluster.urlOf(name))
    const env = { RATE_LIMIT_RUNNING_GENERATIONS: '6' }
    here = await startUnready(cluster.urlOf(name), { env })
    there = await startUnready(cluster.urlOf(name), { env })
    await Promise.all([here.app.prepared, there.app.prepared])
    sql = postgres(cluster.urlOf(name), { max: 1, onnotice: () => undefined })
  })
  afterAll(async () => {
    await sql.end()
    await there.close()
    await here.close()
    await cluster.stop()
  })

  it('ends each with complete, when that is stored; no question is lost, and no text that was shown', async () => {
    const gates = Array.from({ length: 5 }, () => gated())
    here.upstream.script(...gates)
    const running = await Promise.all(gates.map((_, n) => begin(here.ann, `question ${n}`)))
    // One more has been asked before anything is sent: its idle connections die with the server too.
    const idle = await here.ann.conversation()
    const elsewhere = await Promise.all(running.map(({ url }) => there.ann.stream(url, undefined)))
    const spoken = (text: string) =>
      Promise.all(running.map(({ stream }) => stream.until(() => textOf(stream.frames).endsWith(text))))
    for (const gate of gates) gate.release(3)
    await spoken('t3 ')

    await cluster.crash()
    for (const gate of gates) gate.release(3)
    await spoken('t6 ')
    for (const gate of gates.slice(0, 3)) gate.end()
    await Promise.all(here.upstream.requests.slice(0, 3).map(({ ended }) => ended))
    const refused = await here.ann.post(`/conversations/${idle}/messages`, { content: 'anybody there?' })
    expect([refused.status, refused.body['code']]).toEqual([503, 'database_unavailable'])
    for (const { stream } of running) expect(terminals(stream.frames)).toHaveLength(0)

    await cluster.revive()
    for (const gate of gates) gate.release(1)
    for (const gate of gates) gate.end()
    const told = await Promise.all(
      running.map(async ({ stream, messagePath }) => {
        await stream.until((frame) => terminals([frame]).length > 0)
        return there.ann.get<Message>(messagePath)
      }),
    )
    for (const [n, { stream, id, generation }] of running.entries()) {
      const { frame, message } = await endOf(stream)
      expect(message).toMatchObject({ status: 'complete', content: textOf(stream.frames) })
      expect(message.content).toMatch(/^t1 t2 t3 t4 t5 t6 (t7 )?$/)
      expect(told[n]).toMatchObject({ status: 200, body: message })
      const mirrored = elsewhere[n]
      if (mirrored === undefined) throw new Error('nobody watched elsewhere')
      expect((await endOf(mirrored)).frame).toEqual(frame)
      expect(storedText(await storedLog(sql, generation))).toBe(message.content)
      const { body } = await there.ann.get<{ messages: Message[] }>(`/conversations/${id}`)
      expect(body.messages).toEqual([stream.frames[0]?.data['message'], message])
      expect(body.messages[0]?.content).toBe(`question ${n}`)
    }
    expect(await sql`select 1 from chat.usage_tracking`).toHaveLength(5)
    expect(await sql`select 1 from chat.generations where status = 'running'`).toHaveLength(0)
    for (const id of [idle, ...running.map((one) => one.id)]) {
      const next = await here.ann.post(`/conversations/${id}/messages`, { content: 'next' })
      expect(next.body).toMatchObject({ assistant_message: { status: 'complete' } })
    }
  })
})
