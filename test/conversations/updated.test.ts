/** What a user's devices hear of their conversations: each change, once it is stored, on every instance. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { answer, gated, PAID_MODEL_ID, type Behaviour } from '../../src/embedded/demo-model.ts'
import { reap } from '../../src/generation/engine.ts'
import {
  conversationChangeSchema,
  type Conversation,
  type ConversationChange,
} from '../../src/conversations/schemas.ts'
import { createClient, type Client } from '../support/client.ts'
import { openDatabase } from '../support/engines.ts'
import { begin, hold, untilBlocked } from '../support/races.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { openSocket, type TestSocket } from '../support/socket.ts'
import { takeTurn } from '../support/turn.ts'

let service: Service
let other: Service
let ann: Client

beforeAll(async () => {
  const env = { RATE_LIMIT_RUNNING_GENERATIONS: '50', AUTO_TITLE_MODEL: PAID_MODEL_ID }
  service = await startService({ env })
  other = await startService({ resolved: { databaseUrl: service.databaseUrl, exclusive: false } })
  ann = await service.as('ann', { tier: 'premium' })
  // Nothing is sent to instances that nobody has heard of yet.
  const trusted = createClient(service.origin, serviceKey)
  await vi.waitFor(
    async () => {
      const { body } = await trusted.get<{ instances: unknown[] }>('/api/chat/internal/realtime/stats')
      expect(body.instances).toHaveLength(2)
    },
    { timeout: 12_000, interval: 20 },
  )
})
afterAll(async () => {
  await other.close()
  await service.close()
})
beforeEach(() => {
  service.upstream.forget()
  says(answer('Many things.'))
})

/** Who answers questions, and who names conversations: one that is named late takes nobody's answer. */
const says = (turn: Behaviour, title: Behaviour = answer('A title')) =>
  service.upstream.always(({ model }) => (model === PAID_MODEL_ID ? title : turn))

interface Device {
  /** What it heard of a conversation. */
  heard: (id: string) => ConversationChange[]
  /** Resolves with the first change of this kind, heard or to come. */
  until: (id: string, reason: ConversationChange['reason']) => Promise<ConversationChange>
}

async function device(user = 'ann', { origin } = service): Promise<Device> {
  const { token } = await service.as(user)
  const socket = await openSocket(origin, { token })
  await socket.live()
  type Frame = TestSocket['frames'][number]
  const changeOf = (frame: Frame) =>
    frame.op === 'event' && frame.type === 'conversation.updated'
      ? conversationChangeSchema.parse(frame.data)
      : undefined
  return {
    heard: (id) =>
      socket.frames.flatMap((frame) => {
        const change = changeOf(frame)
        return change?.id === id ? [change] : []
      }),
    until: async (id, reason) => {
      const matches = (frame: Frame) => {
        const change = changeOf(frame)
        return change?.id === id && change.reason === reason
      }
      return conversationChangeSchema.parse(((await socket.until(matches)) as { data: unknown }).data)
    },
  }
}

const read = async (id: string) =>
  (await ann.get<{ conversation: Conversation }>(`/conversations/${id}`)).body.conversation

describe('a change of a conversation', () => {
  it('is heard by all devices of its user on all instances, as it stands then, and by nobody else', async () => {
    const devices = [await device(), await device('ann', other)]
    const stranger = await device('bob')
    /** On every device: what `GET` says. */
    async function expectHeard(id: string, reason: ConversationChange['reason']) {
      for (const { until } of devices) {
        const change = await until(id, reason)
        const { title, status, current_message_id, message_count, updated_at } = await read(id)
        const now = { id, title, status, current_message_id, message_count, updated_at }
        expect(change).toEqual({ ...now, reason })
      }
    }
    const id = await ann.conversation()
    await expectHeard(id, 'created')

    const gate = gated()
    const naming = gated({ tokens: ['A title'] })
    says(gate, naming)
    const stream = await ann.stream(`/conversations/${id}/messages`, { content: 'What could I become?' })
    await expectHeard(id, 'message')
    gate.release()
    gate.end()
    await stream.ended
    await expectHeard(id, 'answer')
    naming.release()
    naming.end()
    await expectHeard(id, 'title')

    const path = `/conversations/${id}`
    await ann.request('PATCH', path, { title: 'Mine' })
    await expectHeard(id, 'renamed')
    await ann.request('PUT', path, { metadata: { a: 1 } })
    await expectHeard(id, 'metadata')
    const leaf = (await read(id)).current_message_id
    await ann.request('PATCH', path, { current_message_id: leaf })
    await expectHeard(id, 'branch')
    const { body: fork } = await ann.post<Conversation>(`${path}/fork`, { message_id: leaf })
    await expectHeard(fork.id, 'forked')
    await ann.request('PATCH', path, { status: 'archived' })
    await expectHeard(id, 'status')
    await ann.request('DELETE', path)
    for (const { until } of devices)
      expect(await until(id, 'deleted')).toMatchObject({ title: 'Mine', status: 'deleted' })
    expect([...stranger.heard(id), ...stranger.heard(fork.id)]).toEqual([])
  })

  it('is heard once, however often it is asked for with the same key', async () => {
    const ours = await device()
    const key = () => ({ 'idempotency-key': crypto.randomUUID() })
    const once = key()
    const make = () => ann.request<Conversation>('POST', '/conversations', {}, once)
    const [made, again] = [await make(), await make()]
    expect(again.headers.get('idempotent-replay')).toBe('true')
    const { id } = made.body
    const sent = key()
    for (let time = 1; time <= 2; time++)
      await ann.request('POST', `/conversations/${id}/messages`, { content: 'Hello?' }, sent)
    await ann.request('DELETE', `/conversations/${id}`)
    await ours.until(id, 'deleted')
    const reasons = ours.heard(id).map(({ reason }) => reason)
    expect(reasons.filter((reason) => reason !== 'title')).toEqual([
      'created',
      'message',
      'answer',
      'deleted',
    ])
  })

  it('is not heard of where it was refused', async () => {
    const ours = await device()
    const { id, gate } = await speaking()
    expect((await ann.post(`/conversations/${id}/messages`, { content: 'And?' })).status).toBe(409)
    const missing = { current_message_id: crypto.randomUUID(), title: 'No' }
    expect((await ann.request('PATCH', `/conversations/${id}`, missing)).status).toBe(404)
    gate.end()
    await ours.until(id, 'answer')
    expect(ours.heard(id).map(({ reason }) => reason)).toEqual(['created', 'message', 'answer'])
  })

  it('that its stopped answer is, after a deletion, is none', async () => {
    const ours = await device()
    const { id, stream } = await speaking()
    await ann.request('DELETE', `/conversations/${id}`)
    await stream.ended
    const behind = await ann.conversation()
    await ours.until(behind, 'created')
    expect(ours.heard(id).map(({ reason }) => reason)).toEqual(['created', 'message', 'deleted'])
  })

  it('that a reaper makes is one, too', async () => {
    const { id, generation } = await speaking()
    const db = await openDatabase(service.databaseUrl)
    const told: [string, ConversationChange][] = []
    const reaped = async () => {
      await service.sql`
        update chat.generations set heartbeat_at = now() - interval '1 minute' where id = ${generation}`
      return reap(db, 30, undefined, (userId, change) => told.push([userId, change]))
    }
    // It lives, and says so now and then.
    await expect.poll(reaped, { interval: 10 }).toBe(1)
    const { title, status, current_message_id, message_count, updated_at } = await read(id)
    const now = { id, title, status, current_message_id, message_count, updated_at }
    expect(told).toEqual([['ann', { ...now, reason: 'answer' }]])
  })
})

/** An answer that goes on until its gate ends. */
async function speaking() {
  const gate = gated()
  says(gate)
  const begun = await begin(ann)
  gate.release()
  await begun.stream.until(({ data }) => data.type === 'assistant_chunk')
  return { ...begun, gate }
}

describe('a commit that takes its time', () => {
  /** Whoever changes a conversation waits in its COMMIT for as long as somebody holds this. */
  const gateKey = 4711

  beforeAll(async () => {
    await service.sql.unsafe(`
      create function wait_at_commit() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock_shared(${gateKey}); return null; end $$;
      create constraint trigger waits after insert or update on chat.conversations deferrable initially deferred
        for each row execute function wait_at_commit();`)
  })

  it.each<[ConversationChange['reason'], (id: string) => Promise<unknown>]>([
    ['renamed', (id) => ann.request('PATCH', `/conversations/${id}`, { title: 'Mine' })],
    ['deleted', (id) => ann.request('DELETE', `/conversations/${id}`)],
    ['message', (id) => takeTurn(ann, id, 'json')],
    ['answer', (id) => takeTurn(ann, id, 'json')],
    ['title', (id) => takeTurn(ann, id, 'json')],
  ])('is waited for before it is told: %s', async (reason, change) => {
    const ours = await device()
    const id = await ann.conversation()
    const gates = { answer: gated(), title: gated({ tokens: ['A title'] }) }
    if (reason !== 'message') says(gates.answer, gates.title)
    const close = () => hold(service.sql, (session) => session`select pg_advisory_xact_lock(${gateKey})`)
    const before = reason === 'answer' || reason === 'title'
    let open = before ? undefined : await close()
    const changing = change(id)
    onTestFinished(() => changing.then(() => undefined))
    if (before) {
      await ours.until(id, 'message')
      if (reason === 'answer') open = await close()
      gates.answer.release()
      gates.answer.end()
    }
    if (reason === 'title') {
      await ours.until(id, 'answer')
      open = await close()
      gates.title.release()
      gates.title.end()
    }
    await untilBlocked(service.sql, 'commit')
    expect(ours.heard(id).map((heard) => heard.reason)).not.toContain(reason)
    await open?.()
    await ours.until(id, reason)
  })
})
