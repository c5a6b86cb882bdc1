/** The bench's processes: started, asked, and ended with it. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Job, Seen } from './load.ts'
import type { Used } from './probe.ts'

export interface Process {
  port: number
  pid: number
  used(): Promise<Used>
  stop(): Promise<void>
}

function start(file: string, env: Record<string, string>, args: string[] = []): ChildProcess {
  return fork(join(import.meta.dirname, file), {
    env: { ...process.env, ...env },
    execArgv: args,
    // What it logs is formatted and written, as in production, and read by nobody.
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
}

function answer<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const heard = (message: T) => {
      child.off('exit', gone)
      resolve(message)
    }
    const gone = (code: number | null) => {
      child.off('message', heard)
      reject(new Error(`a process of the bench ended (${code ?? 'by a signal'})`))
    }
    child.once('message', heard).once('exit', gone)
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  // It exits by itself, so that a profile of it is written; see probe.ts.
  child.disconnect()
  await gone
}

/** A server under test, or the upstream: a file that tells its port. */
export async function startServer(
  file: string,
  env: Record<string, string>,
  args: string[] = [],
): Promise<Process> {
  const child = start(file, env, args)
  const { port } = await answer<{ port: number }>(child)
  return {
    port,
    pid: child.pid ?? 0,
    async used() {
      child.send('used')
      return answer<Used>(child)
    },
    stop: () => end(child),
  }
}

export interface Clients {
  streams(job: Omit<Extract<Job, { kind: 'streams' }>, 'kind'>): Promise<Seen>
  stall(job: Omit<Extract<Job, { kind: 'stall' }>, 'kind'>): Promise<number>
  drop(job: Omit<Extract<Job, { kind: 'drop' }>, 'kind'>): Promise<number>
  release(): Promise<number>
  stop(): Promise<void>
}

export async function startClients(): Promise<Clients> {
  const child = start('load.ts', {})
  await answer(child)
  const ask = async <T>(job: Job): Promise<T> => {
    child.send(job)
    const said = await answer<{ result: T } | { error: string }>(child)
    if ('error' in said) throw new Error(said.error)
    return said.result
  }
  return {
    streams: (job) => ask<Seen>({ kind: 'streams', ...job }),
    stall: (job) => ask<number>({ kind: 'stall', ...job }),
    drop: (job) => ask<number>({ kind: 'drop', ...job }),
    release: () => ask<number>({ kind: 'release' }),
    stop: () => end(child),
  }
}
