/** A PostgreSQL that crashes and comes back at the same address, with the settings of a server whose data matters. */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findPostmaster, isPostmaster } from '../../src/embedded/postgres-postmaster.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { prepareDatabase } from '../support/cluster.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

export interface CrashingPostgres {
  /** Of a migrated database, as its superuser; the same before and after a crash. */
  url: string
  /** Ends it as `pg_ctl stop -m immediate` does, and starts it again. @returns from when to when it was away, epoch ms */
  crash(awayMs: number): Promise<{ goneAt: number; backAt: number }>
  stop: () => Promise<void>
}

export async function startCrashingPostgres(): Promise<CrashingPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'rivulet-soak-'))
  // As root the server runs as another user, who has to get in.
  await chmod(dataDir, 0o755)
  const start = () => startEmbeddedPostgres({ dataDir, settings: { max_connections: '300' } })
  let server = await start()
  await prepareDatabase(server.url)
  // It starts on any free port: its clients know only the proxy's.
  let proxy = await startTcpProxy(server.url)
  let crashing: Promise<{ goneAt: number; backAt: number }> | undefined

  async function crash(awayMs: number): Promise<{ goneAt: number; backAt: number }> {
    await crashPostgres(server.directory)
    const goneAt = Date.now()
    await proxy.refuse()
    await delay(awayMs)
    server = await start()
    proxy = await startTcpProxy(server.url, proxy.port)
    return { goneAt, backAt: Date.now() }
  }

  return {
    url: proxy.url,
    crash: (awayMs) => (crashing = crash(awayMs)),
    async stop() {
      await crashing?.catch(() => undefined)
      await proxy.close()
      await server.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** An immediate shutdown of the server of this cluster, if one runs. Returns when it is gone. */
export async function crashPostgres(directory: string): Promise<void> {
  const found = await findPostmaster(directory)
  if (found === undefined || !(await isPostmaster(found.pid, directory))) return
  process.kill(found.pid, 'SIGQUIT')
  while (await isPostmaster(found.pid, directory)) await delay(10)
}
