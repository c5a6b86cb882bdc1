// Which process a cluster belongs to: the one whose session holds an advisory lock in it. When that process
// dies, by kill -9 too, the kernel closes the session and the lock is free; no file is left to be wrong.
//
// held → lost (the server restarted itself after a crashed backend) → held again, or given up: the server is
// gone, or another process was faster. `release` ends it from any state. The session does not keep the event
// loop alive.

import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { codeOf } from './postgres-files.ts'
import { EmbeddedPostgresError } from './postgres-user.ts'

export interface Lock {
  /** false once a lost lock was taken by another process: the cluster is theirs */
  isOurs(): boolean
  release(): Promise<void>
}

export interface LockOptions {
  dataDir: string
  url: string
  /** false ends the attempts to regain a lost lock: nobody else's program on that port is sent our password */
  isServerOurs: () => Promise<boolean>
  /** runs under the lock before it counts as taken */
  whenTaken: (session: postgres.Sql) => Promise<void>
  onNotice: (message: string) => void
}

const lockKey = 7_483_650

// A killed holder's session ends when its backend reads the closed socket: milliseconds, more on a busy machine.
const patienceMs = 1000
const patiencePollMs = 25

const connectTimeoutS = 5
const endTimeoutS = 1

// A server that restarts itself takes about a second.
const regainMs = 20_000
const regainPollMs = 250

/** Undefined while the server takes no connections; EmbeddedPostgresError when another process has the lock. */
export async function takeLock(options: LockOptions): Promise<Lock | undefined> {
  let state: 'held' | 'lost' | 'taken' | 'released' = 'held'
  const is = (wanted: typeof state) => state === wanted

  const first = await openSession(options, lose)
  if (first === undefined) return undefined
  let session = first
  return {
    isOurs: () => !is('taken'),
    async release() {
      state = 'released'
      await session.end({ timeout: endTimeoutS })
    },
  }

  function lose() {
    if (!is('held')) return
    state = 'lost'
    regain().catch((error: unknown) => {
      if (is('lost')) state = 'taken'
      options.onNotice(error instanceof Error ? error.message : String(error))
    })
  }

  async function regain() {
    const deadline = Date.now() + regainMs
    while (is('lost') && Date.now() < deadline) {
      await sleep(regainPollMs, undefined, { ref: false })
      const found = (await options.isServerOurs()) ? await openSession(options, lose) : undefined
      if (found === undefined) continue
      if (is('released')) {
        await found.end({ timeout: endTimeoutS })
        return
      }
      session = found
      state = 'held'
    }
  }
}

// A session that holds the lock. `onLost` is called when it closes, also by our own hand.
async function openSession(options: LockOptions, onLost: () => void): Promise<postgres.Sql | undefined> {
  const { hostname, port } = new URL(options.url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {
    // Told by `once` before the session is open, by `onclose` after.
  })
  let isHeld = false
  const settings = {
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: connectTimeoutS,
    fetch_types: false,
    connection: { application_name: `rivulet, process ${process.pid}` },
    // Not in the driver's types: the only way to a socket that can be unref'd.
    socket: () => socket,
    onnotice: () => undefined,
    onclose: () => {
      if (isHeld) onLost()
    },
  }
  const sql = postgres(options.url, settings)
  try {
    await once(socket, 'connect')
    const holder = await tryLock(sql)
    if (holder !== undefined) {
      throw new EmbeddedPostgresError(
        `${options.dataDir} is in use by another process (${holder}): there can be one for each data ` +
          'directory. Stop that one, or set DATA_DIR to another directory, or set DATABASE_URL.',
      )
    }
    await options.whenTaken(sql)
  } catch (error) {
    await sql.end({ timeout: 0 })
    socket.destroy()
    if (isNotReady(error)) return undefined
    if (codeOf(error) !== '28P01') throw error
    throw new EmbeddedPostgresError(
      `The password in ${options.dataDir}/postgres.json is not the one of the database there. ` +
        'Put the right file back, or delete the directory to begin with an empty database.',
      { cause: error },
    )
  }
  isHeld = true
  // Last: while something is awaited on it, it must keep the process alive.
  socket.unref()
  return sql
}

/** Undefined when taken, else who has it. */
async function tryLock(sql: postgres.Sql): Promise<string | undefined> {
  const deadline = Date.now() + patienceMs
  for (;;) {
    const [attempt] = await sql<{ taken: boolean }[]>`select pg_try_advisory_lock(${lockKey}) as taken`
    if (attempt?.taken === true) return undefined
    if (Date.now() > deadline) break
    await sleep(patiencePollMs)
  }
  const [holder] = await sql<{ name: string }[]>`
    select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
    where l.locktype = 'advisory' and l.objid = ${lockKey} and l.granted`
  return holder?.name ?? 'unknown'
}

// Starting, recovering or stopping (57P03, 57P01), or not listening: states that pass.
function isNotReady(error: unknown): boolean {
  return /^(57P0[123]|ECONN\w+|EPIPE|CONNECT\w+)$/.test(codeOf(error) ?? '')
}
