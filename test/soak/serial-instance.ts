/**
 * The control of the inbox's soak: notifications behind a cursor of serial numbers, as many servers have it. Numbers are
 * taken before commits, so a reader may pass one that is not visible yet, and never comes back for it. Speaks what
 * the soak's devices and senders speak; prints its origin, and ends with the process that made it.
 */
import { createServer, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { WebSocketServer, type WebSocket } from 'ws'
import type { InstanceSettings } from './instance.ts'

process.stdin.on('end', () => process.exit(1)).resume()

const { databaseUrl } = JSON.parse(process.argv[2] ?? '{}') as InstanceSettings
const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
pool.on('error', () => undefined)
// Who reads does not wait for those who write.
const reading = new pg.Pool({ connectionString: databaseUrl, max: 2 })
reading.on('error', () => undefined)
await pool
  .query(
    `create table if not exists serial_notifications
       (id bigserial primary key, user_id text, title text, sent_as text unique)`,
  )
  // Two that start at once: the other one has made it.
  .catch(() => undefined)

const userOf = (request: IncomingMessage): string => {
  const [, payload = ''] = (request.headers.authorization ?? '').split('.')
  return (JSON.parse(Buffer.from(payload, 'base64url').toString()) as { sub: string }).sub
}

const server = createServer((request, response) => {
  void (async () => {
    let text = ''
    for await (const part of request) text += String(part)
    if (request.url?.endsWith('/internal/notifications') === true) await store(text, request)
    response.end('{}')
  })().catch(() => response.writeHead(503).end())
})

async function store(text: string, request: IncomingMessage): Promise<void> {
  const { user_id, title } = JSON.parse(text) as { user_id: string; title: string }
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query(
      'insert into serial_notifications (user_id, title, sent_as) values ($1, $2, $3) on conflict do nothing',
      [user_id, title, request.headers['idempotency-key']],
    )
    // What else a transaction does.
    await delay(Math.random() * 30)
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}

const devices = new Map<WebSocket, { user: string; cursor: number; live: boolean }>()
const sockets = new WebSocketServer({ noServer: true })
server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const [, since = '0'] = /cursor=[^.&]*\.(\d+)/.exec(request.url ?? '') ?? []
    devices.set(ws, { user: userOf(request), cursor: Number(since), live: false })
    ws.on('close', () => devices.delete(ws)).on('error', () => undefined)
    ws.send(
      JSON.stringify({
        op: 'hello',
        v: 1,
        epoch: 'serial',
        head: 0,
        unread: 0,
        heartbeat: 25,
        mode: 'resume',
      }),
    )
  })
})

/** What is behind the cursor, for each device, as often as is possible. */
async function follow(): Promise<never> {
  for (;;) {
    for (const [ws, device] of devices) {
      const { rows } = await reading
        .query<{ id: string; title: string }>(
          'select id, title from serial_notifications where user_id = $1 and id > $2 order by id',
          [device.user, device.cursor],
        )
        .catch(() => ({ rows: [] }))
      for (const { id, title } of rows) {
        const seq = Number(id)
        ws.send(
          JSON.stringify({
            op: 'event',
            seq,
            prev: device.cursor,
            id,
            type: 'reminder',
            unread: 0,
            data: { title },
          }),
        )
        device.cursor = seq
      }
      if (!device.live) ws.send(JSON.stringify({ op: 'live', seq: device.cursor }))
      device.live = true
    }
    await delay(1)
  }
}
void follow()

server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address !== null && typeof address === 'object')
    process.stdout.write(`http://127.0.0.1:${address.port}\n`)
})
