/** What every scenario begins with: a database of its own, servers over it, and a crowd; all of it gone at its end. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Row } from '../report.ts'
import type { Postgres } from '../subjects.ts'
import { createPoster, type Poster } from './posting.ts'
import { startCrowd, type Crowd, type Instance } from './processes.ts'
import { createDatabase, secret, type Database, type Subject } from './subjects.ts'

export interface Bench {
  postgres: Postgres
  quick: boolean
  /** Whether it is asked for. */
  measures: (subject: Subject) => boolean
  say: (text: string) => void
}

export interface Stage extends AsyncDisposable {
  database: Database
  crowd: Crowd
  /** One more server of the subject. @param port the one that another one had; a free one by default */
  start(port?: number): Promise<Instance>
  poster(port: number): Poster
  /** Users `first` …, all live when it resolves. @returns how long that took, ms. @throws Error where they are not. */
  open(first: number, count: number, ports: number[]): Promise<number>
  /** Until nothing more arrives. */
  settle(): Promise<void>
}

/** So long without an event, ms: longer than anything is allowed to be late by (a lost wake-up: 2 s). */
const quietMs = 3_500
const settleMsMax = 60_000
const openMsMax = 120_000

export async function setStage(bench: Bench, subject: Subject, args: string[] = []): Promise<Stage> {
  const releases = new AsyncDisposableStack()
  const database = releases.use(await createDatabase(bench.postgres.url))
  const running: Instance[] = []
  releases.defer(async () => {
    await Promise.all(running.map((instance) => instance.stop()))
  })
  const crowd = await startCrowd()
  releases.defer(() => crowd.stop())
  return {
    database,
    crowd,
    async start(port) {
      const instance = await subject.start({
        databaseUrl: database.url,
        args,
        ...(port !== undefined && { port }),
      })
      running.push(instance)
      return instance
    },
    poster(port) {
      const poster = createPoster(port)
      releases.defer(() => poster.close())
      return poster
    },
    async open(first, count, ports) {
      const beganMs = performance.now()
      const { dialect } = subject
      const { live, endings } = await crowd.open({
        dialect,
        secret,
        first,
        count,
        ports,
        withinMs: openMsMax,
      })
      if (live < count)
        throw new Error(`only ${live} of ${count} clients are connected: ${JSON.stringify(endings)}`)
      return performance.now() - beganMs
    },
    async settle() {
      const untilMs = performance.now() + settleMsMax
      let before = -1
      for (;;) {
        const { events } = await crowd.state()
        if (events === before || performance.now() > untilMs) return
        before = events
        await delay(quietMs)
      }
    },
    [Symbol.asyncDispose]: () => releases.disposeAsync(),
  }
}

export const number = (value: number): string =>
  Number.isNaN(value) ? '–' : value >= 100 ? value.toFixed(0) : value.toFixed(1)
export const megabytes = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1)
export const kilobytes = (bytes: number): string => (bytes / 1024).toFixed(1)
export const seconds = (ms: number): string => (ms / 1000).toFixed(2)

export const row = (scenario: string, subject: string, cells: Record<string, string>): Row => ({
  scenario,
  subject,
  cells,
  text: `${scenario} · ${subject}: ${JSON.stringify(cells)}`,
})
