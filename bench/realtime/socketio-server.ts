/**
 * What people build with socket.io for the same job, as its documentation recommends it: a token at the handshake, a room
 * for each user, connection state recovery, WebSocket only, no compression, the first HTTP request not kept. A
 * notification is inserted into PostgreSQL, answered, and emitted to its user's room.
 *
 * With BENCH_REPLAY it also does what socket.io's tutorial adds: whoever comes back and could not be recovered gets what
 * has a higher id than the highest it has seen.
 */
import type { AddressInfo } from 'node:net'
import fastify from 'fastify'
import { jwtVerify } from 'jose'
import pg from 'pg'
import { Server, type DefaultEventsMap } from 'socket.io'
import { tellPort } from '../probe.ts'
import { answerLoop } from './loop.ts'

interface Said {
  title: string
  body: string
  data: Record<string, unknown>
}

const secret = new TextEncoder().encode(process.env['BENCH_SECRET'] ?? '')
const replays = process.env['BENCH_REPLAY'] === 'true'
const pool = new pg.Pool({ connectionString: process.env['BENCH_DATABASE'] ?? '', max: 10 })
await pool.query(`
  create schema if not exists bench;
  create table if not exists bench.users (user_id text primary key);
  create table if not exists bench.notifications (
    id bigint generated always as identity primary key, user_id text not null, title text not null, body text not null,
    data jsonb not null, created_at timestamptz not null default now());
  create index if not exists notifications_by_user on bench.notifications (user_id, id)`)

const app = fastify({ bodyLimit: 4 * 1024 * 1024 })
const io = new Server<DefaultEventsMap, DefaultEventsMap, DefaultEventsMap, { user: string }>(app.server, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  maxHttpBufferSize: 16 * 1024,
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60_000, skipMiddlewares: true },
})
io.engine.on('connection', (socket: { request: unknown }) => {
  socket.request = null
})
io.use((socket, next) => {
  const { token } = socket.handshake.auth as { token?: string }
  jwtVerify(token ?? '', secret, { algorithms: ['HS256'] }).then(
    ({ payload }) => {
      socket.data.user = payload.sub ?? ''
      next()
    },
    () => next(new Error('unauthorized')),
  )
})
io.on('connection', async (socket) => {
  const { user } = socket.data
  await socket.join(`user:${user}`)
  await pool.query('insert into bench.users values ($1) on conflict do nothing', [user])
  if (!replays || socket.recovered) return
  const { highest_id: highestId = 0 } = socket.handshake.auth as { highest_id?: number }
  if (highestId === 0) return
  const { rows } = await pool.query<Said & { id: string }>(
    'select id, title, body, data from bench.notifications where user_id = $1 and id > $2 order by id',
    [user, highestId],
  )
  for (const { id, ...said } of rows) socket.emit('notification', { id: Number(id), ...said })
})

app.addHook('onRequest', async (request, reply) => {
  if (request.headers.authorization !== `Bearer ${process.env['BENCH_SECRET'] ?? ''}`)
    return reply.code(401).send()
  return undefined
})

app.post('/notifications', async (request, reply) => {
  const { user_id: user, title, body, data } = request.body as Said & { user_id: string }
  const { rows } = await pool.query<{ id: string }>(
    'insert into bench.notifications (user_id, title, body, data) values ($1, $2, $3, $4) returning id',
    [user, title, body, data],
  )
  const id = Number(rows[0]?.id)
  io.to(`user:${user}`).emit('notification', { id, title, body, data })
  return reply.code(201).send({ id })
})

app.post('/notifications/bulk', async (request, reply) => {
  const { user_ids: users, title, body, data } = request.body as Said & { user_ids: string[] }
  const { rows } = await pool.query<{ id: string; user_id: string }>(
    `insert into bench.notifications (user_id, title, body, data)
     select u, $2, $3, $4 from unnest($1::text[]) u returning id, user_id`,
    [users, title, body, data],
  )
  for (const { id, user_id: user } of rows)
    io.to(`user:${user}`).emit('notification', { id: Number(id), title, body, data })
  return reply.code(201).send({ sent: rows.length })
})

/** To everyone who ever connected: stored, then emitted once to all. */
app.post('/notifications/broadcast', async (request, reply) => {
  const { title, body, data } = request.body as Said
  await pool.query(
    'insert into bench.notifications (user_id, title, body, data) select user_id, $1, $2, $3 from bench.users',
    [title, body, data],
  )
  io.emit('notification', { title, body, data })
  return reply.code(202).send({})
})

/** Volatile. */
app.post('/emit', async (request, reply) => {
  const { users, data } = request.body as { users?: string[]; data: Record<string, unknown> }
  if (users === undefined) io.volatile.emit('live', { data })
  else io.to(users.map((user) => `user:${user}`)).volatile.emit('live', { data })
  return reply.code(202).send({})
})

process.once('SIGTERM', () => {
  void io
    .close()
    .then(() => pool.end())
    .then(() => process.exit(0))
})
await app.listen({ host: '127.0.0.1', port: Number(process.env['BENCH_PORT'] ?? 0) })
answerLoop()
tellPort((app.server.address() as AddressInfo).port)
