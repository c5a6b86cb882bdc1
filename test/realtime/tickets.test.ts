/** Tickets: what opens a socket or a stream without headers; for whom, where, how often, and how long. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mintToken } from '../../src/auth/tokens.ts'
import { createClient, type Client } from '../support/client.ts'
import { jwtSecret, serviceKey, startService, type Service } from '../support/service.ts'
import { openSocket, Refused, type SocketOptions } from '../support/socket.ts'

let service: Service
let ann: Client

beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())

interface Issued {
  ticket: string
  url: string
  expires_in: number
}

async function ticketFor(
  purpose: string,
  headers: Record<string, string> = {},
  client = ann,
): Promise<Issued> {
  const { status, body } = await client.request<Issued>('POST', '/api/chat/ticket', { for: purpose }, headers)
  if (status !== 200) throw new Error(`no ticket: ${JSON.stringify(body)}`)
  return body
}

const open = (options: SocketOptions) => openSocket(service.origin, options)

/** @returns the status with which it is refused. */
async function refused(options: SocketOptions): Promise<number> {
  const error: unknown = await open(options).then(
    () => new Error('it was let in'),
    (reason: unknown) => reason,
  )
  if (error instanceof Refused) return error.status
  throw error
}

describe("a socket's ticket", () => {
  it('opens a socket of its user at the address that comes with it, for 30 s', async () => {
    const { ticket, url, expires_in } = await ticketFor('socket')
    expect([url, expires_in]).toEqual([`/api/chat/ws?ticket=${ticket}`, 30])
    const [stored] = await service.sql<{ user_id: string; left: number; live: number }[]>`
      select user_id, extract(epoch from expires_at - now())::float as left,
        extract(epoch from valid_until - now())::float as live from chat.tickets order by expires_at desc limit 1`
    expect(stored?.user_id).toBe('ann')
    expect(stored?.left).toBeGreaterThan(25)
    expect(stored?.left).toBeLessThanOrEqual(30)
    // As long as the token that it was asked for with.
    expect(stored?.live).toBeGreaterThan(3_500)
    expect(stored?.live).toBeLessThanOrEqual(3_600)
    await (await open({ ticket })).live()
    const [{ count } = { count: 0 }] = await service.sql<{ count: number }[]>`
      select count(*)::int as count from chat.inbox_heads where user_id = 'ann'`
    expect(count).toBe(1)
  })

  it('is stored as a digest only', async () => {
    const { ticket } = await ticketFor('socket')
    const rows = await service.sql`select * from chat.tickets`
    expect(JSON.stringify(rows)).not.toContain(ticket)
  })

  it('is good once', async () => {
    const { ticket } = await ticketFor('socket')
    await (await open({ ticket })).close()
    expect(await refused({ ticket })).toBe(401)
  })

  it('is not made for a page that may not open a socket, and for pages of this server', async () => {
    const ask = (origin: string) =>
      ann.request<Issued>('POST', '/api/chat/ticket', { for: 'socket' }, { origin })
    expect(await ask('https://evil.example')).toMatchObject({ status: 403, body: { code: 'forbidden' } })
    const own = await startService({ env: { CORS_ORIGINS: 'https://app.example' } })
    try {
      const client = await own.as('ann')
      const { body } = await client.request<Issued>(
        'POST',
        '/api/chat/ticket',
        { for: 'socket' },
        { origin: own.origin },
      )
      await (await openSocket(own.origin, { ticket: body.ticket, origin: own.origin })).live()
    } finally {
      await own.close()
    }
  })

  it('lets one of many in who come with it at the same time', async () => {
    const { ticket } = await ticketFor('socket')
    const tried = await Promise.allSettled(Array.from({ length: 12 }, () => open({ ticket })))
    expect(tried.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const one of tried) if (one.status === 'rejected') expect(one.reason).toMatchObject({ status: 401 })
  })

  it('that has expired opens nothing, and looks like one that never was', async () => {
    const { ticket } = await ticketFor('socket')
    await service.sql`update chat.tickets set expires_at = now() where purpose = 'socket'`
    expect(await refused({ ticket })).toBe(401)
    expect(await refused({ ticket: 'never-was' })).toBe(401)
    expect(await refused({ ticket: '' })).toBe(401)
    expect(await refused({ ticket: 'x'.repeat(5_000) })).toBe(401)
  })

  it('that a page asked for is good for that page alone, and is not used up by others who try', async () => {
    const page = 'http://localhost:5173'
    const { ticket } = await ticketFor('socket', { origin: page })
    expect(await refused({ ticket, origin: 'http://localhost:8080' })).toBe(401)
    expect(await refused({ ticket })).toBe(401)
    await (await open({ ticket, origin: page })).live()
  })

  it('that a program asked for is good for any page that may ask at all', async () => {
    const [one, other] = [await ticketFor('socket'), await ticketFor('socket')]
    expect(await refused({ ticket: one.ticket, origin: 'https://evil.example' })).toBe(403)
    await (await open({ ticket: one.ticket, origin: 'http://localhost:8080' })).live()
    await (await open({ ticket: other.ticket })).live()
  })

  it('ends with the token that it was asked for with', async () => {
    const token = await mintToken(jwtSecret, { sub: 'cat', hours: 2 / 3600 })
    const cat = createClient(service.origin, token)
    const [one, other] = [await ticketFor('socket', {}, cat), await ticketFor('socket', {}, cat)]
    const socket = await open({ ticket: one.ticket })
    await socket.hello()
    expect(await socket.closed).toEqual({ code: 4001, reason: 'expired' })
    expect(await refused({ ticket: other.ticket })).toBe(401)
  })
})

describe('a ticket for something else', () => {
  it('opens nothing but that', async () => {
    const { ticket, url, expires_in } = await ticketFor('notifications')
    expect([url, expires_in]).toEqual([`/api/chat/notifications/stream?ticket=${ticket}`, 600])
    expect(await refused({ ticket })).toBe(401)
    const conversation = await ann.conversation()
    const { body } = await ann.post<{ assistant_message: { id: string } }>(
      `/conversations/${conversation}/messages`,
      { content: 'hello' },
    )
    const message = body.assistant_message.id
    const stream = await ticketFor(`message:${message}`)
    expect(await refused({ ticket: stream.ticket })).toBe(401)
    const socket = await ticketFor('socket')
    const path = stream.url.replace(/ticket=.*/, `ticket=${socket.ticket}`)
    expect((await service.anonymous.get(path)).status).toBe(401)
    expect((await service.anonymous.stream(stream.url, undefined)).status).toBe(200)
  })

  it("for a page's stream is refused to another page, and taken without a page's name, as of the same origin", async () => {
    const conversation = await ann.conversation()
    const { body } = await ann.post<{ assistant_message: { id: string } }>(
      `/conversations/${conversation}/messages`,
      { content: 'hello' },
    )
    const { url } = await ticketFor(`message:${body.assistant_message.id}`, {
      origin: 'http://localhost:5173',
    })
    const get = (headers: Record<string, string>) => service.anonymous.stream(url, undefined, headers)
    expect((await get({ origin: 'http://localhost:8080' })).status).toBe(401)
    expect((await get({ origin: 'http://localhost:5173' })).status).toBe(200)
    expect((await get({})).status).toBe(200)
  })
})

describe('asking for a ticket', () => {
  it.each([
    undefined,
    {},
    { for: '' },
    { for: 'everything' },
    { for: 'message:' },
    { for: 'message:1' },
    { for: ['socket'] },
    { for: 'socket ' },
    { for: 'socket', user: 'bob' },
  ])('for %j is 400', async (body) => {
    expect((await ann.post('/api/chat/ticket', body)).status).toBe(400)
  })

  it('is for users who prove who they are', async () => {
    expect((await service.anonymous.post('/api/chat/ticket', { for: 'socket' })).status).toBe(401)
    const asService = createClient(service.origin, serviceKey)
    expect((await asService.post('/api/chat/ticket', { for: 'socket' })).status).toBe(403)
  })
})
