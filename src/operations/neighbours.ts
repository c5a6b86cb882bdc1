/** What the metrics show of events: how many came, what became of them, and what waits to be sent. */
import { Counter, type Registry } from 'prom-client'
import { gaugesOf } from './gauge.ts'
import { createSample } from './sample.ts'

/** Of this process. */
export interface Neighbours {
  broker?:
    | {
        state: () => 'up' | 'down'
        stats: () => { done: number; dead: number; retried: number; unacked: number }
        deadLetters: () => Promise<number | undefined>
      }
    | undefined
  relay?:
    | { stats: () => { sent: number; unroutable: number; refused: number; failed: number; expired: number } }
    | undefined
}

/** Between two questions how many dead letters there are, ms; and how long an answer is shown. */
const lettersEveryMs = 10_000
const lettersKeptMs = 60_000

/** @param neighbours asked at each scrape; nothing is shown of who is not there. */
export function watchNeighbours(registry: Registry, neighbours: () => Neighbours): void {
  const gauge = gaugesOf(registry)
  const letters = createSample({
    read: async () => (await neighbours().broker?.deadLetters()) ?? Promise.reject(new Error('away')),
    everyMs: lettersEveryMs,
    keptMs: lettersKeptMs,
    onError: () => undefined,
  })

  gauge('rivulet_broker_up', 'Whether there is a connection to RabbitMQ.', () => {
    const { broker } = neighbours()
    return broker === undefined ? undefined : Number(broker.state() === 'up')
  })
  gauge(
    'rivulet_dead_letters',
    'Events in the dead-letter queue: the same on every instance. Asked every ten seconds.',
    () => (neighbours().broker === undefined ? undefined : letters.latest()),
  )
  gauge(
    'rivulet_events_unacknowledged',
    'Events that this process has taken and not ended.',
    () => neighbours().broker?.stats().unacked,
  )
  told(registry, {
    name: 'rivulet_events_total',
    help: 'Events taken from the queue, by what became of them.',
    read() {
      const stats = neighbours().broker?.stats()
      return stats && { done: stats.done, dead: stats.dead, retried: stats.retried }
    },
  })
  told(registry, {
    name: 'rivulet_outbox_total',
    help: 'Events for other services, by what became of them.',
    read() {
      const stats = neighbours().relay?.stats()
      if (stats === undefined) return undefined
      const { sent, unroutable, refused, failed, expired } = stats
      return { sent, unroutable, refused, failed, expired }
    },
  })
}

/** A counter that somebody else counts. */
function told(
  registry: Registry,
  { name, help, read }: { name: string; help: string; read: () => Record<string, number> | undefined },
): void {
  new Counter({
    name,
    help,
    labelNames: ['outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [outcome, count] of Object.entries(read() ?? {})) this.inc({ outcome }, count)
    },
  })
}
