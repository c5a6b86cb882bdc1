/** What is measured: a server that is started, any number of times, over a database of its own, and how it is asked to send. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { startArgs } from '../subjects.ts'
import type { DialectName } from './dialects.ts'
import { startInstance, type Instance } from './processes.ts'

export const secret = 'bench-secret-that-is-known-to-all-who-read-this-file'

export interface Request {
  path: string
  body: string
}

export interface Subject {
  name: string
  dialect: DialectName
  /** Its notifications, as PostgreSQL knows them. */
  table: string
  start(options: { databaseUrl: string; port?: number; args?: string[] }): Promise<Instance>
  /** A notification to one, stored and sent. @param sentUs names it */
  send: (user: number, sentUs: number) => Request
  /** The same to many. */
  bulk: (users: readonly number[], sentUs: number) => Request
  /** To everyone who ever connected, stored. */
  broadcast: (sentUs: number) => Request
  /** Volatile, to all who are there, or to those named, with so much more in it. */
  emit: (sentUs: number, to?: { users: readonly number[]; fillBytes: number }) => Request
}

const said = (sentUs: number) => ({
  title: 'Your assessment is ready',
  body: 'We have looked at your answers and wrote down what they say about you. Have a look, and ask what you like.',
  data: { sent_at_us: sentUs, order_id: '0198c0de-0000-7000-8000-000000000000', stage: 'ready' },
})
const nameOf = (user: number) => `user-${user}`
const fill = (bytes: number) => ({ fill: 'x'.repeat(bytes) })

export const rivulet: Subject = {
  name: 'rivulet',
  dialect: 'rivulet',
  table: 'chat.notifications',
  start: ({ databaseUrl, port = 0, args = [] }) =>
    startInstance(
      'servers/rivulet-realtime.ts',
      { ...environment(databaseUrl, port), DATABASE_URL: '', REDIS_URL: '', NODE_ENV: 'development' },
      [...startArgs(), ...args],
    ),
  send: (user, sentUs) => internal('/notifications', { user_id: nameOf(user), ...announcement(sentUs) }),
  bulk: (users, sentUs) =>
    internal('/notifications/bulk', { user_ids: users.map(nameOf), ...announcement(sentUs) }),
  broadcast: (sentUs) => internal('/notifications/broadcast', announcement(sentUs)),
  emit: (sentUs, to) =>
    internal('/realtime/emit', {
      ...(to === undefined ? { all: true } : { users: to.users.map(nameOf) }),
      type: 'bench',
      data: { sent_at_us: sentUs, ...(to && fill(to.fillBytes)) },
    }),
}

const announcement = (sentUs: number) => ({ type: 'announcement', channels: ['in_app'], ...said(sentUs) })
const internal = (path: string, body: unknown): Request => ({
  path: `/api/chat/internal${path}`,
  body: JSON.stringify(body),
})

export const socketio: Subject = {
  name: 'socket.io',
  dialect: 'socket.io',
  table: 'bench.notifications',
  start: ({ databaseUrl, port = 0, args = [] }) =>
    startInstance(
      'realtime/socketio-server.ts',
      { ...environment(databaseUrl, port), NODE_ENV: 'production' },
      args,
    ),
  send: (user, sentUs) => plain('/notifications', { user_id: nameOf(user), ...said(sentUs) }),
  bulk: (users, sentUs) => plain('/notifications/bulk', { user_ids: users.map(nameOf), ...said(sentUs) }),
  broadcast: (sentUs) => plain('/notifications/broadcast', said(sentUs)),
  emit: (sentUs, to) =>
    plain('/emit', {
      ...(to && { users: to.users.map(nameOf) }),
      data: { sent_at_us: sentUs, ...(to && fill(to.fillBytes)) },
    }),
}

/** The same, asked for what is stored behind the highest id that a client has seen. */
export const socketioReplaying: Subject = {
  ...socketio,
  name: 'socket.io + replay by id',
  start: ({ databaseUrl, port = 0, args = [] }) =>
    startInstance(
      'realtime/socketio-server.ts',
      { ...environment(databaseUrl, port), NODE_ENV: 'production', BENCH_REPLAY: 'true' },
      args,
    ),
}

const plain = (path: string, body: unknown): Request => ({ path, body: JSON.stringify(body) })

const environment = (databaseUrl: string, port: number) => ({
  BENCH_DATABASE: databaseUrl,
  BENCH_PORT: String(port),
  BENCH_SECRET: secret,
})

export interface Database extends AsyncDisposable {
  url: string
  client: pg.Client
}

/** An empty one in this cluster, gone with its user. */
export async function createDatabase(clusterUrl: string): Promise<Database> {
  const name = `bench_${randomBytes(6).toString('hex')}`
  const ask = async (statement: string) => {
    const admin = new pg.Client({ connectionString: clusterUrl })
    await admin.connect()
    await admin.query(statement)
    await admin.end()
  }
  await ask(`create database ${name}`)
  const url = new URL(clusterUrl)
  url.pathname = `/${name}`
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  return {
    url: url.href,
    client,
    async [Symbol.asyncDispose]() {
      await client.end()
      await ask(`drop database ${name} with (force)`)
    },
  }
}
