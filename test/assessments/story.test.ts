/** From a finished assessment to a ready adviser, over HTTP alone: what its user finds. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { adviserOf, eventOf, inboxOf, results, tell, untilReady } from '../support/assessments.ts'
import { createClient, type Client } from '../support/client.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

let service: Service
let teller: Client
let ann: Client
beforeEach(async () => {
  service = await startService()
  teller = createClient(service.origin, serviceKey)
  ann = await service.as('ann')
})
afterEach(() => service.close())

describe('an analysis that is complete', () => {
  it('makes a conversation with a welcome by the model and suggestions, and one row of the inbox reaches 100', async () => {
    for (const type of ['assessment_submitted', 'analysis_started'])
      expect(await tell(teller, { type })).toMatchObject({ status: 202 })
    const { status, body } = await tell(teller)
    expect({ status, body }).toMatchObject({ status: 202, body: { accepted: true, duplicate: false } })
    await untilReady(ann)

    const { exists, conversation, messages } = await adviserOf(ann)
    expect(exists).toBe(true)
    expect(conversation).toMatchObject({
      context_type: 'assessment',
      title: 'Your assessment results',
      message_count: 1,
      context_data: { assessment_id: 'a1', riasec: results.riasec },
    })
    expect(messages).toMatchObject([
      {
        sender_type: 'assistant',
        status: 'complete',
        parent_message_id: null,
        metadata: { type: 'assessment_welcome', suggestions: expect.any(Array) as string[] },
      },
    ])
    expect(messages[0]?.metadata).not.toHaveProperty('composed')
    expect(messages[0]?.content).toContain('**Investigative** (92)')
    const { suggestions } = (
      await ann.get<{ suggestions: string[] }>(`/api/chat/conversations/${conversation.id}/suggestions`)
    ).body
    expect(suggestions).toEqual(messages[0]?.metadata['suggestions'])
    expect(suggestions.length).toBeGreaterThanOrEqual(6)
    expect(suggestions.length).toBeLessThanOrEqual(8)
    expect(await inboxOf(ann)).toMatchObject([
      {
        type: 'assessment_progress',
        template: 'chatbot_ready',
        progress: 100,
        action: { type: 'redirect', url: '/assessment/a1/results' },
        data: { stage: 'chatbot_ready', assessment_id: 'a1', conversation_id: conversation.id },
      },
    ])
    expect(service.upstream.requests).toHaveLength(1)
  })

  it('is told to the model as a summary within its context', async () => {
    await tell(teller)
    await untilReady(ann)
    const [asked] = service.upstream.requests
    const system = JSON.stringify(asked?.body)
    expect(system).toContain(
      'RIASEC (I: 92, R: 85, A: 78), Big Five (O: 88, E: 82, C: 75), Top strengths (creativity, ',
    )
  })
})

it('what has no shape is refused with its place, and nothing of it is kept', async () => {
  expect(await teller.post('/api/chat/internal/events', { ...eventOf(), user_id: 7 })).toMatchObject({
    status: 400,
    body: { code: 'invalid_request', errors: [{ path: 'user_id' }] },
  })
  expect(await service.sql`select from chat.processed_events`).toHaveLength(0)
})
