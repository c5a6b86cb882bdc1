import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { pino } from 'pino'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { reap } from '../../src/generation/engine.ts'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { createClient, textOf, type Client, type OpenStream } from '../support/client.ts'
import { jwtSecret, startService, type Service } from '../support/service.ts'

let service: Service
let db: Database
let victim: ChildProcess | undefined

beforeAll(async () => {
  service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '50' } })
  db = createDatabase({ url: service.databaseUrl, poolMax: 2, log: pino({ level: 'silent' }) })
  await db.prepare(new AbortController().signal)
})
afterAll(async () => {
  await db.close()
  await service.close()
})
beforeEach(() => service.upstream.forget())
afterEach(() => {
  victim?.kill('SIGKILL')
  victim = undefined
})

async function startVictim(user: string): Promise<Client> {
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
  victim = child
  const [origin] = (await once(child.stdout, 'data')) as [Buffer]
  const { token } = await service.as(user)
  return createClient(origin.toString().trim(), token)
}

async function kill(): Promise<void> {
  const child = victim
  if (child === undefined) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

const messageOf = (stream: OpenStream) =>
  stream.frames.find(({ data }) => data.type === 'assistant_start')?.data['message'] as Message

/** As if the process had been silent for a minute. */
const silence = () =>
  service.sql`update chat.generations set heartbeat_at = now() - interval '1 minute' where status = 'running'`

describe('a process killed with five streams running', () => {
  it('loses no question, and no text that was shown 250 ms before; nothing stays locked, and viewers resume', async () => {
    const ann = await service.as('ann')
    const there = await startVictim('ann')
    const ids = await Promise.all(Array.from({ length: 5 }, () => ann.conversation()))
    const gate = gated()
    service.upstream.always(gate)
    const streams = await Promise.all(
      ids.map((id, n) =>
        there.stream(`/conversations/${id}/messages`, { content: `question ${n}` }).catch((e: unknown) => {
          throw e
        }),
      ),
    )
    gate.release(20)
    for (const stream of streams) await stream.until(() => textOf(stream.frames).includes('t20 '))
    // Stored within two flushes: only what was shown later may be lost.
    await expect
      .poll(
        async () =>
          (
            await service.sql`select count(*)::int as n from chat.generation_chunks where events::text like '%t20 %'`
          )[0]?.['n'] as number,
        { timeout: 1_000 },
      )
      .toBe(5)
    gate.release(1)
    for (const stream of streams) await stream.until(() => textOf(stream.frames).includes('t21 '))
    await kill()
    await silence()
    expect(await reap(db, 30)).toBe(5)
    expect(await reap(db, 30)).toBe(0)

    service.upstream.always(undefined)
    for (const [n, id] of ids.entries()) {
      const stream = streams[n]
      if (stream === undefined) throw new Error('no stream')
      const { body } = await ann.get<{ messages: Message[] }>(`/conversations/${id}`)
      expect(body.messages.map(({ status }) => status)).toEqual(['complete', 'interrupted'])
      const [question, interrupted] = body.messages
      expect(question?.content).toBe(`question ${n}`)
      expect(interrupted?.content).toContain('t20 ')
      expect(textOf(stream.frames).startsWith(interrupted?.content ?? '?')).toBe(true)

      // A cursor of something that was shown and did not survive is answered with a snapshot, never with silence.
      const url = `/conversations/${id}/messages/${messageOf(stream).id}/stream`
      const frames = await (
        await ann.stream(`${url}?after=${stream.frames.at(-1)?.id ?? ''}`, undefined)
      ).ended
      expect(frames.at(-1)?.data).toMatchObject({
        type: 'error',
        error: { retryable: true },
        message: { status: 'interrupted' },
      })
      if (textOf(stream.frames) !== interrupted?.content)
        expect(frames[0]?.data).toMatchObject({
          type: 'snapshot',
          message: { content: interrupted?.content },
        })

      service.upstream.script(answer('on we go'))
      const next = await ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
        content: 'next',
      })
      expect(next.body.assistant_message.content).toBe('on we go')
    }
  })

  it('answers a retry with the generation that was claimed, which ends as interrupted: no second call', async () => {
    const ann = await service.as('ann')
    const there = await startVictim('ann')
    const id = await ann.conversation()
    service.upstream.always(gated())
    const headers = { 'idempotency-key': crypto.randomUUID() }
    const first = await there.stream(`/conversations/${id}/messages`, { content: 'once' }, headers)
    await first.until(({ data }) => data.type === 'assistant_start')
    await service.upstream.nextRequest()
    await kill()
    const retry = await ann.stream(`/conversations/${id}/messages`, { content: 'once' }, headers)
    expect([retry.status, retry.headers.get('idempotent-replay')]).toEqual([200, 'true'])
    await silence()
    expect(await reap(db, 30)).toBe(1)
    expect((await retry.ended).at(-1)?.data).toMatchObject({
      type: 'error',
      message: { status: 'interrupted' },
    })
    expect(service.upstream.requests).toHaveLength(1)
  })
})

describe('a process that was taken for dead', () => {
  it('writes nothing more, closes its upstream, and tells its viewers what is stored', async () => {
    const ann = await service.as('ann')
    const id = await ann.conversation()
    const gate = gated()
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'go' })
    const upstreamRequest = await service.upstream.nextRequest()
    gate.release(3)
    await stream.until(() => textOf(stream.frames).includes('t3 '))
    await expect
      .poll(
        async () =>
          (
            await service.sql`select 1 from chat.generation_chunks c join chat.generations g on g.id = c.generation_id where g.conversation_id = ${id} and c.events::text like '%t3 %'`
          ).length,
      )
      .toBe(1)
    await silence()
    expect(await reap(db, 30)).toBe(1)
    gate.release(3)
    await upstreamRequest.ended
    expect(upstreamRequest.closedAt).toEqual(expect.any(Number))
    const last = (await stream.ended).at(-1)
    expect(last?.data).toMatchObject({
      type: 'error',
      message: { status: 'interrupted', content: 't1 t2 t3 ' },
    })
    const read = await ann.get<Message>(`/conversations/${id}/messages/${messageOf(stream).id}`)
    expect(read.body).toMatchObject({ status: 'interrupted', content: 't1 t2 t3 ' })
    const late = await service.sql`
      select 1 from chat.generation_chunks c join chat.generations g on g.id = c.generation_id
      where g.conversation_id = ${id} and c.events::text like '%t4 %'`
    expect(late).toHaveLength(0)
  })
})
