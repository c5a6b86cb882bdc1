/** A PostgreSQL cluster of a test's own: for what is not a database's but the cluster's, its roles. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { pino } from 'pino'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { endPostmaster, findPostmaster, isPostmaster } from '../../src/embedded/postgres-postmaster.ts'
import { childSurroundings } from '../../src/embedded/postgres-user.ts'

export interface Cluster {
  /** Of its superuser. */
  url: string
  /** A new database: empty, or a copy of `template`. @returns its name */
  create(options?: { template?: string; owner?: string }): Promise<string>
  urlOf(database: string, login?: { user: string; password: string }): string
  /** As the superuser: no wall. */
  sql<T extends object = Record<string, unknown>>(database: string, text: string): Promise<T[]>
  /** Immediate shutdown: what a crash leaves behind. Resolves when the server is gone. */
  crash(): Promise<void>
  /** Starts it again after a crash, on the same port. Resolves when it has recovered. */
  revive(): Promise<void>
  stop(): Promise<void>
}

export async function startCluster(): Promise<Cluster> {
  const dataDir = await mkdtemp(join(tmpdir(), 'rivulet-cluster-'))
  // As root the server runs as another user, who has to get in.
  await chmod(dataDir, 0o755)
  const server = await startEmbeddedPostgres({
    dataDir,
    settings: { fsync: 'off', full_page_writes: 'off', max_connections: '300' },
  })

  function urlOf(database: string, login?: { user: string; password: string }): string {
    const url = new URL(server.url)
    url.pathname = `/${database}`
    if (login !== undefined) Object.assign(url, { username: login.user, password: login.password })
    return url.href
  }

  async function sql<T extends object>(database: string, text: string): Promise<T[]> {
    const client = new pg.Client({ connectionString: urlOf(database) })
    await client.connect()
    try {
      return (await client.query<T>(text)).rows
    } finally {
      await client.end()
    }
  }

  async function crash(): Promise<void> {
    const postmaster = await findPostmaster(server.directory)
    if (postmaster === undefined) throw new Error('there is no server to crash')
    process.kill(postmaster.pid, 'SIGQUIT')
    while (await isPostmaster(postmaster.pid, server.directory)) await delay(10)
  }

  async function revive(): Promise<void> {
    // The command line of the last start, its port included: `program "argument" "argument"`.
    const command = await readFile(join(server.directory, 'postmaster.opts'), 'utf8')
    const [program = ''] = command.split(' "', 1)
    const args = [...command.matchAll(/"([^"]*)"/g)].map(([, argument = '']) => argument)
    const { uid, gid } = await stat(server.directory)
    const user = process.getuid?.() === 0 ? { uid, gid } : {}
    const child = spawn(program, args, { ...childSurroundings, ...user, detached: true, stdio: 'ignore' })
    child.unref()
    for (;;) {
      const found = await findPostmaster(server.directory)
      if (found?.isReady === true && found.pid === child.pid) return
      if (child.exitCode !== null) throw new Error(`PostgreSQL did not start again: ${child.exitCode}`)
      await delay(10)
    }
  }

  return {
    url: server.url,
    urlOf,
    sql,
    crash,
    revive,
    async create({ template = 'template1', owner } = {}) {
      const name = `test_${randomBytes(6).toString('hex')}`
      const owned = owner === undefined ? '' : `owner ${owner}`
      await sql('postgres', `create database ${name} template ${template} ${owned}`)
      return name
    },
    async stop() {
      await server.stop()
      // One that was revived is not the one that was started.
      const revived = await findPostmaster(server.directory)
      if (revived !== undefined) await endPostmaster(revived.pid, server.directory)
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** As an instance opens it, with what it logs. */
export function openDatabase(
  url: string,
  poolMax = 2,
): { database: Database; logs: Record<string, unknown>[] } {
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'trace' },
    { write: (line: string) => logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  return { database: createDatabase({ url, poolMax, log }), logs }
}

/** Migrates, and proves the wall; then it is closed again. */
export async function prepareDatabase(url: string): Promise<Record<string, unknown>[]> {
  const { database, logs } = openDatabase(url)
  try {
    await database.prepare(new AbortController().signal)
    return logs
  } finally {
    await database.close()
  }
}
