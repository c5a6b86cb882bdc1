/** An instance's engine with its journal, without the service around them: a test decides what it hears and when. */
import { onTestFinished } from 'vitest'
import { pino } from 'pino'
import { v7 as uuidv7 } from 'uuid'
import type { Bus } from '../../src/bus/bus.ts'
import { createDatabase, type Database } from '../../src/db/database.ts'
import type { RecordedRequest } from '../../src/embedded/demo-recorder.ts'
import { createEngine, createJournal, heedStops, type Generation } from '../../src/generation/engine.ts'
import { readMessage } from '../../src/messages/queries.ts'
import { createAttempts } from '../../src/upstream/attempts.ts'
import { createBreakers } from '../../src/upstream/breakers.ts'
import { createFreeTurns } from '../../src/upstream/free-turns.ts'
import { createLatencies } from '../../src/upstream/latency.ts'
import { createUpstream } from '../../src/upstream/openrouter.ts'
import type { Service } from './service.ts'

export interface OwnEngine {
  /** Stores an answer of ann's as a turn would, and starts it. Resolves when the upstream has been asked. */
  begin(): Promise<{ generation: Generation; upstreamRequest: RecordedRequest }>
}

/** Released with the test. */
export async function openDatabase(url: string): Promise<Database> {
  const db = createDatabase({ url, poolMax: 2, log: pino({ level: 'silent' }) })
  onTestFinished(() => db.close())
  await db.prepare(new AbortController().signal)
  return db
}

/**
 * Beside a service: its upstream, and its database under another URL perhaps. Released with the test.
 *
 * @param bus where it hears of stop requests.
 */
export async function startEngine(
  service: Service,
  { databaseUrl, bus, flushMs }: { databaseUrl: string; bus: Bus; flushMs: number },
): Promise<OwnEngine> {
  const [instanceId, caller, model] = [uuidv7(), { userId: 'ann' }, 'rivulet/demo:free']
  const log = pino({ level: 'silent' })
  const nowMs = () => performance.now()
  const timeouts = { connectMs: 5_000, firstTextMs: 20_000, idleMs: 20_000, totalMs: 60_000 }
  const upstream = createUpstream({ baseUrl: service.upstream.baseUrl, apiKey: 'test', timeouts })
  onTestFinished(() => upstream.close())
  const db = await openDatabase(databaseUrl)
  const journal = createJournal({
    transactions: db.settling,
    log,
    instanceId,
    nowMs,
    flushMs,
    stallMs: 60_000,
  })
  const engine = createEngine({
    ask: createAttempts({
      upstream,
      breakers: createBreakers({ nowMs }),
      freeTurns: createFreeTurns(),
      latencies: createLatencies(),
      observe: () => undefined,
      nowMs,
      random: Math.random,
      retryMs: 1,
      fallbackAfterMs: 20_000,
    }),
    isFree: () => true,
    estimateMs: () => undefined,
    transactions: db.settling,
    journal,
    jobs: { wake: () => undefined },
    log,
    observe: () => undefined,
    nowMs,
  })
  onTestFinished(() => engine.drain(0))
  heedStops(bus, journal)
  const ann = await service.as('ann')

  return {
    async begin() {
      const [conversationId, messageId, id] = [await ann.conversation(), uuidv7(), uuidv7()]
      await service.sql`
        insert into chat.messages (conversation_id, id, user_id, sender_type, sender_id, content, content_type, status, metadata)
        values (${conversationId}, ${messageId}, 'ann', 'assistant', ${model}, '', 'text', 'streaming', '{}')`
      await service.sql`
        insert into chat.generations (id, conversation_id, message_id, user_id, status, model, instance_id)
        values (${id}, ${conversationId}, ${messageId}, 'ann', 'running', ${model}, ${instanceId})`
      const message = await db.asCaller(caller, (tx) => readMessage(tx, conversationId, messageId))
      if (message === undefined) throw new Error('it was just stored')
      const generation = engine.start({
        id,
        caller,
        conversationId,
        message,
        question: 'go',
        opening: [],
        order: {
          models: [model],
          request: () => ({
            model,
            messages: [{ role: 'user', content: 'go' }],
            temperature: 1,
            maxTokens: 100,
            user: 'u',
            sessionId: 's',
            promptTokens: 1,
          }),
        },
      })
      return { generation, upstreamRequest: await service.upstream.nextRequest() }
    },
  }
}
