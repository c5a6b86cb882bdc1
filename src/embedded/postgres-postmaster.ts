// The server process of a cluster, as told by the cluster's `postmaster.pid` and by the system. The file
// alone proves nothing: it stays behind after a kill -9, and its pid may be another program's by now.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync, unlinkSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { codeOf } from './postgres-files.ts'
import type { Place } from './postgres-files.ts'
import { childSurroundings, EmbeddedPostgresError, run } from './postgres-user.ts'

export interface Postmaster {
  pid: number
  port: number
  /** takes connections; else it is starting, recovering or stopping */
  isReady: boolean
}

// PostgreSQL fills the file right after making it; one still empty after this is a crash's.
const emptyFileAgeMs = 2000

// Kept for whoever looks for a cause; one older file stays beside it.
const logBytesMax = 4 * 1024 * 1024
const logLinesShown = 12

/** What the file says, if there is one. */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const text = await fs.readFile(pidFileOf(cluster), 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return ''
    throw error
  })
  // Lines: pid, data directory, start time, port, socket directory, address, shared memory, status.
  const [pid, , , port, , , , status] = text.split('\n')
  if (pid === undefined || pid === '') return undefined
  return { pid: Math.abs(Number(pid)), port: Number(port), isReady: status?.trim() === 'ready' }
}

/** True while that process is this cluster's server; false for a dead one, a zombie, another program. */
export async function isPostmaster(pid: number, cluster: string): Promise<boolean> {
  if (process.platform !== 'linux') {
    const { ok, output } = await run('ps', ['-ww', '-o', 'command=', '-p', String(pid)])
    return ok && `${output} `.includes(`postgres -D ${cluster} `)
  }
  try {
    const [program = '', flag, directory] = (await fs.readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
    if (basename(program) !== 'postgres' || flag !== '-D') return false
    // Its working directory, where we may see it: right also after the checkout was moved or copied.
    return (await fs.readlink(`/proc/${pid}/cwd`).catch(() => directory)) === cluster
  } catch {
    return false
  }
}

/**
 * Removes a file that would keep PostgreSQL from starting although no server runs: its pid is another
 * program's, or a zombie, or was never written. Should a server be there after all, PostgreSQL still refuses
 * a second one by its shared memory.
 */
export async function removeStalePidFile(cluster: string): Promise<void> {
  const judged = await findPostmaster(cluster)
  if (judged !== undefined && (await isPostmaster(judged.pid, cluster))) return
  const file = pidFileOf(cluster)
  try {
    // Without a pause between the last look and the removal: a twin may have started a server meanwhile.
    const text = readFileSync(file, 'utf8')
    const isStale =
      judged === undefined
        ? text === '' && Date.now() - statSync(file).mtimeMs > emptyFileAgeMs
        : Math.abs(Number.parseInt(text)) === judged.pid && isAlive(judged.pid)
    if (isStale) unlinkSync(file)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
  }
}

// A dead pid's file PostgreSQL removes by itself, more carefully than we could.
function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return codeOf(error) !== 'ESRCH'
  }
}

function pidFileOf(cluster: string): string {
  return join(cluster, 'postmaster.pid')
}

export interface Launched {
  pid: number | undefined
  hasEnded(): boolean
  /** Once ended: returns when a twin, a dying predecessor or a taken port was in the way, else throws. */
  throwUnlessTransient(): Promise<void>
}

export async function launchPostmaster(
  place: Place,
  postgres: string,
  settings: Record<string, string>,
): Promise<Launched> {
  const port = await findFreePort()
  const values = Object.entries({ ...settings, port: String(port) })
  const log = await openLog(place.logFile)
  const logStart = (await log.stat()).size
  const child = spawn(
    postgres,
    ['-D', place.cluster, ...values.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    // A session of its own: Ctrl-C in our terminal is for us, who then stop it in order.
    { ...childSurroundings, ...place.user, detached: true, stdio: ['ignore', log.fd, log.fd] },
  )
  let end: string | undefined
  child.once('error', (error) => (end = error.message))
  child.once('exit', (code, signal) => (end ??= signal ?? `exit code ${code ?? 'unknown'}`))
  child.unref()
  await log.close()

  return {
    pid: child.pid,
    hasEnded: () => end !== undefined,
    async throwUnlessTransient() {
      const lines = await lastLogLines(place.logFile, logStart)
      const own = lines.split('\n').filter((line) => line.includes(`[${child.pid ?? 'none'}]`))
      if (own.some((line) => transient.test(line))) return
      throw new EmbeddedPostgresError(
        `PostgreSQL ended while starting (${end ?? 'unknown'}). The end of its log, ${place.logFile}:\n${lines}`,
      )
    },
  }
}

const transient =
  /lock file "postmaster.pid" (already exists|is empty)|pre-existing shared memory block|could not create any TCP\/IP sockets/

async function findFreePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no loopback port')
  return address.port
}

async function openLog(file: string): Promise<fs.FileHandle> {
  const found = await fs.stat(file).catch(() => undefined)
  if (found !== undefined && found.size > logBytesMax) await fs.rename(file, `${file}.old`)
  return fs.open(file, 'a', 0o600)
}

export async function lastLogLines(file: string, start = 0): Promise<string> {
  const text = (await fs.readFile(file).catch(() => Buffer.alloc(0))).subarray(start).toString()
  return text.trim().split('\n').slice(-logLinesShown).join('\n')
}

/** Fast shutdown, also of a server that is not our child; returns when it is gone. */
export async function endPostmaster(pid: number, cluster: string): Promise<void> {
  for (const { signal, patienceMs } of stopSignals) {
    if (!(await isPostmaster(pid, cluster))) return
    send(pid, signal)
    const deadline = Date.now() + patienceMs
    while (Date.now() < deadline) {
      if (!(await isPostmaster(pid, cluster))) return
      await sleep(stopPollMs)
    }
  }
  throw new EmbeddedPostgresError(`PostgreSQL (process ${pid}) of ${cluster} does not stop.`)
}

// Fast (ends sessions, saves everything), then immediate (recovers at the next start).
const stopSignals = [
  { signal: 'SIGINT', patienceMs: 10_000 },
  { signal: 'SIGQUIT', patienceMs: 5000 },
] as const
const stopPollMs = 10

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error
  }
}
