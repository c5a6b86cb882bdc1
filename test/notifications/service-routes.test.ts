/** What services ask over HTTP: sending, in its old words too, to many, to all; once under a key; and what became of it. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createClient, type Answer, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { startMailServer, type MailServer } from '../support/smtp.ts'

const base = '/api/chat/internal/notifications'
let service: Service
let mail: MailServer
let sender: Client
let annId: string
beforeAll(async () => {
  mail = await startMailServer()
  service = await startService({
    env: { SMTP_URL: mail.url, EMAIL_FROM: 'Rivulet <hello@example.com>', PUBLIC_URL: 'https://app.example' },
  })
  sender = createClient(service.origin, serviceKey)
})
afterAll(async () => {
  await service.close()
  await mail.close()
})
beforeEach(() => {
  annId = `ann-${randomUUID()}`
})

type Row = Record<string, unknown>
const post = (path: string, body?: unknown, key?: string): Promise<Answer<Row>> =>
  sender.request('POST', path, body, key === undefined ? {} : { 'idempotency-key': key })
const send = (body: object, key?: string) => post(base, { user_id: annId, ...body }, key)
const rows = (userId = annId) => service.sql<Row[]>`
  select id, type, title, body, priority, icon, color, action, data, progress, dedupe_key, template, channels
  from chat.notifications where user_id = ${userId} order by seq`
const plain = { type: 'reminder', title: 'A title' }

describe('sending', () => {
  it('words of one’s own', async () => {
    const said = {
      ...plain,
      body: 'A body.',
      icon: 'bell',
      color: '#a1b2c3',
      action: { label: 'Go', url: '/there' },
      data: { k: [1, { l: 'm' }] },
      progress: 50,
      priority: 'high',
      dedupe_key: 'a-key',
    }
    const sent = await send({ ...said, channels: ['webhook'] })
    const [row] = await rows()
    expect(sent).toMatchObject({
      status: 201,
      body: { notification_id: row?.['id'], user_id: annId, outcome: 'new', seq: 1 },
    })
    expect(row).toMatchObject({ ...said, template: null, channels: ['in_app', 'webhook'] })
  })

  it('a template’s words, with what the sender lays over them', async () => {
    await send({
      template: 'reminder',
      variables: { subject: 'the interview', note: 'At ten.', url: '/calendar' },
      data: { event_id: 7 },
      priority: 'low',
    })
    expect(await rows()).toMatchObject([
      {
        type: 'reminder',
        template: 'reminder',
        title: 'A reminder: the interview',
        body: 'At ten.',
        priority: 'low',
        action: { label: 'Open', url: '/calendar' },
        data: { subject: 'the interview', event_id: 7 },
      },
    ])
  })

  it('changes the row of a key: 200 where nothing new was said', async () => {
    const step = (progress: number) => send({ ...plain, dedupe_key: 'k', progress })
    const first = await step(25)
    expect((await step(50)).body).toMatchObject({
      notification_id: first.body['notification_id'],
      outcome: 'changed',
      seq: 2,
    })
    for (const late of [await step(50), await step(30)])
      expect(late).toMatchObject({ status: 200, body: { outcome: 'same', seq: null } })
    expect(await rows()).toMatchObject([{ progress: 50 }])
  })

  it('the steps of an assessment, which are one row', async () => {
    const variables = { assessment_id: 'a1' }
    for (const template of ['assessment_submitted', 'analysis_started', 'analysis_complete', 'chatbot_ready'])
      await send({ template, variables })
    expect(await rows()).toMatchObject([
      { dedupe_key: 'assessment:a1', progress: 100, data: { stage: 'chatbot_ready', assessment_id: 'a1' } },
    ])
  })

  it('for later', async () => {
    const sent = await send({ ...plain, send_at: new Date(Date.now() + 150).toISOString() })
    expect(sent).toMatchObject({ status: 201, body: { outcome: 'scheduled', seq: null } })
    const ann = await service.as(annId)
    const seen = async () => (await ann.get<{ unread: number }>('/api/chat/notifications')).body.unread
    expect(await seen()).toBe(0)
    await eventually(seen).toBe(1)
  })

  it('a letter: from the route over the job to the mail server, and to an address that came along', async () => {
    await send({
      template: 'chatbot_ready',
      variables: { assessment_id: 'a1' },
      email: 'ann@example.com',
    })
    await eventually(() => mail.letters.map(({ to }) => to)).toContainEqual(['ann@example.com'])
    const letter = mail.letters.find(({ to }) => to[0] === 'ann@example.com')
    expect(letter?.headers.get('subject')).toBe('Your adviser is ready')
    expect(letter?.parts.get('text/plain')).toContain('https://app.example/assessment/a1/results')
    const [row] = await rows()
    await eventually(
      async () => (await sender.get<Row>(`${base}/${String(row?.['id'])}`)).body,
    ).toMatchObject({
      notification: { id: row?.['id'], title: 'Your adviser is ready', status: 'sent' },
      user_id: annId,
      dedupe_key: 'assessment:a1',
      deliveries: [{ channel: 'email', target: '', status: 'sent', attempts: 1, why: null }],
    })
  })

  it('what no template knows, with a variable that is missing or too many', async () => {
    // A type with variables names the template that is called like it.
    expect(await send({ type: 'reminder', variables: { nope: 1 } })).toMatchObject({
      status: 422,
      body: { code: 'invalid_variables' },
    })
    expect(await send({ template: 'nope', variables: {} })).toMatchObject({
      status: 422,
      body: { code: 'unknown_template' },
    })
    expect(await send({ template: 'reminder', variables: { note: 'x', nope: 1 } })).toMatchObject({
      status: 422,
      body: {
        code: 'invalid_variables',
        errors: [
          { path: 'variables.subject', message: 'is missing' },
          { path: 'variables.nope', message: 'is no variable of this template' },
        ],
      },
    })
    expect(await rows()).toEqual([])
  })
})

describe('sending as older services do', () => {
  const older = (notification: object, userId = annId) => post(base, { userId, notification })

  it('is understood, each step as the same row', async () => {
    const said = {
      type: 'assessment_progress',
      stage: 'analysis_started',
      title: 'Analysing',
      message: 'Hold on.',
      progress: 49.6,
      assessmentId: 'a1',
      action: { url: '/assessment/a1', text: 'Look' },
      metadata: { source: 'worker' },
      timestamp: '2026-01-02T03:04:05Z',
    }
    expect(await older(said)).toMatchObject({ status: 201, body: { outcome: 'new' } })
    expect(await rows()).toMatchObject([
      {
        type: 'assessment_progress',
        title: 'Analysing',
        body: 'Hold on.',
        progress: 50,
        priority: 'low',
        action: { url: '/assessment/a1', label: 'Look' },
        data: { stage: 'analysis_started', assessment_id: 'a1', progress: 50, source: 'worker' },
        dedupe_key: 'assessment:a1',
      },
    ])
    await older({ type: 'assessment_progress', stage: 'chatbot_ready', assessmentId: 'a1', progress: 100 })
    expect(await rows()).toMatchObject([
      { title: 'Your adviser is ready', priority: 'high', progress: 100, data: { stage: 'chatbot_ready' } },
    ])
  })

  it('keeps an action that leads nowhere for the client, and needs a title where no template has one', async () => {
    await older({ type: 'system', title: 'x', action: 'open_chat', metadata: null })
    expect(await rows()).toMatchObject([{ action: null, data: { action: 'open_chat' }, dedupe_key: null }])
    expect(await older({ type: 'assessment_progress', stage: 'own_stage', assessmentId: 'a' })).toMatchObject(
      {
        status: 400,
        body: { errors: [{ path: 'notification.title' }] },
      },
    )
  })

  it('is told which part is wrong, in its own words', async () => {
    expect(await older({ type: 'nope', title: 'x' })).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'notification.type' }] },
    })
    expect(
      await post(base, { userId: annId, notification: { type: 'system', title: 'x' }, more: 1 }),
    ).toMatchObject({
      status: 400,
    })
  })
})

describe('sending to many', () => {
  it('tells all the same, each once, and counts', async () => {
    const users = Array.from({ length: 30 }, (_, n) => `${annId}-${n}`)
    const one = await post(`${base}/bulk`, { user_ids: [...users, ...users], ...plain, dedupe_key: 'k' })
    expect(one).toMatchObject({
      status: 200,
      body: { accepted: 30, new: 30, changed: 0, same: 0, scheduled: 0 },
    })
    const two = await post(`${base}/bulk`, {
      user_ids: users.slice(0, 10),
      ...plain,
      title: 'Other',
      dedupe_key: 'k',
    })
    expect(two.body).toMatchObject({ accepted: 10, changed: 10 })
    const three = await post(`${base}/bulk`, { user_ids: users, ...plain, title: 'Other', dedupe_key: 'k' })
    expect(three.body).toMatchObject({ accepted: 30, changed: 20, same: 10 })
  })

  it('tells each its own, and where one cannot be told nobody is', async () => {
    const notifications = [
      { user_id: annId, ...plain, title: 'one' },
      { user_id: `${annId}-2`, template: 'reminder', variables: { subject: 's', note: 'n' } },
      { user_id: annId, ...plain, title: 'two', send_at: new Date(Date.now() + 3_600_000).toISOString() },
    ]
    expect((await post(`${base}/bulk`, { notifications })).body).toEqual({
      accepted: 3,
      new: 2,
      changed: 0,
      same: 0,
      scheduled: 1,
    })
    const bad = { user_id: `${annId}-3`, template: 'reminder', variables: { subject: 's' } }
    expect(await post(`${base}/bulk`, { notifications: [...notifications, bad] })).toMatchObject({
      status: 422,
      body: { errors: [{ path: 'notifications.3.variables.note', message: 'is missing' }] },
    })
    expect(await rows(`${annId}-3`)).toEqual([])
    expect(await rows(`${annId}-2`)).toHaveLength(1)
  })

  it('takes ten thousand and no more, within four mebibytes', async () => {
    const users = (count: number) => Array.from({ length: count }, (_, n) => `${annId}-${n}`)
    expect(await post(`${base}/bulk`, { user_ids: users(10_001), ...plain })).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'user_ids' }] },
    })
    const long = Array.from({ length: 10_000 }, (_, n) => String(n).padEnd(250, '-'))
    expect((await post(`${base}/bulk`, { user_ids: long, ...plain })).body).toMatchObject({ new: 10_000 })
    expect(
      await post(`${base}/bulk`, { user_ids: long, ...plain, data: { k: 'x'.repeat(2 * 1024 * 1024) } }),
    ).toMatchObject({ status: 413 })
  })
})

describe('a broadcast', () => {
  it('reaches who ever connected: by a socket, a stream or a poll', async () => {
    const ann = await service.as(annId)
    await ann.get('/api/chat/notifications/changes')
    const sent = await post(`${base}/broadcast`, { ...plain, title: `To all of ${annId}` })
    expect(sent).toMatchObject({ status: 202, body: { broadcast_id: expect.any(String) as string } })
    await eventually(async () => (await rows()).map(({ title }) => title)).toEqual([`To all of ${annId}`])
    const status = () => sender.get<{ broadcasts: Row[] }>(`${base}/status`)
    await eventually(async () => (await status()).body.broadcasts).toContainEqual(
      expect.objectContaining({ id: sent.body['broadcast_id'], finished_at: expect.any(String) as string }),
    )
  })
})

describe('an Idempotency-Key', () => {
  const asks: [name: string, path: string, body: () => object, status: number][] = [
    ['send', base, () => ({ user_id: annId, ...plain }), 200],
    ['bulk', `${base}/bulk`, () => ({ user_ids: [annId], ...plain }), 200],
    ['broadcast', `${base}/broadcast`, () => plain, 202],
    ['cleanup', `${base}/cleanup`, () => ({}), 200],
    ['redrive', `${base}/redrive`, () => ({}), 200],
    ['webhook', '/api/chat/internal/webhooks', () => ({ url: 'https://hook.example/', user_id: annId }), 201],
  ]
  it.each(asks)(
    'of a %s: the same again is answered the same, something else is 422',
    async (_name, path, body, status) => {
      const key = randomUUID()
      const first = await post(path, body(), key)
      expect(first.headers.get('idempotent-replay')).toBeNull()
      const again = await post(path, body(), key)
      expect(again).toMatchObject({ status, body: first.body })
      expect(again.headers.get('idempotent-replay')).toBe('true')
      expect(await post(path, { ...body(), nope: 1 }, key)).toMatchObject({ status: 400 })
      const other = path.endsWith('redrive')
        ? { ids: [randomUUID()] }
        : path.endsWith('webhooks')
          ? { url: 'https://other.example/' }
          : { ...body(), title: 'Other' }
      if (!path.endsWith('cleanup'))
        expect(await post(path, other, key)).toMatchObject({
          status: 422,
          body: { code: 'idempotency_key_reused' },
        })
    },
  )

  it('of twenty who ask at once: it is done once, and all hear the same', async () => {
    const key = randomUUID()
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => send({ ...plain, title: 'once' }, key)),
    )
    for (const { body } of answers) expect(body).toEqual(answers[0]?.body)
    expect(answers.filter(({ headers }) => headers.get('idempotent-replay') === null)).toHaveLength(1)
    expect(await rows()).toHaveLength(1)
  })

  it('of what failed is free again', async () => {
    const key = randomUUID()
    await service.sql`alter table chat.notifications add constraint no_title check (title <> 'refused')`
    expect((await send({ ...plain, title: 'refused' }, key)).status).toBe(500)
    await service.sql`alter table chat.notifications drop constraint no_title`
    const sent = await send({ ...plain, title: 'refused' }, key)
    expect([sent.status, sent.headers.get('idempotent-replay')]).toEqual([201, null])
  })

  it.each([
    ['send', base, () => ({ user_id: annId })],
    ['bulk', `${base}/bulk`, () => ({ user_ids: [annId] })],
    ['broadcast', `${base}/broadcast`, () => ({})],
  ])(
    'of a %s is answered the same when what was asked for would be too late by now',
    async (_name, path, body) => {
      const key = randomUUID()
      const asked = { ...body(), ...plain, expires_at: new Date(Date.now() + 300).toISOString() }
      const first = await post(path, asked, key)
      await eventually(async () => (await post(path, asked)).status).toBe(400)
      const again = await post(path, asked, key)
      expect(again.body).toEqual(first.body)
      expect(again.headers.get('idempotent-replay')).toBe('true')
      expect((await post(path, { ...asked, title: 'Other' }, key)).status).toBeGreaterThanOrEqual(400)
    },
  )

  it('is another one for another route, and must be one', async () => {
    const key = randomUUID()
    await send(plain, key)
    expect((await post(`${base}/bulk`, { user_ids: [annId], ...plain }, key)).status).toBe(200)
    for (const none of ['', 'x'.repeat(256)]) expect((await send(plain, none)).status).toBe(400)
  })
})

describe('what became of it', () => {
  it('is told of one, wherever it stands', async () => {
    const { body } = await send({ ...plain, send_at: new Date(Date.now() + 3_600_000).toISOString() })
    expect((await sender.get(`${base}/${String(body['notification_id'])}`)).body).toMatchObject({
      notification: { status: 'pending', seq: null },
      user_id: annId,
      deliveries: [],
    })
    for (const id of [randomUUID(), 'x', '%00'])
      expect(await sender.get(`${base}/${id}`)).toMatchObject({
        status: 404,
        body: { code: 'notification_not_found' },
      })
  })

  it('is counted, and what was given up is listed with why and can be queued again', async () => {
    mail.refuse({ recipient: [554, 'no'] })
    const { body } = await send({ ...plain, channels: ['email'], email: 'refused@example.com' })
    interface Status {
      channels: string[]
      deliveries: { email: Record<string, number> }
      dead: { id: string; notification_id: string }[]
    }
    const status = async () => (await sender.get<Status>(`${base}/status`)).body
    const mine = async () =>
      (await status()).dead.find((dead) => dead.notification_id === body['notification_id'])
    await eventually(mine).toMatchObject({
      channel: 'email',
      target: '',
      user_id: annId,
      attempts: 1,
      why: 'refused',
    })
    expect(await status()).toMatchObject({
      channels: ['in_app', 'email', 'webhook'],
      deliveries: { email: { failed: 1, queued: 0 } },
      oldest_due_at: null,
    })
    mail.refuse({})
    const dead = await mine()
    expect((await post(`${base}/redrive`, { ids: [randomUUID()] })).body).toEqual({ queued: 0 })
    expect((await post(`${base}/redrive`, { ids: [dead?.id] })).body).toEqual({ queued: 1 })
    await eventually(() => mail.letters.map(({ to }) => to[0])).toContain('refused@example.com')
    await eventually(
      async () =>
        (await sender.get<{ deliveries: Row[] }>(`${base}/${String(body['notification_id'])}`)).body,
    ).toMatchObject({ deliveries: [{ status: 'sent', attempts: 1, why: null }] })
    expect(await mine()).toBeUndefined()
  })
})

describe('webhooks', () => {
  const url = 'https://hook.example/in'
  it('are registered, their secret shown once, listed and removed', async () => {
    const made = await post('/api/chat/internal/webhooks', { url, user_id: annId, types: ['system'] })
    expect(made).toMatchObject({ status: 201, body: { secret: expect.stringMatching(/^whsec_/) as string } })
    const listed = async () =>
      (await sender.get<{ webhooks: Row[] }>('/api/chat/internal/webhooks')).body.webhooks.filter(
        (webhook) => webhook['user_id'] === annId,
      )
    expect(await listed()).toMatchObject([{ id: made.body['id'], url, types: ['system'] }])
    expect(JSON.stringify(await listed())).not.toContain('whsec_')
    const remove = () => sender.request('DELETE', `/api/chat/internal/webhooks/${String(made.body['id'])}`)
    expect((await remove()).status).toBe(204)
    expect(await remove()).toMatchObject({ status: 404, body: { code: 'webhook_not_found' } })
    expect(await listed()).toEqual([])
  })

  it('are not of this machine, its networks, or in the clear; and not without end', async () => {
    for (const bad of [
      'http://hook.example',
      'https://127.0.0.1/',
      'https://169.254.169.254/',
      'https://[fd00::1]/',
      'x',
    ])
      expect(await post('/api/chat/internal/webhooks', { url: bad })).toMatchObject({
        status: 400,
        body: { errors: [{ path: 'url' }] },
      })
    const statuses: number[] = []
    for (let n = 0; n < 11; n++)
      statuses.push((await post('/api/chat/internal/webhooks', { url, user_id: annId })).status)
    expect(statuses).toEqual([...Array<number>(10).fill(201), 422])
  })
})

it('answers services and nobody else', async () => {
  const ann = await service.as(annId)
  for (const [method, path] of [
    ['POST', base],
    ['POST', `${base}/bulk`],
    ['POST', `${base}/broadcast`],
    ['POST', `${base}/cleanup`],
    ['POST', `${base}/redrive`],
    ['GET', `${base}/status`],
    ['GET', `${base}/${randomUUID()}`],
    ['POST', '/api/chat/internal/webhooks'],
    ['GET', '/api/chat/internal/webhooks'],
    ['DELETE', `/api/chat/internal/webhooks/${randomUUID()}`],
    ['PUT', `/api/chat/internal/contacts/${annId}`],
  ] as const) {
    const body = method === 'GET' ? undefined : {}
    expect((await service.anonymous.request(method, path, body)).status, `${method} ${path}`).toBe(401)
    expect((await ann.request(method, path, body)).status, `${method} ${path}`).toBe(403)
  }
})
