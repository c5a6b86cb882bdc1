/** Other services hear of each question that is stored and of each answer that has ended, never of what they say. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import type { UserCaller } from '../../src/auth/authenticate.ts'
import type { Database } from '../../src/db/database.ts'
import { reap } from '../../src/generation/engine.ts'
import { abandon, settlePatiently, type Settlement } from '../../src/generation/settle.ts'
import { createMachines, type Machines } from '../../src/machines.ts'
import { regenerate, sendMessage, type TurnDeps } from '../../src/messages/turn.ts'
import { createOutbox, type Outbox } from '../../src/outbox/outbox.ts'
import { DEMO_MODEL_ID } from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { jwtSecret, startService, testConfig, type Service } from '../support/service.ts'

const caller: UserCaller = {
  kind: 'user',
  userId: 'ann',
  tier: 'free',
  name: undefined,
  validUntil: Infinity,
}
let service: Service
let ann: Client
let machines: Machines
let db: Database
let woken: unknown[]
let outbox: Outbox
beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
  machines = createMachines(
    testConfig(),
    {
      databaseUrl: service.databaseUrl,
      exclusive: false,
      tokenKeys: { kind: 'secrets', secrets: [jwtSecret] },
      upstream: { baseUrl: service.upstream.baseUrl, apiKey: 'test', defaultModel: DEMO_MODEL_ID },
      pseudonymKey: jwtSecret,
    },
    pino({ level: 'silent' }),
  )
  db = machines.db
  await db.prepare(new AbortController().signal)
})
afterAll(async () => {
  await machines.stop(5_000)
  await machines.release()
  await service.close()
})
beforeEach(async () => {
  woken = []
  outbox = createOutbox({ sinks: { exchange: true, bridge: true }, wake: (sink) => woken.push(sink) })
  await service.sql`delete from chat.outbox`
})

const told = async () =>
  (
    await service.sql<{ payload: { user_id: string; data: Record<string, unknown> } }[]>`
      select payload from chat.outbox where routing_key = 'chat.message_created' and sink = 'exchange' order by due_at, id`
  ).map(({ payload }) => payload)

const turns = (): TurnDeps => ({ ...machines.turns, outbox })

/** An answer that is being written, as a turn stores it. */
async function answering(): Promise<
  Pick<Settlement, 'caller' | 'generationId' | 'conversationId' | 'messageId'>
> {
  const [conversationId, messageId, generationId] = [await ann.conversation(), uuidv7(), uuidv7()]
  await service.sql`
    insert into chat.messages (conversation_id, id, user_id, sender_type, sender_id, content, content_type, status, metadata)
    values (${conversationId}, ${messageId}, 'ann', 'assistant', 'm', '', 'text', 'streaming', '{"model": "asked"}')`
  await service.sql`
    insert into chat.generations (id, conversation_id, message_id, user_id, status, model)
    values (${generationId}, ${conversationId}, ${messageId}, 'ann', 'running', 'm')`
  return { caller, generationId, conversationId, messageId }
}

const settling = () => ({
  transactions: db,
  jobs: { wake: () => undefined },
  outbox,
  log: pino({ level: 'silent' }),
  nowMs: () => performance.now(),
})

const complete = {
  outcome: 'complete',
  content: 'a secret answer',
  sender: 'answered',
  tokens: undefined,
  metadata: { model: 'answered' },
  upstreamId: undefined,
  lastSeq: 3,
  storedSeq: 2,
  tail: [],
  terminal: { type: 'complete' },
  errorCode: undefined,
  question: '',
  usages: [],
} as const

it('a question: with the turn that stores it, as it is stored', async () => {
  const conversationId = await ann.conversation()
  const turn = await sendMessage(turns(), caller, conversationId, {
    content: 'a secret question',
    content_type: 'text',
    if_generating: 'reject',
  })
  if (turn.kind !== 'begun') throw new Error('a new turn')
  expect(await told()).toEqual([
    expect.objectContaining({
      type: 'chat.message_created',
      user_id: 'ann',
      data: {
        conversation_id: conversationId,
        message_id: turn.userMessage?.id,
        parent_message_id: null,
        sender_type: 'user',
        status: 'complete',
        content_type: 'text',
        created_at: turn.userMessage?.created_at,
      },
    }),
  ])
  expect(woken).toEqual(['exchange'])
  const { message } = await turn.generation.settled
  // Answering it again asks no new question.
  const again = await regenerate(turns(), caller, conversationId, message.id, {})
  if (again.kind === 'begun') await again.generation.settled
  expect(await told()).toHaveLength(1)
  expect(JSON.stringify(await told())).not.toContain('secret')
})

it('a question that was refused: nothing', async () => {
  const { conversationId, generationId } = await answering()
  const refused = sendMessage(turns(), caller, conversationId, {
    content: 'too early',
    content_type: 'text',
    if_generating: 'reject',
  })
  await expect(refused).rejects.toMatchObject({ code: 'generation_in_progress' })
  expect([await told(), woken]).toEqual([[], []])
  await service.sql`update chat.generations set status = 'complete' where id = ${generationId}`
})

it('an answer: with the transaction that settles it, with the model that gave it, and once', async () => {
  const end: Settlement = { ...(await answering()), ...complete }
  const { message } = await settlePatiently(settling(), end)
  expect((await settlePatiently(settling(), end)).ours).toBe(true)
  expect((await told()).map(({ data }) => data)).toEqual([
    {
      conversation_id: end.conversationId,
      message_id: end.messageId,
      parent_message_id: null,
      sender_type: 'assistant',
      status: 'complete',
      content_type: 'text',
      created_at: message?.created_at,
      model: 'answered',
    },
  ])
  expect(woken).toEqual(['exchange'])
  expect(JSON.stringify(await told())).not.toContain('secret')
})

it('an answer that never began, or whose process is gone: as interrupted', async () => {
  await abandon(settling(), await answering())
  const { messageId } = await answering()
  await service.sql`update chat.generations set heartbeat_at = now() - interval '1 minute' where status = 'running'`
  expect(await reap(db, 30, undefined, undefined, outbox)).toBe(1)
  expect((await told()).map(({ data }) => data['status'])).toEqual(['interrupted', 'interrupted'])
  expect((await told()).at(-1)?.data).toMatchObject({ message_id: messageId, model: 'asked' })
  expect(woken).toEqual(['exchange', 'exchange'])
})

it('an answer in a conversation that was deleted meanwhile: nothing', async () => {
  const end: Settlement = { ...(await answering()), ...complete }
  await service.sql`update chat.conversations set status = 'deleted' where id = ${end.conversationId}`
  await settlePatiently(settling(), end)
  expect(await told()).toEqual([])
})

it('nothing at all, where nobody is there to be told', async () => {
  outbox = createOutbox({ sinks: { exchange: false, bridge: true }, wake: (sink) => woken.push(sink) })
  const conversationId = await ann.conversation()
  const body = { content: randomUUID(), content_type: 'text', if_generating: 'reject' } as const
  const turn = await sendMessage(turns(), caller, conversationId, body)
  await settlePatiently(settling(), { ...(await answering()), ...complete })
  if (turn.kind === 'begun') await turn.generation.settled
  expect(await service.sql`select from chat.outbox`).toHaveLength(0)
  expect(woken).toEqual([])
})
