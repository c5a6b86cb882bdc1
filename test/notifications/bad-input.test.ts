/** What nobody should send: refused as the contract says, with the part that is wrong, and nothing of it is stored. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Client } from '../support/client.ts'
import { ask, expectProblem, type Ask } from '../support/problem.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { vapid } from '../support/vapid.ts'

const base = '/api/chat/notifications'
const inner = '/api/chat/internal'
let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService({ env: vapid })
  ann = await service.as('ann')
})
afterAll(() => service.close())

async function refused(request: Ask, status = 400, code = 'invalid_request') {
  const token = request.path.startsWith(inner) ? serviceKey : ann.token
  const answer = await ask(service.origin, { token, ...request })
  return expectProblem(answer, { status, code, path: request.path })
}

const id = randomUUID()
const notTexts = ['null', '1', 'true', '[]', '{}']
const badTexts = ['"a\\u0000b"', '"\\ud800"', '"x\\udc00"']
const texts = [...notTexts, ...badTexts, '""']
const notObjects = ['null', '"x"', '1', '[]', 'true']
const badObjects = [
  '{"k":"a\\u0000b"}',
  '{"a\\u0000b":1}',
  '{"k":["\\ud800"]}',
  '{"n":1e400}',
  `{"k":${'['.repeat(100)}${']'.repeat(100)}}`,
  `{"k":"${'x'.repeat(16 * 1024)}"}`,
  // What is short on the wire and long when it is printed.
  `{"k":[${Array(4_000).fill('1e20').join(',')}]}`,
]
const long = (chars: number) => `"${'x'.repeat(chars)}"`
const times = [
  'null',
  '1',
  '"tomorrow"',
  '"2026-01-01"',
  '"2026-13-01T00:00:00Z"',
  '"2026-01-01T00:00:00"',
  '"infinity"',
]
const farTimes = ['"2999-01-01T00:00:00Z"', '"9999-12-31T23:59:59-14:00"']

/** Of what is said, to one, to many and to all: the field, and values that it must refuse. */
const said: [field: string, values: string[]][] = [
  ['type', [...texts, '"nope"', '"toString"']],
  ['title', [...texts, '"  "', long(201)]],
  ['body', [...notTexts, ...badTexts, long(4_001)]],
  ['icon', [...texts, long(101)]],
  ['color', [...texts, '"red"', '"#12345"', '"#1234567"']],
  [
    'action',
    [
      'null',
      '"x"',
      '{}',
      '{"url":""}',
      '{"url":"javascript:alert(1)"}',
      '{"url":"//evil.example"}',
      '{"url":"/\\\\evil.example"}',
      '{"url":"a\\u0000"}',
      '{"url":"/","label":""}',
      '{"url":"/","more":1}',
      `{"url":"/${'x'.repeat(2_000)}"}`,
    ],
  ],
  ['data', [...notObjects, ...badObjects]],
  ['progress', ['null', '"5"', '-1', '101', '1.5', 'true']],
  ['priority', [...texts, '"urgent"']],
  ['channels', ['null', '"email"', '["sms"]', '[null]', '["email","email","email","email","email"]']],
  ['send_at', [...times, ...farTimes]],
  ['expires_at', [...times, ...farTimes, '"2020-01-01T00:00:00Z"']],
  ['template', texts],
  ['variables', notObjects],
  ['nope', ['1']],
]
const routes: [path: string, rest: Record<string, unknown>, more: [field: string, values: string[]][]][] = [
  [
    `${inner}/notifications`,
    { user_id: 'ann' },
    [
      ['user_id', [...texts, long(256)]],
      ['dedupe_key', [...texts, long(256)]],
      [
        'email',
        [
          ...texts,
          '"ann"',
          '"a b@c.d"',
          '"a@b\\r\\n.c"',
          '"a@b,c@d"',
          '"a\\ud800@b.c"',
          `"${'x'.repeat(250)}@b.c"`,
        ],
      ],
    ],
  ],
  [
    `${inner}/notifications/bulk`,
    { user_ids: ['ann'] },
    [
      ['user_ids', ['null', '"ann"', '[]', '[""]', '[1]', '["a\\u0000"]', `[${long(256)}]`]],
      ['notifications', ['[]', '[{"user_id":"bob","type":"system","title":"x"}]']],
    ],
  ],
  [`${inner}/notifications/broadcast`, {}, []],
]

describe('what is said', () => {
  const cases = routes.flatMap(([path, rest, more]) =>
    [...said, ...more].flatMap(([field, values]) =>
      values.map((value) => ({
        name: `${path.slice(inner.length)} ${field} = ${value.length > 60 ? `${value.slice(0, 20)}…` : value}`,
        path,
        field,
        body: `{${JSON.stringify({ ...rest, type: 'reminder', title: 'x', [field]: '@' })
          .slice(1, -1)
          .replace('"@"', () => value)}}`,
      })),
    ),
  )
  it.each(cases)('$name', async ({ path, field, body }) => {
    const { errors = [] } = await refused({ method: 'POST', path, body })
    const paths = errors.map((error) => error.path.split('.')[0])
    // A template in good order says that the words beside it are too many.
    expect(
      paths.some((told) => told === field || told === ''),
      JSON.stringify(errors),
    ).toBe(true)
  })

  it.each([
    ['neither a template nor words', {}],
    ['a type without a title', { type: 'system' }],
    ['a template and a title', { template: 'reminder', variables: {}, title: 'x' }],
    ['variables without a template', { type: 'system', title: 'x', variables: {} }],
    [
      'expiring before it appears',
      { type: 'system', title: 'x', send_at: soon(60_000), expires_at: soon(30_000) },
    ],
  ])('with %s', async (_name, body) => {
    for (const [path, rest] of routes)
      await refused({ method: 'POST', path, body: JSON.stringify({ ...rest, ...body }) })
  })

  it.each([
    [
      'a link to another host behind a tab',
      '',
      { type: 'system', title: 'x', action: { url: '/\t/evil.example' } },
    ],
    [
      'an assessment whose id is longer than a key',
      '',
      { type: 'assessment_progress', title: 'x', data: { assessment_id: 'x'.repeat(8_000) } },
    ],
    [
      'one row changed a hundred times',
      '/bulk',
      {
        user_id: undefined,
        notifications: Array.from({ length: 100 }, (_, n) => ({
          user_id: 'ann',
          type: 'system',
          title: String(n),
          dedupe_key: 'one',
        })),
      },
    ],
  ])('with %s', async (_name, path, body) => {
    const asked = JSON.stringify({ user_id: 'ann', ...body })
    await refused({ method: 'POST', path: `${inner}/notifications${path}`, body: asked })
  })

  it('of which no item is right names the item', async () => {
    const one = { user_id: 'ann', type: 'system', title: 'x' }
    const body = JSON.stringify({ notifications: [one, { ...one, title: '' }] })
    const { errors } = await refused({ method: 'POST', path: `${inner}/notifications/bulk`, body })
    expect(errors?.map(({ path }) => path)).toEqual(['notifications.1.title'])
  })
})

const soon = (ms: number) => new Date(Date.now() + ms).toISOString()

describe('other bodies', () => {
  const keys = { p256dh: vapid.VAPID_PUBLIC_KEY, auth: 'A'.repeat(22) }
  const night = { start: '22:00', end: '07:00', timezone: 'UTC' }
  const bodies: [method: string, path: string, body: unknown][] = [
    ...[
      {},
      { ids: [] },
      { ids: ['x'] },
      { ids: Array(501).fill(id) },
      { up_to: -1 },
      { up_to: 1.5 },
      { up_to: '1' },
      { ids: [id], up_to: 1 },
      { up_to: 1, more: 1 },
      null,
      [],
    ].map((body): [string, string, unknown] => ['POST', `${base}/read`, body]),
    ...[
      {},
      { channels: null },
      { channels: { nope: {} } },
      { channels: { '*': { sms: true } } },
      { channels: { '*': { email: 1 } } },
      { channels: { __proto__: {}, system: [] } },
      { quiet_hours: {} },
      { quiet_hours: { ...night, start: '24:00' } },
      { quiet_hours: { ...night, end: '7:00' } },
      { quiet_hours: { ...night, end: '22:00' } },
      { quiet_hours: { ...night, timezone: 'Mars/Olympus' } },
      { quiet_hours: { ...night, timezone: '' } },
      { quiet_hours: { ...night, timezone: 'a\0b' } },
      { quiet_hours: { ...night, more: 1 } },
      { channels: {}, user_id: 'bob' },
    ].map((body): [string, string, unknown] => ['PUT', `${base}/preferences`, body]),
    ...[
      {},
      { endpoint: 'https://push.example/1' },
      { endpoint: 1, keys },
      { endpoint: 'https://push.example/\0', keys },
      { endpoint: `https://push.example/${'x'.repeat(2_000)}`, keys },
      { endpoint: `https://push.example/${'字'.repeat(1_900)}`, keys },
      { endpoint: 'https://push.example/1', keys: { ...keys, auth: `${keys.auth}===` } },
      { endpoint: 'https://push.example/1', keys: { ...keys, auth: 'short' } },
      { endpoint: 'https://push.example/1', keys: { ...keys, p256dh: '+'.repeat(87) } },
      { endpoint: 'https://push.example/1', keys, user_id: 'bob' },
    ].map((body): [string, string, unknown] => ['POST', `${base}/push-subscriptions`, body]),
    ...[{}, { endpoint: '' }, { endpoint: 1 }, { endpoint: 'a\0b' }].map(
      (body): [string, string, unknown] => ['DELETE', `${base}/push-subscriptions`, body],
    ),
    ...[
      {},
      { url: 1 },
      { url: 'https://a.example/\0' },
      { url: 'https://a.example', types: [] },
      { url: 'https://a.example', types: ['nope'] },
      { url: 'https://a.example', user_id: '' },
      { url: 'https://a.example', secret: 'mine' },
    ].map((body): [string, string, unknown] => ['POST', `${inner}/webhooks`, body]),
    ...[{}, { email: 'x' }, { email: 1 }, { email: 'a@b.c\0' }, { email: 'a@b.c', more: 1 }].map(
      (body): [string, string, unknown] => ['PUT', `${inner}/contacts/ann`, body],
    ),
    ['POST', `${inner}/notifications/redrive`, { ids: [] }],
    ['POST', `${inner}/notifications/redrive`, { ids: ['x'] }],
    ['POST', `${inner}/notifications/cleanup`, { all: true }],
    ['PUT', `${inner}/contacts/a%00b`, { email: null }],
  ]
  it.each(
    bodies.map(([method, path, body]) => ({ method, path, body: JSON.stringify(body).slice(0, 3_000) })),
  )('$method $path $body', async ({ method, path, body }) => {
    await refused({ method, path, body })
  })
})

describe('query parameters', () => {
  const queries: [path: string, query: string][] = [
    ...[
      'status=x',
      'status=',
      'type=x',
      'type=__proto__',
      'limit=0',
      'limit=101',
      'limit=x',
      'limit=1e1',
      'cursor=x',
      'cursor=',
      `cursor=${'x'.repeat(201)}`,
      `cursor=${encoded('0000-01-01T00:00:00.000Z', id)}`,
      `cursor=${encoded('infinity', id)}`,
      `cursor=${encoded('2026-01-01T00:00:00.000Z', 'x')}`,
    ].map((query): [string, string] => [base, query]),
    ...[
      'cursor=',
      'cursor=x',
      'cursor=k.-1',
      'cursor=k.1.1',
      'cursor=k.1e3',
      `cursor=k.${'9'.repeat(16)}`,
      'cursor=%00.1',
      'limit=0',
      'limit=201',
    ].map((query): [string, string] => [`${base}/changes`, query]),
    ...['cursor=', 'cursor=x'].map((query): [string, string] => [`${base}/stream`, query]),
  ]
  it.each(queries)('%s?%s', async (path, query) => {
    const answer = await ask(service.origin, { token: ann.token, path: `${path}?${query}` })
    expectProblem(answer, { status: 400, code: 'invalid_request', path })
  })
})

function encoded(...fields: string[]): string {
  return Buffer.from(fields.join('\n')).toString('base64url')
}

it('nothing of what was refused was stored', async () => {
  const [counts] = await service.sql`
    select (select count(*)::int from chat.notifications) as notifications, (select count(*)::int from chat.inbox_heads) as heads,
      (select count(*)::int from chat.notification_preferences) as preferences,
      (select count(*)::int from chat.push_subscriptions) as browsers, (select count(*)::int from chat.webhook_targets) as webhooks,
      (select count(*)::int from chat.broadcasts) as broadcasts`
  expect(counts).toEqual({
    notifications: 0,
    heads: 0,
    preferences: 0,
    browsers: 0,
    webhooks: 0,
    broadcasts: 0,
  })
})

it('the biggest that is taken fits into a frame of 64 KiB, and comes back as it was', async () => {
  const emoji = '\u{1f642}'
  const body = {
    user_id: 'bob',
    type: 'announcement',
    title: emoji.repeat(200),
    body: `x${'\u0001'.repeat(3_998)}x`,
    icon: emoji.repeat(100),
    action: { label: emoji.repeat(100), url: `/${emoji.repeat(1_999)}` },
    data: { k: 'x'.repeat(16 * 1024 - 8) },
    dedupe_key: emoji.repeat(255),
  }
  const sent = await ask(service.origin, {
    method: 'POST',
    token: serviceKey,
    path: `${inner}/notifications`,
    body: JSON.stringify(body),
  })
  expect(sent.status).toBe(201)
  const bob = await service.as('bob')
  const { body: page } = await bob.get<{ notifications: Record<string, unknown>[] }>(base)
  const { user_id, dedupe_key, ...told } = body
  expect(page.notifications[0]).toMatchObject(told)
  expect(Buffer.byteLength(JSON.stringify(page.notifications[0])) + 1_000).toBeLessThan(64 * 1024)
  expect([user_id, dedupe_key.length]).toEqual(['bob', 510])
})
