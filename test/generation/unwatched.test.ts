/**
 * The news that an answer's end is: left by whoever settles it, and taken back when somebody has watched it to its end,
 * on any instance. Too much news is allowed where a process dies or the database is away; too little never.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { answer, cutAfter, errorAfter, gated } from '../../src/embedded/demo-model.ts'
import { reap } from '../../src/generation/engine.ts'
import { createClient, type Client } from '../support/client.ts'
import { openDatabase } from '../support/engines.ts'
import { begin, endOf, storedLog, storedText } from '../support/races.ts'
import { jwtSecret, startService, type Service } from '../support/service.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { takeTurn } from '../support/turn.ts'

let service: Service
/** Another instance, which reaches the database through the proxy. */
let other: Service
let proxy: TcpProxy
let ann: Client
let annElsewhere: Client
/** Of the other instance. */
const logs: Record<string, unknown>[] = []

beforeAll(async () => {
  const env = { RATE_LIMIT_RUNNING_GENERATIONS: '50' }
  service = await startService({ env })
  proxy = await startTcpProxy(service.databaseUrl)
  other = await startService({ env, resolved: { databaseUrl: proxy.url, exclusive: false }, logs })
  ann = await service.as('ann')
  annElsewhere = await other.as('ann')
})
afterAll(async () => {
  await other.close()
  await proxy.close()
  await service.close()
})
beforeEach(() => {
  service.upstream.forget()
  other.upstream.forget()
})

const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 12_000, interval: 20 })

const news = (generation: string) => service.sql<{ kind: string; user_id: string; due_s: number }[]>`
  select kind, user_id, extract(epoch from run_at - now())::float8 as due_s from chat.jobs
  where key = ${generation} and status = 'queued'`
const one = [{ kind: 'tell_unwatched', user_id: 'ann' }]
const told = (generation: string) =>
  service.sql`select type from chat.notifications where data->>'generation_id' = ${generation}`

const settled = (generation: string) =>
  eventually(
    async () => (await service.sql`select status from chat.generations where id = ${generation}`)[0],
  ).not.toEqual({ status: 'running' })

/** Settled, and both instances have taken back what they knew of: each an answer that was watched behind it. */
async function left(generation: string): Promise<void> {
  await settled(generation)
  // A busy machine may need longer than they wait.
  await service.sql`update chat.jobs set run_at = run_at + interval '1 minute' where key = ${generation}`
  for (const [client, { upstream }] of [
    [ann, service],
    [annElsewhere, other],
  ] as const) {
    upstream.script(answer('behind it'))
    const { message } = await endOf((await begin(client)).stream)
    const [behind] = await service.sql`select id from chat.generations where message_id = ${message.id}`
    await eventually(() => news(String(behind?.['id']))).toEqual([])
  }
  expect(await news(generation)).toMatchObject(one)
}

async function takenBack(generation: string): Promise<void> {
  await settled(generation)
  await eventually(() => news(generation)).toEqual([])
  expect(await told(generation)).toEqual([])
}

/** An answer that a test lets go on, watched by whoever asked. */
async function ask(client = ann, { upstream } = service, options: Parameters<typeof gated>[0] = {}) {
  const gate = gated(options)
  upstream.script(gate)
  const begun = await begin(client)
  gate.release(2)
  await begun.stream.until(({ data }) => data.type === 'assistant_chunk')
  return { ...begun, gate }
}

/** An answer whose end nobody has seen, and that is news. */
async function unwatched() {
  const begun = await ask()
  begun.stream.drop()
  begun.gate.end()
  await settled(begun.generation)
  return begun
}

/** The only generation of a conversation that had a turn; the last of one that had more. */
const lastOf = async (conversation: string) =>
  String(
    (
      await service.sql`
      select id from chat.generations where conversation_id = ${conversation} order by started_at desc, id desc limit 1`
    )[0]?.['id'],
  )

describe('an end that nobody watches is news', () => {
  it('in ten seconds, for its user, where the viewer has left in the middle', async () => {
    const { generation } = await unwatched()
    const [job] = await news(generation)
    expect(job?.due_s).toBeGreaterThan(6)
    expect(job?.due_s).toBeLessThanOrEqual(10)
    await left(generation)
  })

  it('where a client who waits for JSON has left', async () => {
    const gate = gated()
    service.upstream.script(gate)
    const id = await ann.conversation()
    const controller = new AbortController()
    const response = fetch(`${service.origin}/api/chat/conversations/${id}/messages`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ann.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ content: 'Hello?' }),
      signal: controller.signal,
    })
    await service.upstream.nextRequest()
    controller.abort()
    await response.catch(() => undefined)
    gate.release()
    gate.end()
    await left(await lastOf(id))
  })

  it('where it is a failure', async () => {
    const { stream, gate, generation } = await ask(ann, service, { then: cutAfter(0).steps })
    stream.drop()
    gate.end()
    await left(generation)
  })

  it('though somebody asks for its HEAD', async () => {
    const { generation, url } = await unwatched()
    expect((await ann.request('HEAD', url)).status).toBeGreaterThanOrEqual(400)
    await left(generation)
  })

  it('while a client reads nothing, and not any more when it has read all', async () => {
    const pieceBytes = 64 * 1024
    const gate = gated({ tokens: Array.from({ length: 60 }, () => 'x'.repeat(pieceBytes)) })
    service.upstream.script(gate)
    const id = await ann.conversation()
    const { hostname, port } = new URL(service.origin)
    const reader = connect(Number(port), hostname)
    onTestFinished(() => void reader.destroy())
    const body = JSON.stringify({ content: 'Hello?', stream: true })
    reader.write(
      `POST /api/chat/conversations/${id}/messages HTTP/1.1\r\nhost: test\r\nauthorization: Bearer ${ann.token}\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
    )
    await service.upstream.nextRequest()
    const generation = await lastOf(id)
    // More at once than can be flushed would end it.
    for (let released = 10; released <= 60; released += 10) {
      gate.release(10)
      await eventually(async () => storedText(await storedLog(service.sql, generation)).length).toBe(
        released * pieceBytes,
      )
    }
    gate.end()
    await left(generation)
    reader.resume()
    await once(reader, 'end')
    await takenBack(generation)
  })

  it('where the turn itself was in doubt: it ended before it began, and whoever asked may not know', async () => {
    const lost = proxy.loseCommit('is it stored?')
    const id = await annElsewhere.conversation()
    const answered = annElsewhere.post(`/conversations/${id}/messages`, { content: 'Is it stored?' })
    await lost
    expect((await answered).status).toBe(503)
    const generation = await lastOf(id)
    await left(generation)
  })

  it('where the database was away when it came, once', async () => {
    const { stream, gate, generation } = await ask(annElsewhere, other)
    await eventually(async () => storedText(await storedLog(service.sql, generation))).toContain('t2 ')
    stream.drop()
    await proxy.refuse()
    gate.end()
    await eventually(() =>
      logs.some((line) => line['event'] === 'settle_failed' && line['generationId'] === generation),
    ).toBe(true)
    await proxy.pass()
    await left(generation)
  })

  it.each(['stopped', 'deleted'] as const)('but not where it was %s', async (how) => {
    const { stream, id, messagePath, generation } = await ask()
    stream.drop()
    if (how === 'stopped') await ann.post(`${messagePath}/stop`)
    else await ann.request('DELETE', `/conversations/${id}`)
    await settled(generation)
    expect(await news(generation)).toEqual([])
  })
})

describe('an end that somebody watches is none', () => {
  it.each(['json', 'sse'] as const)('as %s, of a question and of the same one again', async (as) => {
    const id = await ann.conversation()
    const { assistant } = await takeTurn(ann, id, as)
    await takenBack(await lastOf(id))
    const path = `/conversations/${id}/messages/${assistant.id}/regenerate`
    if (as === 'json') await ann.post(path)
    else await (await ann.stream(path, {})).ended
    await takenBack(await lastOf(id))
  })

  it.each(['json', 'sse'] as const)('as %s where it is a failure', async (as) => {
    service.upstream.script(errorAfter(3))
    const id = await ann.conversation()
    expect((await takeTurn(ann, id, as)).error).toBeDefined()
    await takenBack(await lastOf(id))
  })

  it.each([
    ['this', () => ann],
    ['another', () => annElsewhere],
  ] as const)('by the one of two viewers who has stayed, on %s instance', async (_which, who) => {
    const { stream, gate, generation, url } = await ask()
    const staying = await who().stream(url, undefined)
    await staying.until(({ data }) => data.type === 'assistant_chunk' || data.type === 'snapshot')
    stream.drop()
    gate.end()
    await endOf(staying)
    await takenBack(generation)
  })

  it.each(['its log', 'its message alone'] as const)(
    'by who comes afterwards, elsewhere, to %s',
    async (what) => {
      const { generation, url } = await unwatched()
      expect(await news(generation)).toMatchObject(one)
      if (what !== 'its log')
        await service.sql`delete from chat.generation_chunks where generation_id = ${generation}`
      await endOf(await annElsewhere.stream(url, undefined))
      await takenBack(generation)
    },
  )

  it.each(['json', 'sse'] as const)('by a request that is repeated elsewhere, as %s', async (as) => {
    const headers = { 'idempotency-key': crypto.randomUUID() }
    const id = await ann.conversation()
    const path = `/conversations/${id}/messages`
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(path, { content: 'once' }, headers)
    await stream.until(({ data }) => data.type === 'assistant_start')
    stream.drop()
    gate.end()
    const generation = await lastOf(id)
    await settled(generation)
    expect(await news(generation)).toMatchObject(one)
    if (as === 'sse') await endOf(await annElsewhere.stream(path, { content: 'once' }, headers))
    else await annElsewhere.request('POST', path, { content: 'once' }, headers)
    await takenBack(generation)
  })

  it('though the database goes away behind it', async () => {
    const held = proxy.holdBack('answers were watched')
    const { stream, gate, generation } = await ask(annElsewhere, other)
    gate.end()
    await endOf(stream)
    await held
    await proxy.refuse()
    await eventually(() => logs.some((line) => line['event'] === 'watched_unnoted')).toBe(true)
    expect(await news(generation)).toMatchObject(one)
    await proxy.pass()
    await takenBack(generation)
  })

  it('though the process stops at once', async () => {
    const stopping = await startService({ resolved: { databaseUrl: service.databaseUrl, exclusive: false } })
    const gate = gated()
    stopping.upstream.script(gate)
    const { stream, generation } = await begin(await stopping.as('ann'))
    gate.release()
    // Cut off by the stop: the end that its viewer is shown is a failure.
    await Promise.all([stopping.close(), endOf(stream)])
    expect(await news(generation)).toEqual([])
    expect(await told(generation)).toEqual([])
  })
})

describe('a process that is killed', () => {
  async function startVictim() {
    const child = spawn(
      process.execPath,
      [
        join(import.meta.dirname, '../support/victim.ts'),
        service.databaseUrl,
        service.upstream.baseUrl,
        jwtSecret,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    onTestFinished(() => void child.kill('SIGKILL'))
    const [origin] = (await once(child.stdout, 'data')) as [Buffer]
    const kill = async () => {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    return { there: createClient(origin.toString().trim(), ann.token), kill }
  }

  it('behind the end leaves the news to others, who tell them', async () => {
    const { there, kill } = await startVictim()
    const { stream, gate, generation } = await ask(there)
    stream.drop()
    gate.end()
    await settled(generation)
    await kill()
    expect(await news(generation)).toMatchObject(one)
    await service.sql`update chat.jobs set run_at = now() where key = ${generation}`
    await eventually(() => told(generation)).toEqual([{ type: 'generation_finished' }])
    expect(await news(generation)).toEqual([])
  })

  it.each([
    ['is news', 'nothing', one],
    ['is none where a stop had been asked for', 'a stop', []],
    ['is none where the conversation is deleted', 'a deletion', []],
  ])('before the end: what the reaper settles %s', async (_name, before, expected) => {
    const { there, kill } = await startVictim()
    const { id, generation } = await ask(there)
    await kill()
    if (before === 'a stop')
      await service.sql`update chat.generations set stop_requested_at = now() where id = ${generation}`
    if (before === 'a deletion')
      await service.sql`update chat.conversations set status = 'deleted' where id = ${id}`
    await service.sql`
      update chat.generations set heartbeat_at = now() - interval '1 minute' where id = ${generation}`
    await reap(await openDatabase(service.databaseUrl), 30)
    await settled(generation)
    expect(await news(generation)).toMatchObject(expected)
    expect(await news(generation)).toHaveLength(expected.length)
  })
})
