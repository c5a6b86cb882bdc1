// The embedded PostgreSQL: a real server on a loopback port, for a laptop, a demo and the tests.
//
// absent → (files made) → starting → running, ours → stopping → absent.
//
// The server is a process of its own that outlives its parent: after kill -9 of ours, the next start finds it
// by its `postmaster.pid` and takes it over; after kill -9 of the server, the next start recovers it. Every
// start, ours or a twin's, looks at that file again and again until a server there is ready, and starts one
// whenever there is none: PostgreSQL's own locks let one server through, and a lock inside it one process.
// A running server is never ended but by `stop` of the process that holds it.
//
// Processes must see each other: a data directory shared by two containers or machines is not protected.

import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { exists, initCluster, openPlace } from './postgres-files.ts'
import type { Place } from './postgres-files.ts'
import { takeLock } from './postgres-lock.ts'
import { endPostmaster, findPostmaster, isPostmaster, lastLogLines } from './postgres-postmaster.ts'
import { launchPostmaster, removeStalePidFile } from './postgres-postmaster.ts'
import type { Launched, Postmaster } from './postgres-postmaster.ts'
import { locateProgram } from './postgres-program.ts'
import type { Program } from './postgres-program.ts'
import { EmbeddedPostgresError } from './postgres-user.ts'

export { EmbeddedPostgresError } from './postgres-user.ts'

export interface EmbeddedPostgres {
  /** postgres://…@127.0.0.1:<port>/rivulet, a superuser of its own cluster */
  url: string
  /** where its files are */
  directory: string
  /** true when a server that outlived its parent was found and taken over */
  reused: boolean
  /** Resolves when the server is gone; idempotent. */
  stop(): Promise<void>
}

export interface EmbeddedPostgresOptions {
  /** e.g. <checkout>/.rivulet; made when missing, readable by us alone */
  dataDir: string
  /** further server settings; a server that is taken over keeps those it was started with */
  settings?: Record<string, string>
  /** progress for the person waiting */
  onNotice?: (message: string) => void
}

// For starting, recovering or stopping; recovery after a crash replays at most a few checkpoints' worth of log.
const startMs = 20_000
const pollMs = 10
const slowMs = 1500

// What people wrote must not reach a log file. An error's text quotes the value it is about, so errors go to
// whoever caused them and nowhere else; a crash's details quote the statement.
const defaults = {
  log_line_prefix: '%m [%p] ',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '100',
  shared_buffers: '64MB',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  log_checkpoints: 'off',
}

/** Throws EmbeddedPostgresError, whose message is meant for the person who started us. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir)
  try {
    return await start(dataDir, { ...defaults, ...options.settings }, options.onNotice ?? (() => undefined))
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL of ${dataDir} could not be started: ${reason}. ` +
        'Mend this, or set DATABASE_URL to a PostgreSQL server.',
      { cause: error },
    )
  }
}

type Settings = Record<string, string>
type Notice = (message: string) => void

async function start(dataDir: string, settings: Settings, onNotice: Notice): Promise<EmbeddedPostgres> {
  const place = await openPlace(dataDir)
  let program: Program | undefined
  let launched: Launched | undefined
  let begunAt = Date.now()
  let isSlow = false

  for (;;) {
    const found = await findPostmaster(place.cluster)
    if (found !== undefined && (await isPostmaster(found.pid, place.cluster))) {
      const isReused = launched?.pid !== found.pid
      const claimed = found.isReady ? await claim(place, found, isReused, onNotice) : undefined
      if (claimed !== undefined) return claimed
    } else if (launched === undefined || launched.hasEnded()) {
      await launched?.throwUnlessTransient()
      if (program === undefined) {
        program = await prepare(place, settings, onNotice)
        begunAt = Date.now()
      }
      await removeStalePidFile(place.cluster)
      launched = await launchPostmaster(place, program.postgres, settings)
    }

    const waitedMs = Date.now() - begunAt
    if (waitedMs > startMs) {
      throw new EmbeddedPostgresError(
        `PostgreSQL in ${place.cluster} is not ready after ${startMs / 1000} s; it may still be recovering. ` +
          `Try again, or look into ${place.logFile}:\n${await lastLogLines(place.logFile)}`,
      )
    }
    if (waitedMs > slowMs && !isSlow) {
      isSlow = true
      onNotice('waiting for PostgreSQL, which is still starting, recovering or stopping')
    }
    await sleep(pollMs)
  }
}

async function prepare(place: Place, settings: Settings, onNotice: Notice): Promise<Program> {
  const program = await locateProgram(place, onNotice)
  if (!(await exists(place.cluster))) {
    onNotice('preparing the database for the first time')
    await initCluster(place, program.initdb, settings['fsync'] !== 'off')
  }
  return program
}

/** Makes a ready server ours; undefined when it stopped being ready meanwhile. */
async function claim(
  place: Place,
  { pid, port }: Postmaster,
  isReused: boolean,
  onNotice: Notice,
): Promise<EmbeddedPostgres | undefined> {
  const urlOf = (database: string) => `postgres://rivulet:${place.password}@127.0.0.1:${port}/${database}`
  let stopping: Promise<void> | undefined
  const lock = await takeLock({
    dataDir: place.dataDir,
    url: urlOf('postgres'), // not the database itself: the lock's session would be in the way of dropping it
    whenTaken: createDatabase,
    isServerOurs: async () => stopping === undefined && (await isPostmaster(pid, place.cluster)),
    onNotice,
  })
  if (lock === undefined) return undefined
  return {
    url: urlOf('rivulet'),
    directory: place.cluster,
    reused: isReused,
    stop: () => (stopping ??= stop()),
  }

  // The lock is held to the end: somebody who got it from a stopping server would be left without one.
  async function stop() {
    if (lock?.isOurs() === true) await endPostmaster(pid, place.cluster)
    await lock?.release()
  }
}

async function createDatabase(session: Client): Promise<void> {
  const found = await session.query(`select 1 from pg_database where datname = 'rivulet'`)
  if (found.rows.length === 0) await session.query('create database rivulet')
}
