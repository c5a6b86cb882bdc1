/** What attacks on the way from event to adviser have found: each of these was otherwise once. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, gated, httpError } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { adviserOf, inboxOf, results, tell, untilReady } from '../support/assessments.ts'
import { createClient, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

let service: Service
let teller: Client
let ann: Client
let user: string
let count = 0
beforeAll(async () => {
  service = await startService()
  teller = createClient(service.origin, serviceKey)
})
afterAll(() => service.close())
beforeEach(async () => {
  service.upstream.forget()
  user = `ann-${++count}`
  ann = await service.as(user)
})

const id = () => `a${count}`
const told = (more: object = {}) => tell(teller, { user_id: user, assessment_id: id(), ...more })
const adviser = () => adviserOf(ann, id())
const ready = async () =>
  (await ann.get(`/api/chat/conversations/assessment-ready/${user}`)).body['ready_for_chatbot']
const jobs = () =>
  service.sql<{ status: string }[]>`select status from chat.jobs where kind = 'onboard' and key = ${id()}`

describe('an event that comes while another one of the assessment is being done', () => {
  it('is done too, whenever in between it comes', { timeout: 60_000 }, async () => {
    for (let n = 0; n < 30; n++) {
      user = `busy-${n}`
      const person = await service.as(user)
      const assessment_id = `of busy-${n}`
      const event = (version: number, R: number) =>
        tell(teller, { user_id: user, assessment_id, version, results: { ...results, riasec: { R } } })
      await event(1, 11)
      await delay(n * 4)
      await event(2, 22)
      await untilReady(person)
      await eventually(
        async () => (await person.get(`/api/chat/conversations/assessment-ready/${user}`)).body,
      ).toMatchObject({ ready_for_chatbot: true })
      expect((await adviserOf(person, assessment_id)).conversation.context_data).toMatchObject({
        riasec: { R: 22 },
      })
    }
  })

  it('is not kept waiting by an earlier one that waits for its archive', async () => {
    await told({ version: 1, results: undefined })
    await eventually(jobs).toMatchObject([{ status: 'queued' }])
    await eventually(
      () => service.sql`select from chat.jobs where key = ${id()} and last_error = 'results_missing'`,
    ).toHaveLength(1)
    const startedAt = performance.now()
    await told({ version: 2 })
    await untilReady(ann)
    expect(performance.now() - startedAt).toBeLessThan(4_000)
  })
})

describe('an analysis that is complete once more', () => {
  it('without results breaks nothing that is there, also when nobody ever has them', async () => {
    await told({ version: 1 })
    await untilReady(ann)
    await told({ version: 2, results: undefined })
    const again = () =>
      ann.post('/conversations/from-assessment', { assessment_id: id(), auto_start_message: false })
    expect(await again()).toMatchObject({ status: 201, body: { conversation: { message_count: 1 } } })
    await eventually(
      () => service.sql`select from chat.jobs where key = ${id()} and last_error = 'results_missing'`,
    ).toHaveLength(1)
    await service.sql`update chat.jobs set attempts = 8, run_at = now() where kind = 'onboard' and key = ${id()}`
    await eventually(ready).toBe(true)
    expect(await inboxOf(ann)).toMatchObject([{ template: 'chatbot_ready', progress: 100 }])
    expect(await again()).toMatchObject({ status: 201 })
  })

  it('reaches 100 again where its row is gone', async () => {
    await told({ version: 1 })
    await untilReady(ann)
    await service.sql`delete from chat.notifications where user_id = ${user}`
    await told({ version: 2 })
    await untilReady(ann)
    await eventually(jobs).toEqual([])
  })
})

describe('a welcome', () => {
  it('takes nothing of what its user may have running', async () => {
    const gate = gated()
    service.upstream.always(gate)
    for (let n = 0; n < 4; n++) await told({ assessment_id: `${id()}-${n}` })
    await eventually(
      () => service.sql`select from chat.generations where user_id = ${user} and status = 'running'`,
    ).toHaveLength(4)
    service.upstream.always(answer('An answer.'))
    const conversation = await ann.conversation()
    expect((await ann.post(`/conversations/${conversation}/messages`, { content: 'Hello?' })).status).toBe(
      200,
    )
    gate.end()
    await untilReady(ann)
  })

  it.each([
    ['blanks', ' \n '],
    ['a blank that nobody sees', '\u200b'],
  ])('of %s is none: the composed one stands there', async (_name, text) => {
    service.upstream.always(answer(text))
    await told()
    await untilReady(ann)
    expect((await adviser()).messages).toMatchObject([{ metadata: { composed: true } }])
  })

  it('that was written again is the only one that its stream tells', async () => {
    service.upstream.always(httpError(402))
    await told()
    await untilReady(ann)
    const { conversation, messages } = await adviser()
    service.upstream.always(answer('Hello Ann.'))
    await service.sql`update chat.jobs set run_at = now() where kind = 'rewrite_welcome' and key = ${conversation.id}`
    await eventually(async () => (await adviser()).messages[0]?.content).toBe('Hello Ann.')
    const stream = await fetch(
      `${service.origin}/api/chat/conversations/${conversation.id}/messages/${messages[0]?.id ?? ''}/stream`,
      { headers: { authorization: `Bearer ${ann.token ?? ''}` } },
    )
    expect(await stream.text()).not.toContain('Welcome!')
  })
})

describe('by hand', () => {
  it('who leaves before the welcome is there finds it ready soon after', async () => {
    await told({ type: 'analysis_started' })
    const gate = gated({ tokens: ['Hello', ' Ann.'] })
    service.upstream.always(gate)
    await told()
    await service.upstream.nextRequest()
    const leaving = new AbortController()
    const request = fetch(`${service.origin}/api/chat/conversations/from-assessment`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ann.token ?? ''}`, 'content-type': 'application/json' },
      body: JSON.stringify({ assessment_id: id() }),
      signal: leaving.signal,
    })
    await delay(300)
    leaving.abort()
    await request.catch(() => undefined)
    gate.release(2)
    gate.end()
    const startedAt = performance.now()
    await untilReady(ann)
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  })

  it('a conversation without a welcome is ready as it is; one that is asked for after all is written', async () => {
    await service.sql`
      insert into chat.assessments (assessment_id, user_id, stage, occurred_at, results)
      values (${id()}, ${user}, 'complete', now(), ${service.sql.json({ ...results, assessment_id: null, user_id: null })})`
    await ann.post('/conversations/from-assessment', { assessment_id: id(), auto_start_message: false })
    expect(await ready()).toBe(true)
    const { body } = await ann.post<{ initial_message: Message | null }>('/conversations/from-assessment', {
      assessment_id: id(),
    })
    expect(body.initial_message).toMatchObject({ status: 'complete' })
  })
})

describe('what a teller gets wrong', () => {
  it.each(['  ', '\u00a0', ' a1', 'a1 '])('an assessment called %j is none', async (assessment_id) => {
    expect(await told({ assessment_id })).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'assessment_id' }] },
    })
  })

  it('a clock that is years ahead makes nothing old that comes later', async () => {
    await told({ occurred_at: '2126-01-01T00:00:00Z', event_id: `first of ${id()}` })
    await untilReady(ann)
    await told({
      occurred_at: new Date(Date.now() + 60_000).toISOString(),
      event_id: `second of ${id()}`,
      results: { ...results, riasec: { S: 77 } },
    })
    expect((await adviser()).conversation.context_data).toMatchObject({ riasec: { S: 77 } })
  })

  it('suggestions are about the assessment that a conversation knows', async () => {
    await told()
    await untilReady(ann)
    const { conversation } = await adviser()
    const suggestions = async () =>
      (await ann.get(`/api/chat/conversations/${conversation.id}/suggestions`)).body
    const before = await suggestions()
    const other = `other of ${id()}`
    await told({ assessment_id: other, results: { ...results, riasec: { C: 95, E: 90 } } })
    await ann.post(`/conversations/${conversation.id}/context/assessment`, { assessment_id: other })
    expect(await suggestions()).not.toEqual(before)
  })
})
