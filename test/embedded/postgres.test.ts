import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import postgres from 'postgres'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EmbeddedPostgresError, startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import type { EmbeddedPostgres } from '../../src/embedded/postgres.ts'

const isRoot = process.getuid?.() === 0

let base: string
let dataDir: string
let running: EmbeddedPostgres[]
let clients: postgres.Sql[]
let children: ChildProcess[]

beforeEach(async () => {
  base = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'rivulet-postgres-')))
  await fs.chmod(base, 0o755) // for root: the server's user can enter
  dataDir = join(base, 'data')
  running = []
  clients = []
  children = []
})

afterEach(async () => {
  await Promise.all(clients.map((sql) => sql.end({ timeout: 1 })))
  for (const child of children) await kill(child)
  await Promise.all(running.map((server) => server.stop()))
  const left = await serversIn(base)
  await fs.rm(base, { recursive: true, force: true })
  expect(left).toEqual([])
})

describe('a data directory', () => {
  test('that is new gets a database that knows letters beyond ASCII, durable, in UTC', async () => {
    const notices: string[] = []
    const server = await start({ onNotice: (message) => notices.push(message) })

    const sql = connect(server.url)
    const [row] = await sql`
      select current_database() as name, lower('ÄÖÜ') || upper('привет') as letters,
        to_tsvector('simple', '“hello”—world') @@ 'world' as words,
        current_setting('TimeZone') as zone, current_setting('fsync') as fsync,
        current_setting('data_directory') as directory`
    expect(row).toEqual({
      name: 'rivulet',
      letters: 'äöüПРИВЕТ',
      words: true,
      zone: 'UTC',
      fsync: 'on',
      directory: server.directory,
    })
    expect(server).toMatchObject({ reused: false, directory: join(dataDir, 'postgres') })
    expect(notices).toEqual(['preparing the database for the first time'])
    expect(await modeOf(join(dataDir, 'postgres.json'))).toBe(0o600)
    expect(await modeOf(dataDir)).toBe(isRoot ? 0o710 : 0o700)
  })

  test('keeps its data over a restart, which takes less than a second', async () => {
    const first = await start()
    await store(first, 'kept')
    await first.stop()
    await first.stop()

    const begun = performance.now()
    const second = await start()
    expect(performance.now() - begun).toBeLessThan(1000)
    expect(second.reused).toBe(false)
    expect(await stored(second)).toEqual(['kept'])
  })

  test('is refused without its password', async () => {
    await (await start()).stop()
    const file = join(dataDir, 'postgres.json')
    await fs.writeFile(file, JSON.stringify({ password: 'another' }))
    await expect(start()).rejects.toThrow(/password .* is not the one/)
    await fs.rm(file)
    await expect(start()).rejects.toThrow(/postgres\.json.* is missing/)
    for (const pid of await serversIn(base)) process.kill(pid, 'SIGQUIT')
    await expect.poll(() => serversIn(base)).toEqual([])
  })

  test.runIf(isRoot)(
    'that the server cannot enter has its files elsewhere, and moves with them',
    async () => {
      await fs.chmod(base, 0o700)
      const first = await start()
      try {
        expect(first.directory).toMatch(/^\/var\/lib\/rivulet\/data\/[0-9a-f]{16}$/)
        await store(first, 'kept')
        await first.stop()

        await fs.rename(dataDir, join(base, 'moved'))
        const moved = await start({ dataDir: join(base, 'moved') })
        expect(await stored(moved)).toEqual(['kept'])
        await moved.stop()

        const fresh = await start()
        try {
          expect(fresh.directory).not.toBe(first.directory)
        } finally {
          await fresh.stop()
          await fs.rm(fresh.directory, { recursive: true })
        }
      } finally {
        await fs.rm(first.directory, { recursive: true, force: true })
      }
    },
  )
})

describe('one process', () => {
  test('has a data directory: another start in it, or elsewhere, is refused by name', async () => {
    const server = await start()
    const again = start()
    await expect(again).rejects.toThrow(EmbeddedPostgresError)
    await expect(again).rejects.toThrow(`${dataDir} is in use by another process (rivulet, process`)
    const { outcome } = await startInChild()
    expect(outcome).toMatch(/^refused: .* is in use by another process/)
    await store(server, 'undisturbed')
  })

  test(
    'of five that start at the same moment wins, in a new data directory and in an old one',
    { timeout: 60_000 },
    async () => {
      for (const round of ['new', 'old']) {
        const five = await Promise.all(Array.from({ length: 5 }, startInChild))
        const outcomes = five.map(({ outcome }) => outcome)
        const winners = five.filter(({ outcome }) => outcome.startsWith('won'))
        expect(winners, `${round}: ${outcomes.join('\n')}`).toHaveLength(1)
        const refused = outcomes.filter((outcome) =>
          outcome.includes(`${dataDir} is in use by another process`),
        )
        expect(refused, `${round}: ${outcomes.join('\n')}`).toHaveLength(4)
        for (const { child } of winners) {
          child.stdin?.end()
          await once(child, 'exit')
        }
        expect(await serversIn(base)).toEqual([])
      }
      expect((await fs.readdir(dataDir)).sort()).toEqual(['postgres', 'postgres.json', 'postgres.log'])
    },
  )

  test('still has it after the server restarted itself', async () => {
    const server = await start()
    const holder = () => connect(server.url)<{ pid: number }[]>`
      select pid from pg_locks where locktype = 'advisory' and granted`
    const [before] = await holder()
    if (before === undefined) throw new Error('nobody holds the lock')
    process.kill(before.pid, 'SIGKILL')

    const isHeldAnew = () =>
      holder().then(
        ([now]) => now !== undefined && now.pid !== before.pid,
        () => false,
      )
    await expect.poll(isHeldAnew, { timeout: 10_000 }).toBe(true)
    await expect(start()).rejects.toThrow('is in use by another process')
  })
})

describe('after kill -9', () => {
  test('of the process, the next one takes the server over with all that was committed', async () => {
    const { child, outcome } = await startInChild()
    const url = outcome.replace('won ', '')
    await store({ url }, 'committed')
    const [pid] = await serversIn(base)
    await kill(child)

    const server = await start()
    expect(server.reused).toBe(true)
    expect(server.url).toBe(url)
    expect(await serversIn(base)).toEqual([pid])
    expect(await stored(server)).toEqual(['committed'])
    await server.stop()
    expect(await serversIn(base)).toEqual([])
  })

  test('of the server, the next start recovers', async () => {
    const first = await start()
    await store(first, 'committed')
    const [pid] = await serversIn(base)
    process.kill(pid ?? Number.NaN, 'SIGKILL')

    const second = await start()
    expect(second.reused).toBe(false)
    expect(await stored(second)).toEqual(['committed'])
    await first.stop()
    expect(await stored(second)).toEqual(['committed'])
  })

  test("of the server, another program's having its pid by now does not matter", async () => {
    const first = await start()
    const pidFile = join(first.directory, 'postmaster.pid')
    const [, ...rest] = (await fs.readFile(pidFile, 'utf8')).split('\n')
    await first.stop()
    const { uid, gid } = await fs.stat(first.directory)
    const other = spawn('sleep', ['60'], { uid, gid, cwd: '/' })
    children.push(other)
    await fs.writeFile(pidFile, [String(other.pid), ...rest].join('\n'))
    await fs.chown(pidFile, uid, gid)

    expect((await start()).reused).toBe(false)
    expect(other.exitCode).toBe(null)
  })
})

test('a server that cannot start says why, and where its log is', async () => {
  await expect(start({ settings: { shared_buffers: 'many' } })).rejects.toThrow(
    /PostgreSQL ended while starting .*shared_buffers/s,
  )
  await expect(start({ settings: { shared_buffers: 'many' } })).rejects.toThrow(join(dataDir, 'postgres.log'))
  expect((await start({ settings: { fsync: 'off' } })).reused).toBe(false)
})

test('what people wrote never reaches the log', async () => {
  const server = await start()
  const sql = connect(server.url)
  await store(server, 'canary')
  await expect(sql`select 'canary'::text::int`).rejects.toThrow('canary')
  await expect(sql`insert into kept values ('canary')`).rejects.toThrow('duplicate key')
  await server.stop()
  expect(await fs.readFile(join(dataDir, 'postgres.log'), 'utf8')).not.toContain('canary')
})

test('a process that forgets to stop can end, and the next one takes over', async () => {
  const child = node(`await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} })`)
  const [code] = (await once(child, 'exit')) as [number | null]
  expect(code).toBe(0)
  expect((await start()).reused).toBe(true)
})

async function start(options: Partial<Parameters<typeof startEmbeddedPostgres>[0]> = {}) {
  const server = await startEmbeddedPostgres({ dataDir, ...options })
  running.push(server)
  return server
}

function connect(url: string): postgres.Sql {
  const sql = postgres(url, { max: 1, onnotice: () => undefined })
  clients.push(sql)
  return sql
}

async function store({ url }: { url: string }, text: string): Promise<void> {
  const sql = connect(url)
  await sql`create table if not exists kept (text text primary key)`
  await sql`insert into kept values (${text})`
}

async function stored({ url }: { url: string }): Promise<string[]> {
  const rows = await connect(url)<{ text: string }[]>`select text from kept order by text`
  return rows.map((row) => row.text)
}

/** A process that starts, says how that went, and stops when its stdin ends. */
async function startInChild(): Promise<{ child: ChildProcess; outcome: string }> {
  const child = node(`
    try {
      const server = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} })
      console.log('won ' + server.url)
      for await (const _ of process.stdin);
      await server.stop()
    } catch (error) {
      console.log('refused: ' + error.message)
    }`)
  if (child.stdout === null) throw new Error('no stdout')
  const [outcome] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { child, outcome }
}

function node(script: string): ChildProcess {
  const module = new URL('../../src/embedded/postgres.ts', import.meta.url).href
  const child = spawn(
    process.execPath,
    ['--input-type=module', '--eval', `import { startEmbeddedPostgres } from '${module}'\n${script}`],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  children.push(child)
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

async function modeOf(path: string): Promise<number> {
  return (await fs.stat(path)).mode & 0o777
}

/** The pids of PostgreSQL servers with their files under a directory. */
async function serversIn(directory: string): Promise<number[]> {
  const ps = spawn('ps', ['-A', '-ww', '-o', 'pid=,args='])
  const found: number[] = []
  for await (const line of createInterface(ps.stdout)) {
    const [, pid, path] = /^\s*(\d+) \S*postgres -D (\S+)/.exec(line) ?? []
    if (path?.startsWith(`${directory}/`) === true) found.push(Number(pid))
  }
  return found
}
