/** The adviser gets ready whatever happens on the way: late results, dead models, dying processes, events in any order. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { startDemoArchive, times, type DemoArchive } from '../../src/embedded/demo-archive.ts'
import { answer, gated, httpError } from '../../src/embedded/demo-model.ts'
import { adviserOf, inboxOf, results, tell, untilReady, type EventWish } from '../support/assessments.ts'
import { createClient, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { serviceKey, startService, type Service, type ServiceOptions } from '../support/service.ts'

const open: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close()
})

async function start(options: ServiceOptions = {}): Promise<Service & { teller: Client; ann: Client }> {
  const service = await startService(options)
  open.push(() => service.close())
  return { ...service, teller: createClient(service.origin, serviceKey), ann: await service.as('ann') }
}

async function startArchive(): Promise<DemoArchive> {
  const archive = await startDemoArchive({ serviceKey })
  open.push(() => archive.close())
  return archive
}

const jobsOf = (service: Service) =>
  service.sql<{ kind: string; status: string; last_error: string | null; attempts: number }[]>`
    select kind, status, last_error, attempts from chat.jobs where kind in ('onboard', 'rewrite_welcome') order by kind`

/** A job that waits for its time has none to wait for any more. */
const hurry = (service: Service) => service.sql`update chat.jobs set run_at = now() where status = 'queued'`

describe('exactly one effect', () => {
  it('has the same event ten times at once on two instances', async () => {
    const one = await start({ resolved: { exclusive: false } })
    const other = await start({ resolved: { databaseUrl: one.databaseUrl, exclusive: false } })
    const event = { event_id: 'e1' }
    const told = await Promise.all(
      Array.from({ length: 10 }, (_, n) => tell((n % 2 === 0 ? one : other).teller, event)),
    )
    expect(told.map(({ status }) => status).toSorted()).toEqual([...Array<number>(9).fill(200), 202])
    await untilReady(one.ann)
    const { body } = await one.ann.get<{ total: number }>('/conversations')
    expect(body.total).toBe(1)
    expect((await adviserOf(one.ann)).messages).toHaveLength(1)
    expect(await inboxOf(one.ann)).toHaveLength(1)
    expect(one.upstream.requests.length + other.upstream.requests.length).toBe(1)
    await eventually(() => jobsOf(one)).toEqual([])
  })

  it('have all events, each three times and shuffled', async () => {
    const service = await start()
    const people = ['p1', 'p2', 'p3', 'p4']
    const events = people.flatMap((user_id) =>
      ['assessment_submitted', 'analysis_started', 'analysis_complete'].flatMap((type, n): EventWish[] => {
        const event = {
          type,
          user_id,
          assessment_id: `of ${user_id}`,
          occurred_at: `2026-11-20T10:0${n}:00Z`,
        }
        return [event, event, event]
      }),
    )
    await Promise.all(shuffled(events).map((event) => tell(service.teller, event)))
    for (const user of people) {
      const client = await service.as(user)
      await untilReady(client)
      expect(await inboxOf(client)).toMatchObject([{ progress: 100, template: 'chatbot_ready' }])
      expect((await adviserOf(client, `of ${user}`)).messages).toHaveLength(1)
    }
    expect(service.upstream.requests).toHaveLength(people.length)
  })

  it('has an older version behind a newer one: none', async () => {
    const service = await start()
    const scored = (version: number, R: number) => ({ version, results: { ...results, riasec: { R } } })
    await tell(service.teller, scored(2, 22))
    await untilReady(service.ann)
    await tell(service.teller, scored(1, 11))
    const before = await adviserOf(service.ann)
    expect(before.conversation.context_data).toMatchObject({ riasec: { R: 22 } })
    const suggestions = async () =>
      (await service.ann.get(`/api/chat/conversations/${before.conversation.id}/suggestions`)).body
    const suggested = await suggestions()
    await tell(service.teller, { ...scored(3, 33), results: { ...results, riasec: { S: 33 } } })
    expect(await suggestions()).not.toEqual(suggested)
    const { conversation, messages } = await adviserOf(service.ann)
    expect(conversation.context_data).toMatchObject({ riasec: { S: 33 } })
    expect(messages).toHaveLength(1)
    expect(await inboxOf(service.ann)).toMatchObject([{ progress: 100 }])
  })

  it('has one that comes when its user has deleted the conversation: none, and a newer version begins anew', async () => {
    const service = await start()
    await tell(service.teller, { version: 1 })
    await untilReady(service.ann)
    const { conversation } = await adviserOf(service.ann)
    await service.ann.request('DELETE', `/conversations/${conversation.id}`)
    await tell(service.teller, { version: 1 })
    expect(await adviserOf(service.ann)).toMatchObject({ exists: false })
    await tell(service.teller, { version: 2 })
    await eventually(async () => (await adviserOf(service.ann)).messages).toMatchObject([
      { status: 'complete' },
    ])
    expect((await adviserOf(service.ann)).conversation.id).not.toBe(conversation.id)
  })
})

function shuffled<T>(items: readonly T[]): T[] {
  let seed = 7
  const next = () => (seed = (seed * 16_807) % 2_147_483_647)
  return items
    .map((item) => ({ item, at: next() }))
    .toSorted((one, other) => one.at - other.at)
    .map(({ item }) => item)
}

describe('an analysis that failed', () => {
  it('is told, and leads to where one can begin by hand; what comes late does not hide it', async () => {
    const service = await start()
    await tell(service.teller, { type: 'analysis_failed', occurred_at: '2026-11-20T10:09:00Z' })
    await tell(service.teller, { type: 'analysis_started', occurred_at: '2026-11-20T10:01:00Z' })
    expect(await inboxOf(service.ann)).toMatchObject([
      { template: 'analysis_failed', action: { url: '/assessment/a1/results' } },
    ])
    await tell(service.teller)
    await untilReady(service.ann)
  })
})

describe('an assessment of another user', () => {
  it('is not found, and changes nothing for either of them', async () => {
    const service = await start()
    await tell(service.teller)
    await untilReady(service.ann)
    const before = await adviserOf(service.ann)
    expect(await tell(service.teller, { user_id: 'eve', event_id: 'e2', version: 9 })).toMatchObject({
      status: 404,
      body: { code: 'assessment_not_found' },
    })
    const eve = await service.as('eve')
    expect(await adviserOf(eve)).toEqual({ exists: false })
    expect(await inboxOf(eve)).toEqual([])
    expect(await adviserOf(service.ann)).toEqual(before)
    const stolen = { ...results, user_id: 'ann' }
    expect(
      await tell(service.teller, { user_id: 'eve', assessment_id: 'a9', results: stolen }),
    ).toMatchObject({
      status: 404,
    })
  })

  it('by what the archive says: its event is given up, and its owner may still be told of it', async () => {
    const archive = await startArchive()
    archive.put('a1', { ...results, assessment_id: 'a1', user_id: 'ann' })
    const service = await start({ env: { ARCHIVE_SERVICE_URL: archive.baseUrl } })
    await tell(service.teller, { user_id: 'eve', results: undefined })
    await eventually(() => jobsOf(service)).toMatchObject([
      { status: 'dead', last_error: 'foreign_assessment' },
    ])
    expect(await adviserOf(await service.as('eve'))).toEqual({ exists: false })
    await tell(service.teller, { results: undefined })
    await untilReady(service.ann)
  })
})

describe('results that an event does not bring', () => {
  it('are fetched from the archive, with the key, in either spelling', async () => {
    const archive = await startArchive()
    archive.put('a1', { ...results, assessment_id: 'a1', user_id: 'ann' })
    archive.script({ kind: 'camelCase' })
    const service = await start({ env: { ARCHIVE_SERVICE_URL: archive.baseUrl } })
    await tell(service.teller, { results: undefined })
    await untilReady(service.ann)
    expect((await adviserOf(service.ann)).conversation.context_data).toMatchObject({ riasec: results.riasec })
    expect(archive.requests).toMatchObject([{ authorization: `Bearer ${serviceKey}` }])
  })

  it('are waited for while the archive is away, and its user has the row at 75 meanwhile', async () => {
    const archive = await startArchive()
    archive.put('a1', { ...results, assessment_id: 'a1', user_id: 'ann' })
    archive.script(...times(3, { kind: 'status', status: 503 }))
    const service = await start({ env: { ARCHIVE_SERVICE_URL: archive.baseUrl } })
    await tell(service.teller, { results: undefined })
    await eventually(() => jobsOf(service)).toMatchObject([{ last_error: 'archive_status_503' }])
    expect(await inboxOf(service.ann)).toMatchObject([{ progress: 75 }])
    await hurry(service)
    await untilReady(service.ann)
  })

  it('and that nobody has are given up in the end, and its user told so', async () => {
    const service = await start()
    await tell(service.teller, { results: undefined })
    await eventually(() => jobsOf(service)).toMatchObject([{ last_error: 'results_missing' }])
    await service.sql`update chat.jobs set attempts = 8, run_at = now() where kind = 'onboard'`
    await eventually(() => jobsOf(service)).toMatchObject([{ status: 'dead' }])
    expect(await inboxOf(service.ann)).toMatchObject([{ template: 'analysis_failed' }])
    // Told again it is new again.
    await tell(service.teller)
    await untilReady(service.ann)
  })

  it('of a newer version are fetched, too: an adviser that is there learns of them', async () => {
    const archive = await startArchive()
    const service = await start({ env: { ARCHIVE_SERVICE_URL: archive.baseUrl } })
    await tell(service.teller, { version: 1 })
    await untilReady(service.ann)
    archive.put('a1', { ...results, assessment_id: 'a1', user_id: 'ann', riasec: { S: 99 } })
    await tell(service.teller, { version: 2, results: undefined })
    await eventually(async () => (await adviserOf(service.ann)).conversation.context_data).toMatchObject({
      riasec: { S: 99 },
    })
  })
})

describe('a model that does not speak', () => {
  it('leaves a welcome that was composed from the scores, marked as such; a model writes it again while nobody has spoken', async () => {
    const service = await start()
    service.upstream.always(httpError(402))
    await tell(service.teller)
    await untilReady(service.ann)
    const { messages } = await adviserOf(service.ann)
    expect(messages).toMatchObject([
      {
        status: 'complete',
        sender_id: 'rivulet',
        usage: null,
        metadata: { composed: true, type: 'assessment_welcome' },
      },
    ])
    expect(messages[0]?.content).toContain('nvestigative')
    expect(messages[0]?.content.length).toBeGreaterThan(300)

    service.upstream.always(answer('Hello Ann.\n\n- What can I do with my curiosity?'))
    await hurry(service)
    await eventually(async () => (await adviserOf(service.ann)).messages[0]?.content).toContain('Hello Ann.')
    const [written] = (await adviserOf(service.ann)).messages
    expect(written).toMatchObject({ id: messages[0]?.id, usage: { source: 'reported' } })
    expect(written?.metadata).not.toHaveProperty('composed')
    expect(written?.metadata['suggestions']).toContain('What can I do with my curiosity?')
    await eventually(() => jobsOf(service)).toEqual([])
  })

  it('is not asked again once its user has spoken: what they have read stays', async () => {
    const service = await start()
    service.upstream.always(httpError(402))
    await tell(service.teller)
    await untilReady(service.ann)
    const { conversation, messages } = await adviserOf(service.ann)
    service.upstream.always(answer('An answer.'))
    await service.ann.post(`/conversations/${conversation.id}/messages`, { content: 'Hello?' })
    const asked = service.upstream.requests.length
    await hurry(service)
    await eventually(() => jobsOf(service)).toEqual([])
    expect((await adviserOf(service.ann)).messages[0]).toEqual(messages[0])
    expect(service.upstream.requests).toHaveLength(asked)
  })

  it('and breaks off in the middle is asked again, as a sibling; what it had said stays in the tree', async () => {
    const service = await start()
    service.upstream.script({
      steps: [
        { kind: 'say', as: 'content', tokens: ['Hello', ' Ann'], perTokenMs: 0 },
        { kind: 'cut', by: 'reset' },
      ],
    })
    await tell(service.teller)
    await untilReady(service.ann)
    const { conversation, messages } = await adviserOf(service.ann)
    expect(messages).toMatchObject([{ status: 'complete' }])
    expect(messages[0]?.sibling_ids).toHaveLength(2)
    const tree = await service.ann.get<{ messages: { message: { content: string; status: string } }[] }>(
      `/conversations/${conversation.id}/tree`,
    )
    expect(tree.body.messages[0]?.message.content).toBe('Hello Ann')
  })
})

describe('a process that dies while the welcome is written', () => {
  it('leaves it to the next one, which begins it anew', async () => {
    const first = await startService()
    const gate = gated()
    first.upstream.script(gate)
    await tell(createClient(first.origin, serviceKey))
    await first.upstream.nextRequest()
    gate.release(3)
    await first.app.close(0)
    open.push(() => first.close())
    const next = await start({ resolved: { databaseUrl: first.databaseUrl } })
    await first.sql`update chat.jobs set leased_until = null`
    await untilReady(next.ann)
    const { messages } = await adviserOf(next.ann)
    expect(messages).toMatchObject([{ status: 'complete', metadata: { type: 'assessment_welcome' } }])
    expect(messages[0]?.sibling_ids).toHaveLength(2)
  })
})

describe('the profile of a user', () => {
  async function startAuth(
    reply: (response: ServerResponse) => void,
  ): Promise<{ url: string; paths: string[] }> {
    const paths: string[] = []
    const server = createServer((request, response) => {
      paths.push(`${request.url ?? ''} ${request.headers.authorization ?? ''}`)
      reply(response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    open.push(async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, paths }
  }

  it('is told to the model, as data', async () => {
    const auth = await startAuth((response) =>
      response.end(JSON.stringify({ name: 'Ann', school: 'SMA 3 Bandung' })),
    )
    const service = await start({ env: { AUTH_SERVICE_URL: auth.url } })
    const id = await service.ann.conversation()
    await service.ann.post(`/conversations/${id}/messages`, { content: 'Hello?' })
    expect(JSON.stringify(service.upstream.requests[0]?.body)).toContain('SMA 3 Bandung')
    expect(auth.paths).toEqual([`/api/users/ann/profile Bearer ${serviceKey}`])
  })

  it('is not waited for where nobody tells it', async () => {
    const auth = await startAuth(() => undefined)
    const service = await start({ env: { AUTH_SERVICE_URL: auth.url } })
    const id = await service.ann.conversation()
    const startedAt = performance.now()
    const { status } = await service.ann.post(`/conversations/${id}/messages`, { content: 'Hello?' })
    expect(status).toBe(200)
    expect(performance.now() - startedAt).toBeLessThan(1_500)
  })
})
