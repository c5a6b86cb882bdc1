/** One embedded PostgreSQL for the whole run, and a migrated template that every test file clones. */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import postgres from 'postgres'
import type { TestProject } from 'vitest/node'
import { createDatabase } from '../../src/db/database.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Its path names no database that a test should write to. */
    postgresUrl: string
  }
}

export const templateName = 'rivulet_template'

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), 'rivulet-test-'))
  // As root the server runs as another user, who has to get in.
  await chmod(dataDir, 0o755)
  const server = await startEmbeddedPostgres({
    dataDir,
    settings: { fsync: 'off', full_page_writes: 'off', max_connections: '300' },
  })
  const template = new URL(server.url)
  template.pathname = `/${templateName}`
  const admin = postgres(server.url, { max: 1, onnotice: () => undefined })
  await admin.unsafe(`create database ${templateName}`)
  await admin.end()
  const database = createDatabase({ url: template.href, poolMax: 1, log: pino({ level: 'silent' }) })
  await database.prepare(new AbortController().signal)
  await database.close()
  project.provide('postgresUrl', server.url)
  return async () => {
    await server.stop()
    await rm(dataDir, { recursive: true, force: true })
  }
}
