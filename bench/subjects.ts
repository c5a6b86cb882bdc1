/** What is measured: a name, a process, and the requests that make it stream one answer. */
import { mkdtemp, chmod, readFile, rm } from 'node:fs/promises'
import { readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { mintToken } from '../src/auth/tokens.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../src/embedded/postgres.ts'
import type { Sent } from './load.ts'
import { startServer, type Process } from './processes.ts'

export interface Subject {
  name: string
  process: Process
  /** One answer of so many tokens for each stream and turn. What has to exist before is made here, unmeasured. */
  prepare(streams: number, turns: number, prompt: string): Promise<Sent[][]>
}

export const json = { 'content-type': 'application/json' }

/** A server that is asked `{"content"}` at /chat. */
export async function startPeer(name: string, upstreamUrl: string): Promise<Subject> {
  const process = await startServer(`servers/${name}.ts`, { UPSTREAM: upstreamUrl, NODE_ENV: 'production' })
  const sent = (content: string): Sent => ({
    method: 'POST',
    path: '/chat',
    headers: json,
    body: JSON.stringify({ content }),
  })
  return {
    name,
    process,
    prepare: async (streams, turns, prompt) =>
      Array.from({ length: streams }, () => Array.from({ length: turns }, () => sent(prompt))),
  }
}

/** The upstream itself: what a client sees with nothing in between. */
export function direct(upstream: Process): Subject {
  const sent = (content: string): Sent => ({
    method: 'POST',
    path: '/api/v1/chat/completions',
    headers: json,
    body: JSON.stringify({ model: 'bench/model', messages: [{ role: 'user', content }], stream: true }),
  })
  return {
    name: 'direct',
    process: upstream,
    prepare: async (streams, turns, prompt) =>
      Array.from({ length: streams }, () => Array.from({ length: turns }, () => sent(prompt))),
  }
}

export interface Rivulet extends Subject {
  /** Sends a question and reads the answer's beginning. @returns how to watch that answer. */
  begin(prompt: string): Promise<Sent>
}

const secret = 'bench-secret-that-is-known-to-all-who-read-this-file'
const base = '/api/chat'

/** What `npm start` tells Node. */
export function startArgs(): string[] {
  const path = join(import.meta.dirname, '..', 'package.json')
  const { scripts } = JSON.parse(readFileSync(path, 'utf8')) as { scripts: { start: string } }
  const [, args = ''] = /node (.*)src\/main\.ts/.exec(scripts.start) ?? []
  return args.split(' ').filter((arg) => arg !== '')
}

export async function startRivulet(
  databaseUrl: string,
  upstreamUrl: string,
  options: { profile?: string | undefined; args?: string[] } = {},
): Promise<Rivulet> {
  const process = await startServer(
    'servers/rivulet.ts',
    {
      UPSTREAM: upstreamUrl,
      BENCH_DATABASE: databaseUrl,
      BENCH_SECRET: secret,
      DATABASE_URL: '',
      NODE_ENV: 'development',
      ...(options.profile !== undefined && { BENCH_PROFILE: options.profile }),
    },
    [...startArgs(), ...(options.args ?? [])],
  )
  const origin = `http://127.0.0.1:${process.port}${base}`
  const headersOf = async (user: string) => ({
    ...json,
    authorization: `Bearer ${await mintToken(secret, { sub: user, hours: 2 })}`,
  })

  async function conversation(headers: Record<string, string>): Promise<string> {
    const made = await fetch(`${origin}/conversations`, { method: 'POST', headers, body: '{}' })
    if (made.status !== 201) throw new Error(`no conversation: ${made.status} ${await made.text()}`)
    return ((await made.json()) as { id: string }).id
  }

  const sent = (id: string, headers: Record<string, string>, content: string): Sent => ({
    method: 'POST',
    path: `${base}/conversations/${id}/messages`,
    headers,
    body: JSON.stringify({ content, stream: true }),
  })

  return {
    name: 'rivulet',
    process,
    async prepare(streams, turns, prompt) {
      const prepared: Sent[][] = []
      for (let stream = 0; stream < streams; stream++) {
        const headers = await headersOf(`user-${stream}`)
        const ids = await Promise.all(Array.from({ length: turns }, () => conversation(headers)))
        prepared.push(ids.map((id) => sent(id, headers, prompt)))
      }
      return prepared
    },
    async begin(prompt) {
      const headers = await headersOf('user-0')
      const { path, body } = sent(await conversation(headers), headers, prompt)
      const answer = await fetch(`http://127.0.0.1:${process.port}${path}`, {
        method: 'POST',
        headers,
        body: body ?? '',
      })
      const location = answer.headers.get('content-location')
      if (location === null) throw new Error(`no answer: ${answer.status} ${await answer.text()}`)
      // The answer goes on without us: that is what is measured.
      await answer.body?.cancel()
      return { method: 'GET', path: location, headers }
    },
  }
}

export interface Postgres extends EmbeddedPostgres {
  /** user and system, µs, of all its processes since it started */
  cpuUs(): number
  /** that wrote something, since it was made */
  transactions(): Promise<number>
}

/** The embedded PostgreSQL with its own defaults: every commit is on the disk before it is acknowledged. */
export async function startPostgres(): Promise<Postgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'rivulet-bench-'))
  // As root the server runs as another user, who has to get in.
  await chmod(dataDir, 0o755)
  const server = await startEmbeddedPostgres({ dataDir })
  const pid = Number((await readFile(join(server.directory, 'postmaster.pid'), 'utf8')).split('\n')[0])
  const client = new pg.Client({ connectionString: server.url })
  await client.connect()
  return {
    ...server,
    cpuUs: () => cpuOfTreeUs(pid),
    async transactions() {
      const { rows } = await client.query<{ next: string }>(
        'select pg_snapshot_xmax(pg_current_snapshot())::text as next',
      )
      return Number(rows[0]?.next)
    },
    async stop() {
      await client.end()
      await server.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** A clock tick of /proc, µs (USER_HZ is 100 on every Linux). */
const tickUs = 10_000

/** A process, its living children, and those that it has waited for. NaN where there is no /proc. */
function cpuOfTreeUs(parent: number): number {
  let ticks = 0
  try {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        const fields = stat
          .slice(stat.lastIndexOf(')') + 2)
          .split(' ')
          .map(Number)
        const [ppid = 0] = [fields[1]]
        const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15)
        if (Number(name) === parent) ticks += user + system + childUser + childSystem
        else if (ppid === parent) ticks += user + system
      } catch {
        // It ended while we looked.
      }
    }
  } catch {
    return NaN
  }
  return ticks * tickUs
}
