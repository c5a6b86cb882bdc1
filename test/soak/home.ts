/** An installation: `src/main.ts` with a data directory of its own, started and stopped like a service. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crashPostgres } from './crashing-postgres.ts'
import { soakEnv, soakSecret, type Instance, type World } from './world.ts'

export interface Home {
  start(): Promise<Instance>
  /** SIGTERM. @returns the exit code */
  stop(): Promise<number | null>
  close: () => Promise<void>
}

/** @param graceMs what running answers get at a stop; default: the product's. */
export async function createHome(world: World, graceMs: number | undefined): Promise<Home> {
  const directory = await mkdtemp(join(tmpdir(), 'rivulet-soak-home-'))
  // As root the database runs as another user, who has to get in.
  await chmod(directory, 0o755)
  const dataDir = join(directory, 'data')
  let child: ChildProcess | undefined
  let gone: Promise<number | null> = Promise.resolve(null)
  let closed = false

  return {
    async start() {
      if (closed) throw new Error('the installation is gone')
      const service = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
        // Nothing of this environment, and no .env of the working directory, decides how it runs.
        cwd: directory,
        env: {
          PATH: process.env['PATH'],
          ...soakEnv,
          PORT: '0',
          DATA_DIR: dataDir,
          LOG_LEVEL: 'error',
          JWT_SECRET: soakSecret,
          OPENROUTER_BASE_URL: world.upstreamUrl,
          OPENROUTER_API_KEY: 'test',
          ...(graceMs !== undefined && { SHUTDOWN_GRACE_MS: String(graceMs) }),
        },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      child = service
      gone = once(service, 'exit').then(([code]) => code as number | null)
      let said = ''
      const origin = await new Promise<string>((resolve, reject) => {
        service.stdout.on('data', (bytes: Buffer) => {
          said += bytes.toString()
          const [, found] = /listens on (http:\S+)/.exec(said) ?? []
          if (found !== undefined) resolve(found)
        })
        void gone.then((code) => reject(new Error(`it did not start, ${String(code)}: ${said}`)))
      })
      return {
        origin,
        gone,
        async kill() {
          service.kill('SIGKILL')
          await gone
        },
      }
    },
    async stop() {
      child?.kill('SIGTERM')
      return gone
    },
    async close() {
      closed = true
      child?.kill('SIGKILL')
      await gone
      // A process that was killed leaves its database running.
      await crashPostgres(join(dataDir, 'postgres'))
      await rm(directory, { recursive: true, force: true })
    },
  }
}
