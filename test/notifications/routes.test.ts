/** My inbox over HTTP: what is in it, what changed, marking; and that it is nobody else's. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { randomUUID } from 'node:crypto'
import type { Notification } from '../../src/notifications/schemas.ts'
import { createClient, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'

const base = '/api/chat/notifications'
let service: Service
let sender: Client
let ann: Client
let annId: string
beforeAll(async () => {
  service = await startService()
  sender = createClient(service.origin, serviceKey)
})
afterAll(() => service.close())
beforeEach(async () => {
  annId = `ann-${randomUUID()}`
  ann = await service.as(annId)
})

async function send(title: string, rest: Record<string, unknown> = {}): Promise<string> {
  const sent = await sender.post<{ notification_id: string }>('/api/chat/internal/notifications', {
    user_id: annId,
    type: 'reminder',
    title,
    ...rest,
  })
  expect(sent.status, JSON.stringify(sent.body)).toBeLessThan(202)
  return sent.body.notification_id
}
async function sendAll(...titles: string[]): Promise<string[]> {
  const ids: string[] = []
  for (const title of titles) ids.push(await send(title))
  return ids
}

interface Page {
  notifications: Notification[]
  unread: number
  cursor: string | null
  pagination: { limit: number; has_more: boolean; next_cursor: string | null }
}
interface Changes {
  mode: string
  notifications: Notification[]
  cursor: string
  head: number
  unread: number
  has_more: boolean
}
const list = async (query = '', client = ann) => (await client.get<Page>(`${base}${query}`)).body
const changes = async (query = '', client = ann) =>
  (await client.get<Changes>(`${base}/changes${query}`)).body
const titles = ({ notifications }: { notifications: Notification[] }) =>
  notifications.map(({ title }) => title)

describe('the list', () => {
  it('is empty, and stands nowhere, where there was never anything', async () => {
    expect(await list()).toEqual({
      notifications: [],
      unread: 0,
      cursor: null,
      pagination: { limit: 20, has_more: false, next_cursor: null },
    })
  })

  it('has the newest first, and says where the log stands and how many are unread', async () => {
    const [id] = await sendAll('one', 'two', 'three')
    const page = await list()
    expect([titles(page), page.unread]).toEqual([['three', 'two', 'one'], 3])
    expect(page.cursor).toMatch(/^[A-Za-z0-9]+\.3$/)
    expect(page.notifications[2]).toMatchObject({
      id,
      seq: 1,
      type: 'reminder',
      priority: 'medium',
      status: 'sent',
      data: {},
      read_at: null,
      removed: false,
    })
  })

  it('is paged without a gap or a repetition, whatever comes meanwhile', async () => {
    await sendAll('a', 'b', 'c', 'd', 'e')
    const seen: string[] = []
    let query = '?limit=2'
    for (;;) {
      const page = await list(query)
      seen.push(...titles(page))
      if (!page.pagination.has_more) break
      await send('newer')
      query = `?limit=2&cursor=${page.pagination.next_cursor}`
    }
    expect(seen).toEqual(['e', 'd', 'c', 'b', 'a'])
  })

  it('shows by status and type what it says', async () => {
    const [read = '', archived = '', , over = ''] = await sendAll('read', 'archived', 'sent', 'over')
    await send('delivered', { type: 'system' })
    await send('pending', { send_at: new Date(Date.now() + 3_600_000).toISOString() })
    await ann.post(`${base}/${read}/read`)
    await ann.post(`${base}/${archived}/archive`)
    await service.sql`update chat.notifications set delivered_at = now() where title = 'delivered' and user_id = ${annId}`
    await service.sql`update chat.notifications set expires_at = now() where id = ${over}`
    await sender.post('/api/chat/internal/notifications/cleanup')
    const shown = async (query: string) => titles(await list(query)).toSorted()
    expect(await shown('')).toEqual(['delivered', 'read', 'sent'])
    expect(await shown('?status=all')).toEqual(['archived', 'delivered', 'read', 'sent'])
    expect(await shown('?status=unread')).toEqual(['delivered', 'sent'])
    expect(await shown('?status=read')).toEqual(['read'])
    expect(await shown('?status=archived')).toEqual(['archived'])
    expect(await shown('?status=sent')).toEqual(['sent'])
    expect(await shown('?status=delivered')).toEqual(['delivered'])
    expect(await shown('?status=pending')).toEqual(['pending'])
    expect(await shown('?status=failed')).toEqual([])
    expect(await shown('?type=system')).toEqual(['delivered'])
    expect(await shown('?type=system&status=read')).toEqual([])
  })

  it('pages what is pending, too', async () => {
    for (const title of ['a', 'b', 'c'])
      await send(title, { send_at: new Date(Date.now() + 3_600_000).toISOString() })
    const first = await list('?status=pending&limit=2')
    const second = await list(`?status=pending&limit=2&cursor=${first.pagination.next_cursor}`)
    expect([titles(first), titles(second)]).toEqual([['c', 'b'], ['a']])
  })
})

describe('changes', () => {
  it('begin where the log stands, and then tell what changed behind the cursor, page by page', async () => {
    const fresh = await changes()
    expect(fresh).toMatchObject({ mode: 'fresh', notifications: [], head: 0, unread: 0, has_more: false })
    const [one = ''] = await sendAll('one', 'two', 'three')
    await ann.post(`${base}/${one}/read`)
    const first = await changes(`?cursor=${fresh.cursor}&limit=2`)
    expect([first.mode, titles(first), first.head, first.unread, first.has_more]).toEqual([
      'resume',
      ['two', 'three'],
      4,
      2,
      true,
    ])
    const second = await changes(`?cursor=${first.cursor}&limit=2`)
    expect([titles(second), second.notifications[0]?.status, second.has_more]).toEqual([
      ['one'],
      'read',
      false,
    ])
    expect(await changes(`?cursor=${second.cursor}`)).toMatchObject({ mode: 'resume', notifications: [] })
    expect(second.cursor).toBe((await list()).cursor)
  })

  it('say that a cursor means nothing: of another log, beyond its head, or of before what was purged', async () => {
    await send('one')
    const { cursor } = await changes()
    const epoch = cursor.split('.')[0]
    for (const foreign of ['else.0', `${epoch}.2`])
      expect(await changes(`?cursor=${foreign}`)).toMatchObject({
        mode: 'reset',
        notifications: [],
        cursor,
        head: 1,
      })
    await service.sql`update chat.notifications set expires_at = now() where user_id = ${annId}`
    await sender.post('/api/chat/internal/notifications/cleanup')
    await service.sql`
      update chat.notifications set removed_at = now() - interval '31 days' where user_id = ${annId}`
    await sender.post('/api/chat/internal/notifications/cleanup')
    expect(await changes(`?cursor=${epoch}.1`)).toMatchObject({ mode: 'reset', cursor: `${epoch}.2` })
    const nobody = await service.as('nobody-was-ever-here')
    expect(await changes('?cursor=else.0', nobody)).toMatchObject({ mode: 'reset', cursor: null })
  })

  it('tell of what expired, without its words', async () => {
    const { cursor } = await changes()
    const id = await send('secret', { body: 'secret', data: { k: 'secret' } })
    await service.sql`update chat.notifications set expires_at = now() where id = ${id}`
    await sender.post('/api/chat/internal/notifications/cleanup')
    const told = await changes(`?cursor=${cursor}`)
    expect(told.notifications).toMatchObject([{ id, removed: true, title: '', body: '', data: {} }])
    expect(JSON.stringify(told)).not.toContain('secret')
  })
})

describe('marking', () => {
  it('one as read, archived: what it is now; again changes nothing', async () => {
    const [id = ''] = await sendAll('one', 'two')
    const read = await ann.post<Notification>(`${base}/${id}/read`)
    expect([read.status, read.body]).toMatchObject([200, { id, status: 'read', seq: 3 }])
    expect((await ann.post(`${base}/${id}/read`)).body).toEqual(read.body)
    const archived = await ann.post<Notification>(`${base}/${id}/archive`)
    expect(archived.body).toMatchObject({ id, seq: 4, archived_at: expect.any(String) as string })
    expect((await ann.post(`${base}/${id.toUpperCase()}/archive`)).body).toEqual(archived.body)
    expect(await list()).toMatchObject({ unread: 1 })
  })

  it('several, or all up to a place, and says which changed', async () => {
    const ids = await sendAll('a', 'b', 'c')
    const { body: some } = await ann.post(`${base}/read`, {
      ids: [ids[1], randomUUID()],
    })
    expect(some).toMatchObject({ changed: [ids[1]], unread: 2 })
    const { body: all } = await ann.post<{ changed: string[] }>(`${base}/read`, { up_to: 4 })
    expect(all).toMatchObject({ unread: 0, cursor: (await list()).cursor })
    expect(all.changed.toSorted()).toEqual([ids[0], ids[2]])
    const { body: none } = await ann.post(`${base}/read`, { up_to: 99 })
    expect(none).toEqual({ changed: [], unread: 0, cursor: (await list()).cursor })
    const nobody = await service.as('nobody-here')
    expect((await nobody.post(`${base}/read`, { up_to: 1 })).body).toEqual({
      changed: [],
      unread: 0,
      cursor: null,
    })
  })

  it.each(['read', 'archive'])(
    '%s finds nothing that is missing, another’s, scheduled or over',
    async (verb) => {
      const eve = await service.as('eve')
      const own = await send('own')
      const scheduled = await send('scheduled', { send_at: new Date(Date.now() + 3_600_000).toISOString() })
      const over = await send('over')
      await service.sql`update chat.notifications set expires_at = now() where id = ${over}`
      await sender.post('/api/chat/internal/notifications/cleanup')
      const tries: [Client, string][] = [
        [ann, randomUUID()],
        [ann, 'x'],
        [ann, '%00'],
        [eve, own],
        [ann, scheduled],
        [ann, over],
      ]
      for (const [client, id] of tries)
        expect(await client.post(`${base}/${id}/${verb}`)).toMatchObject({
          status: 404,
          body: { code: 'notification_not_found' },
        })
      expect((await list()).notifications).toMatchObject([{ id: own, status: 'sent', archived_at: null }])
    },
  )
})

it('counts by type and priority what is not archived', async () => {
  await send('a')
  const read = await send('b', { type: 'system', priority: 'high' })
  const archived = await send('c', { type: 'system' })
  await ann.post(`${base}/${read}/read`)
  await ann.post(`${base}/${archived}/archive`)
  expect((await ann.get(`${base}/stats`)).body).toEqual({
    unread: 1,
    total: 2,
    by_type: { reminder: 1, system: 1 },
    by_priority: { medium: 1, high: 1 },
  })
})

it('lists the templates with what they need', async () => {
  const { body } = await ann.get<{ templates: { name: string; variables: object }[] }>(`${base}/templates`)
  const reminder = body.templates.find(({ name }) => name === 'reminder')
  expect(reminder).toMatchObject({ type: 'reminder', variables: { required: ['subject', 'note'] } })
})

describe('the stream', () => {
  it('greets, replays what is behind the last id, and goes on live: one id for each place', async () => {
    await sendAll('one', 'two')
    const stream = await ann.stream(`${base}/stream`, undefined)
    expect(stream.headers.get('content-type')).toContain('text/event-stream')
    const ops = () => stream.frames.map(({ data }) => data['op'])
    await eventually(ops).toEqual(['hello', 'live'])
    await send('three')
    await eventually(ops).toEqual(['hello', 'live', 'event'])
    const last = stream.frames[2]?.id ?? ''
    expect([last, (await list()).cursor]).toEqual([(await list()).cursor, last])
    stream.drop()
    await sendAll('four', 'five')
    const again = await ann.stream(`${base}/stream?cursor=${last.split('.')[0]}.0`, undefined, {
      'last-event-id': last,
    })
    await eventually(() => again.frames.map(({ data }) => data['op'])).toEqual([
      'hello',
      'event',
      'event',
      'live',
    ])
    expect(again.frames[1]?.data).toMatchObject({ seq: 4, prev: 3, data: { title: 'four' } })
    again.drop()
  })

  it('opens with a ticket for it, again and again, and with no other', async () => {
    const { body } = await ann.post<{ url: string; ticket: string }>('/api/chat/ticket', {
      for: 'notifications',
    })
    for (let n = 0; n < 2; n++) {
      const stream = await service.anonymous.stream(body.url, undefined)
      expect(stream.status).toBe(200)
      await eventually(() => stream.frames.length).toBe(2)
      stream.drop()
    }
    const { body: socket } = await ann.post<{ ticket: string }>('/api/chat/ticket', { for: 'socket' })
    for (const ticket of [socket.ticket, 'x', ''])
      expect((await service.anonymous.stream(`${base}/stream?ticket=${ticket}`, undefined)).status).toBe(401)
  })

  it('is refused with a cursor that is none', async () => {
    for (const [query, header] of [
      ['?cursor=x', undefined],
      ['', 'x'],
      ['', 'a.-1'],
    ] as const) {
      const refused = await ann.request(
        'GET',
        `${base}/stream${query}`,
        undefined,
        header === undefined ? {} : { 'last-event-id': header },
      )
      expect(refused).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    }
  })
})
