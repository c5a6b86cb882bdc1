/** The database goes away and comes back: told within two seconds, never as a 500, and nothing is lost. */
import { createServer, type AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type OpenStream } from '../support/client.ts'
import { prepareDatabase, startCluster, type Cluster } from '../support/cluster.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { takeTurn } from '../support/turn.ts'
import { startUnready, type UnreadyService } from '../support/unready.ts'

/** What is promised for a 503. */
const withinMs = 2_000

let cluster: Cluster
let template: string
let proxy: TcpProxy
let service: UnreadyService
let database: string

beforeAll(async () => {
  cluster = await startCluster()
  template = await cluster.create()
  await prepareDatabase(cluster.urlOf(template))
})
afterAll(() => cluster.stop())

beforeEach(async () => {
  database = await cluster.create({ template })
  proxy = await startTcpProxy(cluster.urlOf(database))
  service = await startUnready(proxy.url)
  await service.app.prepared
})
afterEach(async () => {
  await proxy.pass()
  await service.close()
  await proxy.close()
})

const ways: [name: string, away: () => Promise<void> | void][] = [
  ['refuses connections', () => proxy.refuse()],
  ['is silent', () => proxy.freeze()],
]

/** Fills the pool, so that the outage meets idle connections. */
async function warm(): Promise<string> {
  const id = await service.ann.conversation()
  const answers = await Promise.all(Array.from({ length: 20 }, () => service.ann.get('/conversations')))
  expect(answers.every(({ status }) => status === 200)).toBe(true)
  return id
}

describe.each(ways)('while it %s', (_name, away) => {
  it('every route answers 503 within two seconds, and the process lives', async () => {
    await warm()
    await away()
    const asked = await service.askEveryRoute()
    expect(asked.length).toBeGreaterThan(8)
    for (const { route, status, tookMs, body, headers } of asked) {
      expect({ route, status, code: body['code'] }).toEqual({
        route,
        status: 503,
        code: 'database_unavailable',
      })
      expect(Number(headers.get('retry-after')), route).toBeGreaterThanOrEqual(1)
      expect(body['retry_after'], route).toBe(Number(headers.get('retry-after')))
      expect(tookMs, route).toBeLessThan(withinMs)
      expect(JSON.stringify(body), route).not.toMatch(/127\.0\.0\.1|ECONN|select|timeout exceeded|\.ts:/i)
    }
  })

  it('it is alive, and neither healthy nor ready, within two seconds', async () => {
    await warm()
    await away()
    const startedAt = performance.now()
    const [live, health, ready] = await Promise.all([
      service.ann.get('/health/live'),
      service.ann.get('/health'),
      service.ann.get('/health/ready'),
    ])
    expect(performance.now() - startedAt).toBeLessThan(withinMs)
    expect(live.status).toBe(200)
    expect(health).toMatchObject({ status: 503, body: { dependencies: { database: { status: 'down' } } } })
    expect(ready).toMatchObject({ status: 503, body: { status: 'database_unavailable' } })
  })

  it('200 requests at once all get their 503 within two seconds, and then it works again', async () => {
    await warm()
    await away()
    const asked = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const startedAt = performance.now()
        const { status } = await service.ann.get('/conversations')
        return { status, tookMs: performance.now() - startedAt }
      }),
    )
    expect(asked.filter(({ status }) => status === 503)).toHaveLength(200)
    expect(Math.max(...asked.map(({ tookMs }) => tookMs))).toBeLessThan(withinMs)
    await proxy.pass()
    const after = await Promise.all(Array.from({ length: 50 }, () => service.ann.get('/conversations')))
    expect(after.map(({ status }) => status)).toEqual(after.map(() => 200))
  })

  it('then the next requests work: no 500, no second 503', async () => {
    const id = await warm()
    await away()
    await Promise.all(Array.from({ length: 5 }, () => service.ann.get('/conversations')))
    await proxy.pass()
    for (let round = 0; round < 20; round++)
      expect((await service.ann.get(`/conversations/${id}`)).status).toBe(200)
    expect((await service.ann.get('/health/ready')).status).toBe(200)
    expect((await takeTurn(service.ann, id, 'json')).assistant.status).toBe('complete')
  })

  it('a send that was refused has left nothing: no message, no running generation', async () => {
    const id = await warm()
    await away()
    expect((await service.ann.post(`/conversations/${id}/messages`, { content: 'lost?' })).status).toBe(503)
    await proxy.pass()
    expect(
      await cluster.sql(database, 'select 1 from chat.messages union all select 1 from chat.generations'),
    ).toEqual([])
    expect(service.upstream.requests).toHaveLength(0)
    expect((await takeTurn(service.ann, id, 'json')).assistant.status).toBe('complete')
  })
})

describe('connections that break', () => {
  it('while idle are made again: the requests right after see nothing of it', async () => {
    await warm()
    for (let round = 0; round < 10; round++) {
      proxy.cut()
      const answers = await Promise.all(Array.from({ length: 10 }, () => service.ann.get('/conversations')))
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    }
  })

  const terminate = 'select pg_terminate_backend(pid) from pg_stat_activity where datname = '
  it.each<[name: string, end: () => unknown]>([
    ['are reset', () => proxy.cut()],
    ['are ended by the server', () => cluster.sql('postgres', `${terminate} '${database}'`)],
  ])('and %s under load never are a 500, nor the end of the process', async (_name, end) => {
    const id = await warm()
    let done = false
    const statuses = new Set<number>()
    const load = Array.from({ length: 8 }, async (_, worker) => {
      for (let round = 0; !done; round++) {
        const answer = await (worker % 2 === 0
          ? service.ann.request('PATCH', `/conversations/${id}`, { title: `title ${round}` })
          : service.ann.get(`/conversations/${id}`))
        statuses.add(answer.status)
      }
    })
    for (let cuts = 0; cuts < 30; cuts++) {
      const { promise, resolve } = Promise.withResolvers<undefined>()
      setTimeout(() => resolve(undefined), 10 + cuts)
      await promise
      await end()
    }
    done = true
    await Promise.all(load)
    expect([...statuses].filter((status) => status !== 200 && status !== 503)).toEqual([])
    expect((await service.ann.get(`/conversations/${id}`)).status).toBe(200)
  })

  it('that go silent for good while new ones work are given up: one 503 each at most', async () => {
    await warm()
    proxy.strand()
    await Promise.all(Array.from({ length: 20 }, () => service.ann.get('/conversations')))
    const answers = await Promise.all(Array.from({ length: 20 }, () => service.ann.get('/conversations')))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    expect((await service.ann.get('/health/ready')).status).toBe(200)
  })
})

/** A stream with a first word; the gate holds the rest. */
async function startAnswer(): Promise<{
  gate: ReturnType<typeof gated>
  stream: OpenStream
  read: () => Promise<Message>
}> {
  const id = await warm()
  const gate = gated({ tokens: ['one', ' two', ' three'] })
  service.upstream.script(gate)
  const stream = await service.ann.stream(`/conversations/${id}/messages`, { content: 'count' })
  gate.release(1)
  await stream.until(({ data }) => data.type === 'assistant_chunk')
  const start = await stream.until(({ data }) => data.type === 'assistant_start')
  const { id: messageId } = start.data['message'] as Message
  const read = async () => (await service.ann.get<Message>(`/conversations/${id}/messages/${messageId}`)).body
  return { gate, stream, read }
}

const isTerminal = ({ data }: { data: { type: string } }) => data.type === 'complete' || data.type === 'error'

describe('an answer being written', () => {
  it.each([...ways, ['was restarted', () => proxy.cut()] as (typeof ways)[number]])(
    'while it %s goes on, ends only when it is stored, and then says complete',
    async (_name, away) => {
      const { gate, stream, read } = await startAnswer()
      await away()
      gate.release(2)
      gate.end()
      await stream.until(() => textOf(stream.frames) === 'one two three')
      // A refused request shows that the settle has been refused as well: it came first.
      const asked = await service.ann.get('/conversations')
      if (asked.status === 503) expect(stream.frames.some(isTerminal)).toBe(false)
      await proxy.pass()
      const last = (await stream.ended).filter(isTerminal)
      expect(last.map(({ data }) => data.type)).toEqual(['complete'])
      expect(last[0]?.data['message']).toMatchObject({ content: 'one two three', status: 'complete' })
      expect(await read()).toEqual(last[0]?.data['message'])
      expect(service.upstream.requests).toHaveLength(1)
      expect(await cluster.sql(database, 'select 1 from chat.usage_tracking')).toHaveLength(1)
    },
  )

  it('whose commit arrived, but its acknowledgement did not, says complete: it is stored', async () => {
    const { gate, stream, read } = await startAnswer()
    const lost = proxy.loseCommit('one two three')
    gate.release(2)
    gate.end()
    await lost
    const last = (await stream.ended).filter(isTerminal)
    expect(last.map(({ data }) => data.type)).toEqual(['complete'])
    expect(await read()).toMatchObject({ content: 'one two three', status: 'complete' })
    expect(await cluster.sql(database, 'select 1 from chat.usage_tracking')).toHaveLength(1)
  })

  it('whose beginning may or may not be stored blocks nothing', async () => {
    const id = await warm()
    service.upstream.always(answer('All is well.'))
    const lost = proxy.loseCommit('stored?')
    const first = await service.ann.post(`/conversations/${id}/messages`, {
      content: 'stored?',
    })
    await lost
    expect(first).toMatchObject({ status: 503, body: { code: 'database_unavailable' } })
    expect(String(first.body['detail'])).not.toContain('Nothing was changed')
    const next = await takeTurn(service.ann, id, 'json')
    expect(next.assistant).toMatchObject({ content: 'All is well.', status: 'complete' })
    // Whoever finds the answer that was given up, and watches it, is told of its end behind its beginning.
    const { body } = await service.ann.get<{ messages: Message[] }>(`/conversations/${id}/messages`)
    const givenUp = body.messages.find(({ status }) => status === 'interrupted')
    const watched = await service.ann.stream(
      `/conversations/${id}/messages/${givenUp?.id ?? ''}/stream`,
      undefined,
    )
    const frames = await watched.ended
    expect(frames.map(({ data }) => data.type)).toEqual(['assistant_start', 'error'])
    expect(frames[1]?.seq).toBeGreaterThan(frames[0]?.seq ?? Infinity)
  })
})

describe('a start without it', () => {
  it('listens, is not ready, and becomes ready when it appears', async () => {
    const port = await freePort()
    const url = new URL(cluster.urlOf(database))
    url.port = String(port)
    const early = await startUnready(url.href)
    try {
      expect((await early.ann.get('/health/live')).status).toBe(200)
      expect(await early.ann.get('/health/ready')).toMatchObject({
        status: 503,
        body: { status: 'starting' },
      })
      const asked = await early.askEveryRoute()
      expect(asked.map(({ status }) => status)).toEqual(asked.map(() => 503))
      const appeared = await startTcpProxy(cluster.urlOf(database), port)
      try {
        await early.app.prepared
        expect((await early.ann.get('/health/ready')).status).toBe(200)
        expect((await early.ann.get('/conversations')).status).toBe(200)
      } finally {
        await appeared.close()
      }
    } finally {
      await early.close()
    }
  })

  it.each(ways)('is tried again when it %s in the middle of the migrations', async (_name, away) => {
    const fresh = await cluster.create()
    const slow = await startTcpProxy(cluster.urlOf(fresh))
    const behind = proxy
    proxy = slow
    const arrived = slow.heard('create schema')
    const early = await startUnready(slow.url)
    try {
      await arrived
      await away()
      expect((await early.ann.get('/health/ready')).status).toBe(503)
      await slow.pass()
      await early.app.prepared
      expect((await early.ann.get('/health/ready')).status).toBe(200)
    } finally {
      await early.close()
      await slow.close()
      proxy = behind
    }
  })
})

it.each(ways)('closes within ten seconds while it %s', async (_name, away) => {
  await warm()
  await away()
  void service.ann.get('/conversations').catch(() => undefined)
  const startedAt = performance.now()
  await service.app.close(0)
  expect(performance.now() - startedAt).toBeLessThan(10_000)
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
