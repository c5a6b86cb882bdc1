/** An archive that can be scripted, clients of it, and what they log. `beforeEach(forget)`, `afterAll(close)`. */
import { pino } from 'pino'
import {
  createArchive,
  type Archive,
  type ArchiveAnswer,
  type ArchiveOptions,
} from '../../src/assessments/archive-client.ts'
import {
  startDemoArchive,
  times,
  type ArchiveBehaviour,
  type DemoArchive,
} from '../../src/embedded/demo-archive.ts'

export interface ArchiveBench {
  server: DemoArchive
  serviceKey: string
  /** What the clients have logged. */
  logged: Record<string, unknown>[]
  /** A client that waits as short as it may. */
  open: (options?: Partial<ArchiveOptions>) => Archive
  /** By a client of its own; default: `a1`. */
  fetch: (options?: Partial<ArchiveOptions>, id?: string) => Promise<ArchiveAnswer>
  /** The same, and this is all that the archive does. */
  fetchScripted: (behaviour: ArchiveBehaviour, options?: Partial<ArchiveOptions>) => Promise<ArchiveAnswer>
  tries: () => number
  /** Between the requests, ms. */
  waits: () => number[]
  /** Closes the clients, and forgets what there was. */
  forget: () => Promise<void>
  close: () => Promise<void>
}

/** Nobody goes away. */
export const never = new AbortController().signal
export const results = { assessment_id: 'a1', user_id: 'ann', riasec: { I: 92, R: 85 } }

export async function startArchiveBench(): Promise<ArchiveBench> {
  const serviceKey = 'the-service-key-of-the-archive'
  const server = await startDemoArchive({ serviceKey })
  const logged: Record<string, unknown>[] = []
  const opened: Archive[] = []
  const log = pino(
    { level: 'debug' },
    { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const open: ArchiveBench['open'] = (options) => {
    const archive = createArchive({ baseUrl: server.baseUrl, serviceKey, random: () => 0, log, ...options })
    opened.push(archive)
    return archive
  }
  const fetch: ArchiveBench['fetch'] = (options, id = 'a1') => open(options).fetch(id, never)
  const forget = async () => {
    await Promise.all(opened.splice(0).map((archive) => archive.close()))
    server.forget()
    logged.length = 0
  }
  return {
    server,
    serviceKey,
    logged,
    open,
    fetch,
    fetchScripted(behaviour, options) {
      server.script(...times(10, behaviour))
      return fetch(options)
    },
    tries: () => server.requests.length,
    waits: () => server.requests.slice(1).map(({ at }, n) => at - (server.requests[n]?.at ?? 0)),
    forget,
    async close() {
      await forget()
      await server.close()
    },
  }
}
