/** A PostgreSQL cluster of a test's own: for what is not a database's but the cluster's, its roles. */
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { createDatabase, type Database } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'

export interface Cluster {
  /** Of its superuser. */
  url: string
  /** A new database: empty, or a copy of `template`. @returns its name */
  create(options?: { template?: string; owner?: string }): Promise<string>
  urlOf(database: string, login?: { user: string; password: string }): string
  /** As the superuser: no wall. */
  sql<T extends object = Record<string, unknown>>(database: string, text: string): Promise<T[]>
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

  return {
    url: server.url,
    urlOf,
    sql,
    async create({ template = 'template1', owner } = {}) {
      const name = `test_${randomBytes(6).toString('hex')}`
      const owned = owner === undefined ? '' : `owner ${owner}`
      await sql('postgres', `create database ${name} template ${template} ${owned}`)
      return name
    },
    async stop() {
      await server.stop()
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
