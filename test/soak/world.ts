/** Where a soak happens: a database, instances in processes of their own, and an upstream that does as a case says. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { mintToken } from '../../src/auth/tokens.ts'
import { startDemoModel, type Behaviour, type RecordedRequest } from '../../src/embedded/demo-model.ts'
import { createClient, type Client } from '../support/client.ts'
import { unlimited } from '../support/unlimited.ts'
import type { InstanceSettings } from './instance.ts'

const secret = 'a-secret-of-a-soak-with-more-than-32-characters'

export interface Instance {
  origin: string
  /** Resolves with the exit code when the process is gone; null where a signal ended it. */
  gone: Promise<number | null>
  /** kill -9. Resolves when it is gone. */
  kill(): Promise<void>
}

/** What the upstream was asked under one name. */
export interface Script {
  /** The content of the question that asks for it. */
  content: string
  calls: () => number
  /** The first call, here or still to come. */
  request: Promise<RecordedRequest>
}

export interface World {
  databaseUrl: string
  /** As the superuser: no wall. A value becomes a parameter. */
  sql: <T extends object>(words: TemplateStringsArray, ...values: unknown[]) => Promise<T[]>
  /** A database that is busy: what is flushed or settled meanwhile has to wait, while turns are stored as ever. */
  hold: (ms: number) => Promise<void>
  upstreamUrl: string
  /** Questions that begin with this name are answered so. A name is used once. */
  script(name: string, behaviour: Behaviour): Script
  /** @param program another one than the service: for comparison. */
  start(env?: Record<string, string>, program?: string): Promise<Instance>
  /** Two instances that live as long as the world. */
  pair(): Promise<readonly [Instance, Instance]>
  token(user: string): Promise<string>
  client(instance: { origin: string }, user: string): Promise<Client>
  /** Instances that ended although nobody had ended them. */
  deaths(): readonly string[]
  close(): Promise<void>
}

/** More than any case needs at once. */
export const soakEnv = { ...unlimited, RATE_LIMIT_RUNNING_GENERATIONS: '1000' }

/** @param databaseUrl of a migrated database, as its superuser. */
export async function createWorld(databaseUrl: string): Promise<World> {
  const model = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 3 })
  // A connection that dies while idle is no news: the database may be meant to crash.
  pool.on('error', () => undefined)
  const behaviours = new Map<string, Behaviour>()
  const calls = new Map<string, number>()
  const children = new Set<ChildProcess>()
  const deaths: string[] = []
  let both: Promise<readonly [Instance, Instance]> | undefined

  model.always((request) => {
    const name = nameOf(request)
    calls.set(name, (calls.get(name) ?? 0) + 1)
    return behaviours.get(name)
  })

  async function start(
    env: Record<string, string> = {},
    program = join(import.meta.dirname, 'instance.ts'),
  ): Promise<Instance> {
    const settings: InstanceSettings = {
      databaseUrl,
      upstream: model.baseUrl,
      secret,
      env: { ...soakEnv, ...env },
    }
    const child = spawn(process.execPath, [program, JSON.stringify(settings)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    children.add(child)
    let expected = false
    const gone = once(child, 'exit').then(([code]) => {
      if (children.delete(child) && !expected) deaths.push(`an instance ended by itself: ${String(code)}`)
      return code as number | null
    })
    const [origin] = (await Promise.race([
      once(child.stdout, 'data'),
      gone.then((code) => Promise.reject(new Error(`an instance did not start: ${String(code)}`))),
    ])) as [Buffer]
    return {
      origin: origin.toString().trim(),
      gone,
      async kill() {
        expected = true
        child.kill('SIGKILL')
        await gone
      },
    }
  }

  const token = (user: string) => mintToken(secret, { sub: user, hours: 1 })
  return {
    databaseUrl,
    async sql<T extends object>(words: TemplateStringsArray, ...values: unknown[]) {
      const text = words.reduce((before, after, index) => `${before}$${index}${after}`)
      return (await pool.query<T>(text, values)).rows
    },
    async hold(ms) {
      const client = await pool.connect()
      try {
        await client.query('begin')
        await client.query('lock table chat.generation_chunks in share mode')
        await delay(ms)
        await client.query('commit')
      } finally {
        client.release()
      }
    },
    upstreamUrl: model.baseUrl,
    script(name, behaviour) {
      behaviours.set(name, behaviour)
      return {
        content: `${name} asks`,
        calls: () => calls.get(name) ?? 0,
        request: model.nextRequest(({ body }) => nameOf(body) === name),
      }
    },
    start,
    pair: () => (both ??= Promise.all([start(), start()])),
    token,
    client: async ({ origin }, user) => patient(createClient(origin, await token(user))),
    deaths: () => deaths,
    async close() {
      for (const child of [...children]) {
        children.delete(child)
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
      }
      await model.close()
      await pool.end()
    },
  }
}

export { secret as soakSecret }

/** What a client waits before it asks again, ms, and how often it does. */
const againMs = 200
const againMax = 50

/** As a client does where it is told to come back: 503 is asked again. */
function patient(client: Client): Client {
  const once = client.request.bind(client)
  client.request = async (...args) => {
    for (let tried = 1; ; tried++) {
      const answer = await once(...args)
      if (answer.status !== 503 || tried === againMax) return answer as never
      await delay(againMs)
    }
  }
  return client
}

/** The first word of the newest question; of a welcome, to whom it is one: `This is soak <name>` in the system's words. */
function nameOf({ messages }: RecordedRequest['body']): string {
  for (const { role, content } of messages) {
    const [, welcomed] = /This is soak ([\w-]+)/.exec(role === 'user' ? '' : JSON.stringify(content)) ?? []
    if (welcomed !== undefined) return welcomed
  }
  const question = messages.findLast(({ role }) => role === 'user')?.content
  return typeof question === 'string' ? (question.split(' ')[0] ?? '') : ''
}
