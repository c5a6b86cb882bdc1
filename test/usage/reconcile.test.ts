/** An answer whose cost is a guess is asked for at its upstream, until the guess is none: whatever happened to it. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { cutAfter, gated, hang, PAID_MODEL_ID, say, type Gate } from '../../src/embedded/demo-model.ts'
import { reap } from '../../src/generation/engine.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { createClient, textOf, type Client, type OpenStream } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { jwtSecret, startService, type Service } from '../support/service.ts'

let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService({ env: { UPSTREAM_FIRST_TEXT_TIMEOUT_MS: '400' } })
  ann = await service.as('ann', { tier: 'premium' })
})
afterAll(() => service.close())
beforeEach(() => service.upstream.forget())
afterEach(async () => {
  await service.sql`delete from chat.jobs`
})

/** But for the news of each answer's end, and what is done from time to time. */
const jobs = () =>
  service.sql`
    select kind, status, attempts, last_error, payload, user_id from chat.jobs
    where kind not in ('tell_unwatched', 'tidy')`
const lookups = () => service.upstream.requests.map((request) => request.lookups)
/** What the upstream says in the end. */
async function booked(n = 0) {
  const id = service.upstream.requests[n]?.generationId ?? ''
  const response = await fetch(`${service.upstream.baseUrl}/generation?id=${id}`)
  const { data } = (await response.json()) as { data: Record<string, number> }
  return {
    prompt_tokens: data['native_tokens_prompt'],
    completion_tokens: data['native_tokens_completion'],
    cost: data['total_cost'],
  }
}

interface Answer {
  gate: Gate
  stream: OpenStream
  id: string
  url: string
  read: () => Promise<Message>
}

/** Three words of an answer, with more to come. */
async function begin(
  client: Client,
  body: Record<string, unknown> = { model: PAID_MODEL_ID },
  behaviour: Partial<Gate> = {},
): Promise<Answer> {
  const id = await ann.conversation()
  const gate = { ...gated(), ...behaviour }
  service.upstream.script(gate)
  const stream = await client.stream(`/conversations/${id}/messages`, {
    content: 'What could I become?',
    ...body,
  })
  gate.release(3)
  await stream.until(() => textOf(stream.frames).includes('t3 '))
  const start = await stream.until(({ data }) => data.type === 'assistant_start')
  const url = `/conversations/${id}/messages/${(start.data['message'] as Message).id}`
  return { gate, stream, id, url, read: async () => (await ann.get<Message>(url)).body }
}

const stop = async ({ url }: Answer) => (await ann.post<Message>(`${url}/stop`)).body

describe('a stopped answer of a paid model', () => {
  it('has no cost, and in the end the exact one, with the upstream’s tokens', async () => {
    const answer = await begin(ann, undefined, { usage: { cost: 0.00000012 } })
    expect((await stop(answer)).usage).toMatchObject({ source: 'estimated', cost: null })
    expect(await jobs()).toMatchObject([
      { kind: 'reconcile_cost', status: 'queued', user_id: 'ann', attempts: 0 },
    ])
    await eventually(async () => (await answer.read()).usage?.source).toBe('reconciled')
    const { usage } = await answer.read()
    const { prompt_tokens, completion_tokens } = await booked()
    expect(completion_tokens).toBe(3)
    expect(usage).toEqual({
      prompt_tokens,
      completion_tokens: 3,
      total_tokens: Number(prompt_tokens) + 3,
      cost: '0.00000012',
      is_free_model: false,
      source: 'reconciled',
    })
    await eventually(jobs).toEqual([])
  })

  it('is asked for again while the upstream does not know it yet', async () => {
    const answer = await begin(ann, undefined, { generationLag: 2 })
    await stop(answer)
    await eventually(async () => (await answer.read()).usage?.source).toBe('reconciled')
    expect(lookups()).toEqual([3])
    expect(Number((await answer.read()).usage?.cost)).toBe((await booked()).cost)
  })

  it('in a conversation that is deleted meanwhile still gets its cost', async () => {
    const answer = await begin(ann)
    expect((await ann.request('DELETE', `/conversations/${answer.id}`)).status).toBe(204)
    const usage = () =>
      service.sql`select source, cost::float8 as cost from chat.usage_tracking where conversation_id = ${answer.id}`
    expect(await usage()).toEqual([{ source: 'estimated', cost: null }])
    await eventually(usage).toEqual([{ source: 'reconciled', cost: (await booked()).cost }])
  })
})

describe('a stopped answer of a free model', () => {
  it('costs an exact zero before and after, and its tokens are set right', async () => {
    const answer = await begin(ann, {})
    expect((await stop(answer)).usage).toMatchObject({ source: 'estimated', cost: '0' })
    await eventually(async () => (await answer.read()).usage).toMatchObject({
      source: 'reconciled',
      cost: '0',
      is_free_model: true,
      completion_tokens: 3,
    })
    expect((await answer.read()).usage?.prompt_tokens).toBe((await booked()).prompt_tokens)
  })
})

describe('an answer without a word', () => {
  const send = async (id: string) =>
    ann.post<{ assistant_message: Message }>(`/conversations/${id}/messages`, {
      content: 'Hello?',
      model: PAID_MODEL_ID,
    })

  it('that we closed, its upstream having begun, may be charged for: it is asked', async () => {
    service.upstream.always(hang({ after: 'headers' }))
    const { body } = await send(await ann.conversation())
    // The free one that was asked next costs nothing, and tells nothing of the first: the sum is not known.
    expect(body.assistant_message).toMatchObject({
      status: 'failed',
      usage: { source: 'estimated', completion_tokens: 0, cost: null },
    })
    expect(body.assistant_message.usage?.prompt_tokens).toBeGreaterThan(0)
    expect(await jobs()).toHaveLength(2)
  })

  it('that its upstream broke off is charged for by nobody: no usage, no question', async () => {
    service.upstream.always(cutAfter(0))
    const { body } = await send(await ann.conversation())
    expect(body.assistant_message).toMatchObject({ status: 'failed', usage: null })
    expect(await jobs()).toEqual([])
  })
})

it('an answer that was reported, cost and all, is not asked for', async () => {
  const id = await ann.conversation()
  await ann.post(`/conversations/${id}/messages`, { content: 'Hello?', model: PAID_MODEL_ID })
  expect(await jobs()).toEqual([])
})

describe('a process that ends in between', () => {
  it('leaves the question to the next one, which asks as soon as it has started', async () => {
    const first = await startService()
    const client = await first.as('ann', { tier: 'premium' })
    const { body: made } = await client.post<{ id: string }>('/conversations', {})
    const path = `/conversations/${made.id}/messages`
    first.upstream.script(gated({ tokens: ['one'] }))
    const stream = await client.stream(path, { content: 'Hello?', model: PAID_MODEL_ID })
    const start = await stream.until(({ data }) => data.type === 'assistant_start')
    const url = `${path}/${(start.data['message'] as Message).id}`
    const request = await first.upstream.nextRequest()
    await client.post(`${url}/stop`)
    await first.app.close(0)
    const left = await first.sql`
      update chat.jobs set run_at = now() where kind = 'reconcile_cost' returning status, attempts`
    expect(left).toMatchObject([{ status: 'queued', attempts: 0 }])

    const second = await startService({
      resolved: { databaseUrl: first.databaseUrl, upstream: upstreamOf(first) },
    })
    const startedAtMs = performance.now()
    const there = createClient(second.origin, client.token)
    await eventually(async () => (await there.get<Message>(url)).body.usage?.source).toBe('reconciled')
    // Sooner than an idle process looks.
    expect(performance.now() - startedAtMs).toBeLessThan(3_000)
    expect(request.lookups).toBe(1)
    await second.close()
    await first.close()
  })
})

it('several instances ask once for each answer', async () => {
  const others = await Promise.all(
    [1, 2].map(() =>
      startService({
        resolved: { databaseUrl: service.databaseUrl, exclusive: false, upstream: upstreamOf(service) },
      }),
    ),
  )
  try {
    for (let n = 0; n < 6; n++) await stop(await begin(ann))
    await eventually(jobs).toEqual([])
    expect(lookups()).toEqual([1, 1, 1, 1, 1, 1])
  } finally {
    for (const other of others) await other.close()
  }
})

const upstreamOf = ({ upstream }: Service) => ({
  baseUrl: upstream.baseUrl,
  apiKey: 'test',
  defaultModel: 'rivulet/demo:free',
})

describe('a process that is killed', () => {
  let db: Database
  let victim: ChildProcess | undefined
  beforeAll(async () => {
    db = createDatabase({ url: service.databaseUrl, poolMax: 2, log: pino({ level: 'silent' }) })
    await db.prepare(new AbortController().signal)
  })
  afterAll(() => db.close())
  afterEach(() => victim?.kill('SIGKILL'))

  async function startVictim(): Promise<Client> {
    const script = join(import.meta.dirname, '../support/victim.ts')
    const child = spawn(
      process.execPath,
      [script, service.databaseUrl, service.upstream.baseUrl, jwtSecret],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    victim = child
    const [origin] = (await once(child.stdout, 'data')) as [Buffer]
    return createClient(origin.toString().trim(), ann.token)
  }

  /** Kills it, and settles what it left as if it had been silent for a minute. */
  async function killAndReap(): Promise<void> {
    const child = victim
    if (child === undefined) throw new Error('no victim')
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    await service.sql`
      update chat.generations set heartbeat_at = now() - interval '1 minute', model = ${PAID_MODEL_ID}
      where status = 'running'`
    expect(await reap(db, 30)).toBe(1)
  }

  const noted = (id: string) =>
    service.sql`
      select upstream_id, prompt_tokens_estimate > 0 as estimated from chat.generations where conversation_id = ${id}`

  it('had its upstream’s id and the prompt’s tokens stored with the text: its answer gets its cost', async () => {
    const answer = await begin(await startVictim(), {})
    await eventually(() => noted(answer.id)).toEqual([
      { upstream_id: service.upstream.requests[0]?.generationId, estimated: true },
    ])
    await killAndReap()
    const { usage } = await answer.read()
    expect(usage).toMatchObject({ source: 'estimated', cost: null })
    expect(usage?.prompt_tokens).toBeGreaterThan(10)
    expect(usage?.completion_tokens).toBeGreaterThan(0)
    expect(usage?.total_tokens).toBe(Number(usage?.prompt_tokens) + Number(usage?.completion_tokens))
    await eventually(async () => (await answer.read()).usage?.source).toBe('reconciled')
    expect((await answer.read()).usage?.completion_tokens).toBe(3)
  })

  it('before the first word leaves a question too: the prompt had been read', async () => {
    const there = await startVictim()
    const id = await ann.conversation()
    service.upstream.script({ ...hang({ after: 'headers' }), usage: { cost: 0.000025 } })
    const stream = await there.stream(`/conversations/${id}/messages`, { content: 'Hello?' })
    await stream.until(({ data }) => data.type === 'assistant_start')
    await eventually(() => noted(id)).toMatchObject([{ estimated: true }])
    await killAndReap()
    const usage = () =>
      service.sql`select source, completion_tokens, cost from chat.usage_tracking where conversation_id = ${id}`
    expect(await usage()).toEqual([{ source: 'estimated', completion_tokens: 0, cost: null }])
    await eventually(usage).toEqual([{ source: 'reconciled', completion_tokens: 0, cost: '0.000025' }])
  })

  it('before its upstream began leaves none: nothing is known that could be asked for', async () => {
    const there = await startVictim()
    const id = await ann.conversation()
    service.upstream.script(hang())
    const stream = await there.stream(`/conversations/${id}/messages`, { content: 'Hello?' })
    await stream.until(({ data }) => data.type === 'assistant_start')
    await service.upstream.nextRequest()
    await killAndReap()
    expect(await service.sql`select from chat.usage_tracking where conversation_id = ${id}`).toHaveLength(0)
    expect(await jobs()).toEqual([])
  })
})

describe('a generation’s row', () => {
  const versionOf = async (id: string) => {
    const [row] = await service.sql`
      select xmin::text as version, upstream_id from chat.generations where conversation_id = ${id}`
    return row
  }
  const stored = (id: string, text: string) => () =>
    service.sql`
      select 1 from chat.generation_chunks c join chat.generations g on g.id = c.generation_id
      where g.conversation_id = ${id} and c.events::text like ${`%${text} %`}`

  it('is written to once for what the upstream calls it, not with every flush', async () => {
    const answer = await begin(ann)
    await eventually(async () => (await versionOf(answer.id))?.['upstream_id'] as unknown).toEqual(
      expect.any(String),
    )
    const before = await versionOf(answer.id)
    for (const text of ['t4', 't5', 't6', 't7']) {
      answer.gate.release(1)
      await eventually(stored(answer.id, text)).toHaveLength(1)
    }
    // Its heartbeat comes only five seconds after.
    expect(await versionOf(answer.id)).toEqual(before)
    answer.gate.end()
    await answer.stream.ended
  })

  it('that somebody holds at that moment gets it with a later flush', async () => {
    const id = await ann.conversation()
    const gate = gated({ then: [say(['end'])] })
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'Hello?' })
    await stream.until(({ data }) => data.type === 'assistant_start')
    const letGo = Promise.withResolvers<undefined>()
    const holding = service.sql.begin(async (tx) => {
      await tx`select from chat.generations where conversation_id = ${id} for update`
      gate.release(1)
      await letGo.promise
    })
    await eventually(stored(id, 't1')).toHaveLength(1)
    letGo.resolve(undefined)
    await holding
    await eventually(async () => (await versionOf(id))?.['upstream_id'] as unknown).toEqual(
      expect.any(String),
    )
    gate.end()
    await stream.ended
  })
})
