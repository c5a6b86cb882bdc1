// Which process a cluster belongs to: the one whose session holds an advisory lock in it. When that process
// dies, by kill -9 too, the kernel closes the session and the lock is free; no file is left to be wrong.
//
// held → lost (the server restarted itself after a crashed backend) → held again, or given up: the server is
// gone, or another process was faster. `release` ends it from any state. The session does not keep the event
// loop alive.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
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
  whenTaken: (session: pg.Client) => Promise<void>
  onNotice: (message: string) => void
}

const lockKey = 7_483_650

// A killed holder's session ends when its backend reads the closed socket: milliseconds, more on a busy machine.
const patienceMs = 1000
const patiencePollMs = 25

const connectTimeoutMs = 5_000

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
      await session.end()
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
        await found.end()
        return
      }
      session = found
      state = 'held'
    }
  }
}

// A session that holds the lock. `onLost` is called when it closes, also by our own hand.
async function openSession(options: LockOptions, onLost: () => void): Promise<pg.Client | undefined> {
  let isHeld = false
  const session = new pg.Client({
    connectionString: options.url,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: `rivulet, process ${process.pid}`,
  })
  session.on('error', () => {
    // Told by the rejection before the session is open, by 'end' after.
  })
  session.on('end', () => {
    if (isHeld) onLost()
  })
  try {
    await session.connect()
    const holder = await tryLock(session)
    if (holder !== undefined) {
      throw new EmbeddedPostgresError(
        `${options.dataDir} is in use by another process (${holder}): there can be one for each data ` +
          'directory. Stop that one, or set DATA_DIR to another directory, or set DATABASE_URL.',
      )
    }
    await options.whenTaken(session)
  } catch (error) {
    await session.end().catch(() => undefined)
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
  // The driver has it, its types do not.
  ;(session as unknown as { unref(): void }).unref()
  return session
}

/** Undefined when taken, else who has it. */
async function tryLock(session: pg.Client): Promise<string | undefined> {
  const deadline = Date.now() + patienceMs
  for (;;) {
    const { rows } = await session.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [
      lockKey,
    ])
    if (rows[0]?.taken === true) return undefined
    if (Date.now() > deadline) break
    await sleep(patiencePollMs)
  }
  const { rows } = await session.query<{ name: string }>(
    `select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.objid = $1 and l.granted`,
    [lockKey],
  )
  return rows[0]?.name ?? 'unknown'
}

// Starting, recovering or stopping (57P03, 57P01), or not listening: states that pass.
function isNotReady(error: unknown): boolean {
  if (/^(57P0[123]|ECONN\w+|EPIPE)$/.test(codeOf(error) ?? '')) return true
  // The driver's own words, which have no code.
  return error instanceof Error && /^(timeout expired|Connection terminated)/.test(error.message)
}
