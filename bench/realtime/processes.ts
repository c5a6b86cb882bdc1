/** Processes that are asked, signalled, killed and awaited: servers under test, and crowds. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Used } from '../probe.ts'
import type { CrowdJob, CrowdState, Events } from './crowd.ts'
import type { Loop } from './loop.ts'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** From asking for it, ms. */
  afterMs: number
}

export interface Instance {
  port: number
  used(): Promise<Used>
  /** The first call begins to look, the second one tells, and so on. */
  loop(): Promise<Loop>
  /** Resolves when it is gone; a server that has not ended after `endMs` is killed. */
  signal(signal: 'SIGTERM' | 'SIGKILL'): Promise<Exit>
  stop(): Promise<void>
}

/** More than any answer takes, ms: a bench that hangs says so instead. */
const answerMs = 180_000
/** What orchestrators give, ms. */
const endMs = 30_000

export async function startInstance(
  file: string,
  env: Record<string, string>,
  args: string[],
): Promise<Instance> {
  const child = start(file, env, args)
  const { port } = await answer<{ port: number }>(child, file)
  const ask = <T>(question: string) => {
    child.send(question)
    return answer<T>(child, file)
  }
  return {
    port,
    used: () => ask<Used>('used'),
    loop: () => ask<Loop>('loop'),
    async signal(signal) {
      const sinceMs = performance.now()
      const gone = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
      child.kill(signal)
      const late = setTimeout(() => child.kill('SIGKILL'), endMs)
      const [code, by] = await gone
      clearTimeout(late)
      return { code, signal: by, afterMs: performance.now() - sinceMs }
    },
    stop: () => end(child),
  }
}

type Of<K extends CrowdJob['kind']> = Omit<Extract<CrowdJob, { kind: K }>, 'kind'>

export interface Crowd {
  open(job: Of<'open'>): Promise<CrowdState>
  aim(job: Of<'aim'>): Promise<void>
  stopReading(job: Of<'stop-reading'>): Promise<void>
  goOnReading(): Promise<void>
  awaitLive(job: Of<'await-live'>): Promise<CrowdState>
  awaitEvents(job: Of<'await-events'>): Promise<CrowdState>
  take(): Promise<Events>
  state(): Promise<CrowdState>
  forget(): Promise<void>
  cursors(): Promise<Map<number, number>>
  leave(job: Of<'leave'>): Promise<void>
  stop(): Promise<void>
}

export async function startCrowd(): Promise<Crowd> {
  const file = 'crowd.ts'
  const child = start(join('realtime', file), {}, [])
  await answer(child, file)
  const ask = async <T>(job: CrowdJob): Promise<T> => {
    child.send(job)
    const said = await answer<{ result: T } | { error: string }>(child, `${file}: ${job.kind}`)
    if ('error' in said) throw new Error(said.error)
    return said.result
  }
  return {
    open: (job) => ask<CrowdState>({ kind: 'open', ...job }),
    aim: (job) => ask({ kind: 'aim', ...job }),
    stopReading: (job) => ask({ kind: 'stop-reading', ...job }),
    goOnReading: () => ask({ kind: 'go-on-reading' }),
    awaitLive: (job) => ask<CrowdState>({ kind: 'await-live', ...job }),
    awaitEvents: (job) => ask<CrowdState>({ kind: 'await-events', ...job }),
    take: () => ask<Events>({ kind: 'take' }),
    state: () => ask<CrowdState>({ kind: 'state' }),
    forget: () => ask({ kind: 'forget' }),
    cursors: () => ask<Map<number, number>>({ kind: 'cursors' }),
    leave: (job) => ask({ kind: 'leave', ...job }),
    stop: () => end(child),
  }
}

function start(file: string, env: Record<string, string>, args: string[]): ChildProcess {
  return fork(join(import.meta.dirname, '..', file), {
    env: { ...process.env, ...env },
    execArgv: args,
    // Typed arrays and maps as they are.
    serialization: 'advanced',
    // What it logs is formatted and written, as in production, and read by nobody.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}

function answer<T>(child: ChildProcess, who: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(late)
      child.off('message', heard).off('exit', gone)
    }
    const heard = (message: unknown) => {
      done()
      resolve(message as T)
    }
    const gone = (code: number | null) => {
      done()
      reject(new Error(`${who} ended (${code ?? 'by a signal'})`))
    }
    const late = setTimeout(() => {
      done()
      reject(new Error(`${who} has not answered for ${answerMs / 1000} s`))
    }, answerMs)
    child.on('message', heard).on('exit', gone)
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  // It exits by itself; see probe.ts.
  if (child.connected) child.disconnect()
  await gone
}
