/** Who tells the service of assessments in the demo: over RabbitMQ, as others do, or over HTTP where there is none. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { DemoBroker } from './demo-broker.ts'
import { user, type DemoStage } from './demo-start.ts'

export interface AssessmentTold {
  event_id: string
  type: 'assessment_submitted' | 'analysis_started' | 'analysis_complete'
  user_id: string
  assessment_id: string
  occurred_at: string
}

export interface Teller {
  /** Resolves when it is taken, with the moment in which it was told, of `performance.now()`. */
  tell: (event: AssessmentTold) => Promise<number>
  /** Resolves when all that was told has been dealt with. */
  settled: () => Promise<void>
}

export const eventOf = (type: AssessmentTold['type'], assessmentId: string): AssessmentTold => ({
  event_id: randomUUID(),
  type,
  user_id: user,
  assessment_id: assessmentId,
  occurred_at: new Date().toISOString(),
})

export function createHttpTeller({ clientOf }: DemoStage, serviceKey: string): Teller {
  const client = clientOf(serviceKey)
  return {
    async tell(event) {
      const toldAt = performance.now()
      await client.call('POST', '/internal/events', event)
      return toldAt
    },
    // An event is answered when it is committed.
    settled: async () => undefined,
  }
}

const lookEveryMs = 25
/** The service connects by itself, and may wait a second or two where the broker was busy. */
const connectedWithinMs = 10_000
/** What was taken is dealt with in less: there is no work left in an event that was here before. */
const handledMs = 250

/** Resolves when the service is connected, too. */
export async function createBrokerTeller(
  { client }: DemoStage,
  broker: DemoBroker,
  signal: AbortSignal,
): Promise<Teller> {
  const pause = (ms: number) => delay(ms, undefined, { signal })
  const deadline = performance.now() + connectedWithinMs
  for (;;) {
    const { dependencies } = await client.call<Health>('GET', '/health')
    if (dependencies.rabbitmq.status === 'up') break
    if (performance.now() > deadline) throw new Error(`the service does not connect to ${broker.place}`)
    await pause(lookEveryMs)
  }
  return {
    async tell(event) {
      const toldAt = performance.now()
      await broker.publish(event.type.replace('_', '.'), event)
      return toldAt
    },
    async settled() {
      while ((await broker.depth()) > 0) await pause(lookEveryMs)
      await pause(handledMs)
    },
  }
}

interface Health {
  dependencies: { rabbitmq: { status: string } }
}
