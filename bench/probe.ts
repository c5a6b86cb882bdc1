/** What each process under test tells the bench over IPC: its port, and on request what it has used. */
import { writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { Session } from 'node:inspector/promises'
import type { AddressInfo } from 'node:net'

export interface Used {
  /** user and system, µs */
  cpuUs: number
  rssBytes: number
  heapBytes: number
  /** outside of V8's heap, bytes */
  externalBytes: number
}

/** µs of a clock that all processes of this machine share. */
export const nowUs = (): number => Number(process.hrtime.bigint() / 1000n)

/** Listens on a free port, and says which. */
export function serveUnderTest(server: Server): void {
  server.listen(0, '127.0.0.1', () => tellPort((server.address() as AddressInfo).port))
}

export function tellPort(port: number): void {
  answerQuestions()
  process.send?.({ port })
}

/** A CPU profile of what happens between two questions: the measured part, and nothing else. */
function createProfiler(path: string | undefined): { toggle(): Promise<void> } {
  const session = new Session()
  let running = false
  if (path !== undefined) session.connect()
  return {
    async toggle() {
      if (path === undefined) return
      if (running) {
        const { profile } = await session.post('Profiler.stop')
        writeFileSync(path, JSON.stringify(profile))
      } else {
        await session.post('Profiler.enable')
        await session.post('Profiler.start')
      }
      running = !running
    },
  }
}

function answerQuestions(): void {
  const profiler = createProfiler(process.env['BENCH_PROFILE'])
  process.on('message', (question) => void (question === 'used' && answer()))
  const answer = async () => {
    await profiler.toggle()
    // Where the collector may be asked (--expose-gc), what is left is what is held.
    globalThis.gc?.()
    const { user, system } = process.cpuUsage()
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage()

    const used: Used = {
      cpuUs: user + system,
      rssBytes: rss,
      heapBytes: heapUsed,
      externalBytes: external + arrayBuffers,
    }
    process.send?.(used)
  }
  // Nobody asks any more: the bench is gone.
  process.on('disconnect', () => process.exit(0))
}
