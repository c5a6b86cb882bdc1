/**
 * What messages, conversations and the summary say of the same answers agrees to the last digit, with each other and
 * with a sum of whole numbers that is taken here; whatever happened to the answers, and however much of it is known.
 */
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pino } from 'pino'
import {
  answer,
  cutAfter,
  errorAfter,
  gated,
  httpError,
  PAID_MODEL_ID,
  type Behaviour,
} from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { createBilling } from '../../src/upstream/reconcile.ts'
import {
  createReconcileHandler,
  reconcileKind,
  recordUsage,
  type UsageRow,
} from '../../src/usage/reconcile.ts'
import type { ConversationUsage, UsageSummary } from '../../src/usage/schemas.ts'
import { json, startBooks, type Books } from '../support/books.ts'
import { basePath, textOf, type Client } from '../support/client.ts'
import { eventually, startBench, type Bench } from '../support/jobs.ts'
import { startService, type Service } from '../support/service.ts'
import { createRandom, exact, plain, sum } from '../support/usage.ts'

interface Told {
  cost: bigint
  tokens: number
  unpriced: number
}

/** What a user is told of these conversations in three ways, which have to be one. */
async function askThreeWays(user: Client, conversationIds: readonly string[]): Promise<Told> {
  const byMessage: { cost: bigint; tokens: number }[] = []
  const byConversation: Told[] = []
  for (const id of conversationIds) {
    const tree = await user.get<{ messages: { message: Message }[] }>(`/conversations/${id}/tree`)
    const usages = tree.body.messages.flatMap(({ message }) => message.usage ?? [])
    const { body } = await user.get<ConversationUsage>(`/conversations/${id}/usage`)
    const messages = {
      cost: sum(usages.map(({ cost }) => exact(cost ?? '0'))),
      tokens: usages.reduce((tokens, usage) => tokens + usage.total_tokens, 0),
    }
    expect(body.total_cost).toMatch(plain)
    expect(body.messages_count).toBe(usages.length)
    expect(body.cost_breakdown).toEqual(usages.map((usage) => expect.objectContaining(usage) as unknown))
    expect(partsOf(body.model_usage)).toEqual({ ...messages, unpriced: body.unpriced_answers })
    byMessage.push(messages)
    byConversation.push({
      cost: exact(body.total_cost),
      tokens: body.total_tokens,
      unpriced: body.unpriced_answers,
    })
  }
  const { body } = await user.get<UsageSummary>(`${basePath}/usage/summary?period=all`)
  const told = { cost: exact(body.total_cost), tokens: body.total_tokens, unpriced: body.unpriced_answers }
  expect(body.total_cost).toMatch(plain)
  expect(partsOf(body.by_model)).toEqual(told)
  expect(partsOf(body.by_day)).toEqual(told)
  expect({
    cost: sum(byConversation.map(({ cost }) => cost)),
    tokens: byConversation.reduce((tokens, one) => tokens + one.tokens, 0),
    unpriced: byConversation.reduce((unpriced, one) => unpriced + one.unpriced, 0),
  }).toEqual(told)
  expect({
    cost: sum(byMessage.map(({ cost }) => cost)),
    tokens: byMessage.reduce((tokens, one) => tokens + one.tokens, 0),
  }).toEqual({ cost: told.cost, tokens: told.tokens })
  return told
}

const partsOf = (
  parts: readonly { cost: string; total_tokens: number; unpriced_answers: number }[],
): Told => ({
  cost: sum(parts.map(({ cost }) => exact(cost))),
  tokens: parts.reduce((tokens, part) => tokens + part.total_tokens, 0),
  unpriced: parts.reduce((unpriced, part) => unpriced + part.unpriced_answers, 0),
})

describe('10,000 random turns, recorded as settles record them', () => {
  const seed = 20_261
  const random = createRandom(seed)
  const users = ['ann', 'ben', 'cy']
  const turnsInAll = 10_000
  const turnsPerBatch = 200
  const conversationsPerUser = 12

  let bench: Bench
  let books: Books
  let service: Service
  beforeAll(async () => {
    bench = await startBench()
    books = await startBooks()
    service = await startService({
      resolved: {
        databaseUrl: bench.url,
        exclusive: false,
        upstream: { baseUrl: books.baseUrl, apiKey: 'test', defaultModel: 'some/model:free' },
      },
    })
  })
  afterAll(async () => {
    await service.close()
    await books.close()
    await bench.close()
  })

  interface Attempt {
    usage: UsageRow
    upstreamId: string | undefined
  }
  const attempts: Attempt[] = []
  /** What the upstream's books say, told as JSON tells it. */
  const bills = new Map<string, { cost: number; prompt: number; completion: number }>()

  /** Reported, stopped, refused or free; what could not be reported is asked for later, where it has an id. */
  function attemptOf(
    userId: string,
    conversationId: string,
    messageId: string,
    generationId: string,
  ): Attempt {
    const isFreeModel = random.chance(0.3)
    const [promptTokens, completionTokens] = [random.below(5_000), random.below(900)]
    const reported = random.chance(0.8)
    const told = String(random.price())
    const upstreamId = random.chance(0.9) ? `gen-${bills.size}` : undefined
    if (upstreamId !== undefined)
      bills.set(upstreamId, {
        cost: isFreeModel ? 0 : random.price(),
        prompt: random.below(5_000),
        completion: random.below(900),
      })
    return {
      upstreamId,
      usage: {
        id: uuidv7(),
        userId,
        conversationId,
        messageId,
        generationId,
        model: random.pick(['a/b', 'c/d', 'e/f']) + (isFreeModel ? ':free' : ''),
        promptTokens,
        completionTokens,
        totalTokens: promptTokens + completionTokens,
        cost: isFreeModel ? '0' : reported && random.chance(0.95) ? decimalOf(told) : null,
        isFreeModel,
        source: reported ? 'reported' : 'estimated',
      },
    }
  }

  /** Without an exponent, as the upstream's reader makes it. */
  const decimalOf = (told: string): string => {
    const digits = exact(told).toString().padStart(61, '0')
    const fraction = digits.slice(-60).replace(/0+$/, '')
    return digits.slice(0, -60) + (fraction === '' ? '' : `.${fraction}`)
  }

  /** A question with one answer, or several siblings where it was regenerated; each answer took one to three attempts. */
  async function storeTurns(userId: string, conversationIds: readonly string[]): Promise<void> {
    const messages: { id: string; conversation: string; parent: string | null; sender: string }[] = []
    const recorded: Attempt[] = []
    let question = { id: '', conversation: '' }
    for (let turn = 0; turn < turnsPerBatch; turn++) {
      if (question.id === '' || random.chance(0.8)) {
        question = { id: uuidv7(), conversation: random.pick(conversationIds) }
        messages.push({ ...question, parent: null, sender: 'user' })
      }
      const { conversation } = question
      const [id, generationId] = [uuidv7(), uuidv7()]
      messages.push({ id, conversation, parent: question.id, sender: 'assistant' })
      // Refused before its first word: nobody charges for that, and nothing is recorded.
      const count = random.chance(0.05) ? 0 : random.pick([1, 1, 1, 2, 3])
      for (let n = 0; n < count; n++) recorded.push(attemptOf(userId, conversation, id, generationId))
    }
    await bench.sql`
      insert into chat.messages (conversation_id, id, user_id, parent_message_id, sender_type, sender_id, content,
        content_type, status, metadata)
      select conversation, id, ${userId}, parent, sender, sender, 'text', 'text', 'complete', '{}'
      from json_to_recordset(${JSON.stringify(messages)}::text::json) as message
        (id uuid, conversation uuid, parent uuid, sender text)`
    await bench.database.asCaller({ userId }, (tx) =>
      tx.commit(() =>
        Promise.all(recorded.map(({ usage, upstreamId }) => recordUsage(tx, usage, upstreamId))),
      ),
    )
    // Until they are let go below.
    await bench.sql`update chat.jobs set run_at = now() + interval '1 day' where leased_until is null`
    attempts.push(...recorded)
  }

  /** Lets some of those be reconciled that wait for it, and waits until none is under way. */
  async function reconcile(share: number): Promise<void> {
    const waiting = await bench.sql<
      { id: string }[]
    >`select id from chat.jobs where kind = 'reconcile_cost' order by id`
    const released = waiting.filter(() => random.chance(share)).map(({ id }) => id)
    await bench.sql`update chat.jobs set run_at = now() where id = any(${released}::uuid[])`
    await eventually(
      () => bench.sql`
        
        select from chat.jobs
        where kind = 'reconcile_cost' and (run_at <= now() + interval '1 hour' or leased_until is not null) limit 1`,
    ).toHaveLength(0)
  }

  /** What is known by now: what was reported, and what the books were asked for. */
  function ledgerOf(userId: string): Told {
    const asked = new Set(books.asked.map(({ id }) => id))
    const known = attempts
      .filter(({ usage }) => usage.userId === userId)
      .map(({ usage, upstreamId }) => {
        const reconciled =
          upstreamId !== undefined && asked.has(upstreamId) ? bills.get(upstreamId) : undefined
        if (reconciled !== undefined)
          return { cost: exact(String(reconciled.cost)), tokens: reconciled.prompt + reconciled.completion }
        return { cost: usage.cost === null ? undefined : exact(usage.cost), tokens: usage.totalTokens }
      })
    return {
      cost: sum(known.map(({ cost }) => cost ?? 0n)),
      tokens: known.reduce((tokens, one) => tokens + one.tokens, 0),
      unpriced: known.filter(({ cost }) => cost === undefined).length,
    }
  }

  it(`(seed ${seed})`, async () => {
    books.answer((response, request) => {
      const { cost, prompt, completion } =
        bills.get(new URL(request.url ?? '', 'http://books').searchParams.get('id') ?? '') ?? {}
      json({
        data: { total_cost: cost, native_tokens_prompt: prompt, native_tokens_completion: completion },
      })(response)
    })
    const billing = createBilling({ baseUrl: books.baseUrl, apiKey: 'test' })
    const handler = createReconcileHandler({ billing, log: pino({ level: 'silent' }) })
    const worker = bench.worker({ [reconcileKind]: handler }, { runningMax: 16 })
    const clients = await Promise.all(users.map((user) => service.as(user)))
    const conversations = await Promise.all(
      clients.map((client) =>
        Promise.all(Array.from({ length: conversationsPerUser }, () => client.conversation())),
      ),
    )
    const check = async () => {
      for (const [index, client] of clients.entries())
        expect(await askThreeWays(client, conversations[index] ?? [])).toEqual(ledgerOf(users[index] ?? ''))
    }
    const batches = turnsInAll / turnsPerBatch
    for (let batch = 0; batch < batches; batch++) {
      const index = random.below(users.length)
      await storeTurns(users[index] ?? '', conversations[index] ?? [])
      if (batch % 10 === 9) {
        await reconcile(random.next() / 2)
        await check()
      }
    }
    await reconcile(1)
    await check()
    expect(attempts.length).toBeGreaterThan(turnsInAll)
    expect(attempts.filter(({ usage }) => usage.cost === null).length).toBeGreaterThan(1_000)
    expect((await bench.rows()).filter(({ kind }) => kind !== 'tidy')).toEqual([])
    await worker.close()
    await billing.close()
  }, 180_000)
})

describe('300 random turns over HTTP', () => {
  const seed = 4_711
  const turnsPerUser = 100
  const conversationsPerUser = 3

  let service: Service
  beforeAll(async () => {
    service = await startService()
  })
  afterAll(() => service.close())

  /** What the model does with the question that holds this key. */
  const behaviours = new Map<string, Behaviour>()
  const keyOf = (text: string) => /turn \w+ \d+(?!.*turn \w+ \d+)/s.exec(text)?.[0] ?? ''

  async function live(user: string): Promise<{ client: Client; conversations: string[] }> {
    const random = createRandom(seed + user.length)
    const client = await service.as(user, { tier: 'premium' })
    const conversations = await Promise.all(
      Array.from({ length: conversationsPerUser }, () => client.conversation()),
    )
    const answers: { path: string; key: string }[] = []
    for (let turn = 0; turn < turnsPerUser; turn++) {
      // Few: how many free answers a minute has is limited.
      const isFree = turn % 10 === 0
      const usage = { cost: isFree ? 0 : random.price() }
      const model = isFree ? {} : { model: PAID_MODEL_ID }
      const again = answers.length > 0 && random.chance(0.3) ? random.pick(answers) : undefined
      const key = again?.key ?? `turn ${user} ${turn}`
      const path = again?.path ?? `/conversations/${random.pick(conversations)}/messages`
      const body = again === undefined ? { content: key, ...model, parent_message_id: null } : model
      const gate = { ...gated(), usage }
      const kind = random.pick(['told', 'told', 'told', 'stopped', 'broken', 'cut', 'refused'] as const)
      behaviours.set(
        key,
        {
          told: answer(['An', ' answer'], { usage }),
          stopped: gate,
          broken: { ...errorAfter(2), usage },
          cut: { ...cutAfter(2), usage },
          refused: httpError(403),
        }[kind],
      )
      const stream = await client.stream(path, body)
      const start = await stream.until(({ data }) => data.type === 'assistant_start')
      const { id, conversation_id } = start.data['message'] as Message
      const url = `/conversations/${conversation_id}/messages/${id}`
      if (kind === 'stopped') {
        gate.release(2)
        await stream.until(() => textOf(stream.frames).includes('t2 '))
        await client.post(`${url}/stop`)
      }
      await stream.ended
      answers.push({ path: `${url}/regenerate`, key })
    }
    return { client, conversations }
  }

  it(`with stops, failures and regenerates (seed ${seed})`, async () => {
    service.upstream.always(({ messages }) => behaviours.get(keyOf(JSON.stringify(messages))))
    const users = ['ann', 'bernd', 'charlotte']
    const lives = await Promise.all(users.map(live))
    await eventually(
      () => service.sql`select last_error from chat.jobs where kind not in ('tell_unwatched', 'tidy')`,
    ).toEqual([])
    for (const [index, { client, conversations }] of lives.entries()) {
      const told = await askThreeWays(client, conversations)
      const asked = service.upstream.requests.filter(({ body }) =>
        keyOf(JSON.stringify(body.messages)).startsWith(`turn ${users[index]} `),
      )
      const charged = asked.filter(({ counts }) => counts.content > 0)
      expect(told).toMatchObject({
        cost: sum(charged.map(({ behaviour }) => exact(String(behaviour.usage?.cost)))),
        unpriced: 0,
      })
      expect(asked.length).toBeGreaterThan(charged.length)
      expect(charged.length).toBeGreaterThan(turnsPerUser / 2)
    }
  }, 120_000)
})
