/** The playground's routes: who gets what, and above all who does not. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { pino } from 'pino'
import { describe, expect, it, onTestFinished } from 'vitest'
import { authenticate, createServiceKeyCheck } from '../../src/auth/authenticate.ts'
import { createTokenVerifier, mintToken } from '../../src/auth/tokens.ts'
import { registerJsonBodies } from '../../src/http/body.ts'
import { registerErrorHandler } from '../../src/http/error-handler.ts'
import { registerOpenapi, registerOpenapiPage } from '../../src/http/openapi.ts'
import { registerSecurity } from '../../src/http/security.ts'
import { createServer } from '../../src/http/server.ts'
import type { NewNotification } from '../../src/notifications/inbox.ts'
import { playgroundRoutes, type PlaygroundOptions } from '../../src/playground/routes.ts'
import { createClient } from '../support/client.ts'
import { jwtSecret, startService } from '../support/service.ts'

const secret = 'a-secret-of-this-installation-alone'
const actions = ['/playground/token', '/playground/notify', '/playground/room']

type Answer = Awaited<ReturnType<FastifyInstance['inject']>>

interface Playground {
  http: FastifyInstance
  notified: NewNotification[]
  admitted: [room: string, userId: string][]
  /** From a page of this server, unless it is told otherwise. */
  post: (url: string, body: unknown, also?: InjectOptions) => Promise<Answer>
}

/** The edge as app.ts has it, around the playground alone. */
async function openPlayground(options: Partial<PlaygroundOptions> = {}): Promise<Playground> {
  const notified: NewNotification[] = []
  const admitted: Playground['admitted'] = []
  const http = createServer({
    log: pino({ level: 'silent' }),
    trustedProxies: ['loopback'],
    origins: undefined,
    mayUpgrade: () => false,
  })
  onTestFinished(() => http.close())
  // An injected request has no such, a real one has.
  http.addHook('onRequest', async ({ raw }) => {
    Object.defineProperty(raw, 'headersDistinct', { value: {} })
  })
  registerErrorHandler(http)
  registerJsonBodies(http)
  await registerSecurity(http, undefined)
  await http.register(authenticate, {
    verifier: await createTokenVerifier({ kind: 'secrets', secrets: [secret] }, {}),
    isServiceKey: createServiceKeyCheck([], 32),
    countFailure: () => Promise.resolve(),
  })
  await registerOpenapi(http)
  await http.register(playgroundRoutes, {
    nodeEnv: 'development',
    basePath: '/api/chat',
    embeddedSecret: secret,
    issuer: undefined,
    audience: undefined,
    notify(entries) {
      notified.push(...entries)
      return Promise.resolve(entries.map(({ userId }) => ({ userId, id: 'n1', outcome: 'new', seq: 1 })))
    },
    admit(room, userId) {
      admitted.push([room, userId])
      return Promise.resolve()
    },
    ...options,
  })
  await registerOpenapiPage(http)
  return {
    http,
    notified,
    admitted,
    post(url, body, also = {}) {
      const headers = {
        host: 'localhost:3006',
        origin: 'http://localhost:3006',
        'content-type': 'application/json',
        ...also.headers,
      }
      // undefined leaves a header out.
      const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
      return http.inject({ method: 'POST', url, payload: JSON.stringify(body), ...also, headers: sent })
    },
  }
}

const bearer = async (sub: string) => ({
  authorization: `Bearer ${await mintToken(secret, { sub, hours: 1 })}`,
})

describe('where it is', () => {
  it('is nowhere in production', async () => {
    const { http, post } = await openPlayground({ nodeEnv: 'production' })
    for (const url of ['/playground/realtime', '/playground/realtime.css', '/playground/realtime-page.ts'])
      expect((await http.inject(url)).statusCode).toBe(404)
    for (const url of actions) expect((await post(url, { sub: 'ann' })).statusCode).toBe(404)
  })

  it.each(['development', 'test'] as const)('is a page in %s', async (nodeEnv) => {
    const { http } = await openPlayground({ nodeEnv })
    expect((await http.inject('/playground/realtime')).statusCode).toBe(200)
  })

  it('mints, sends and admits nothing where keys are configured, and its page says so', async () => {
    const { http, post } = await openPlayground({ embeddedSecret: undefined })
    expect((await http.inject('/playground/realtime')).body).toContain('data-tokens="pasted"')
    for (const url of actions)
      expect((await post(url, { sub: 'ann' }, { headers: await bearer('ann') })).statusCode).toBe(404)
  })
})

describe('what it does for a page of this server', () => {
  it('mints a token that this server takes', async () => {
    const { post, notified } = await openPlayground()
    const minted = await post('/playground/token', { sub: 'ann' })
    expect([minted.statusCode, minted.headers['cache-control']]).toEqual([200, 'no-store'])
    const { token } = minted.json<{ token: string }>()
    const sent = await post(
      '/playground/notify',
      { title: 'Hi' },
      { headers: { authorization: `Bearer ${token}` } },
    )
    expect([sent.statusCode, notified[0]?.userId]).toEqual([201, 'ann'])
  })

  it('sends to the token’s own user, into the inbox alone', async () => {
    const { post, notified } = await openPlayground()
    const headers = await bearer('ben')
    const sent = await post(
      '/playground/notify',
      {
        title: 'Half',
        type: 'assessment_progress',
        priority: 'high',
        progress: 50,
        dedupe_key: 'a',
        data: { x: 1 },
      },
      { headers },
    )
    expect(sent.json()).toEqual({ notification_id: 'n1', outcome: 'new', seq: 1 })
    expect(notified).toEqual([
      {
        userId: 'ben',
        content: {
          type: 'assessment_progress',
          priority: 'high',
          template: null,
          title: 'Half',
          body: '',
          icon: null,
          color: null,
          action: null,
          data: { x: 1 },
          progress: 50,
          channels: ['in_app'],
        },
        dedupeKey: 'a',
        scheduledAt: null,
      },
    ])
  })

  it('schedules what is to come later', async () => {
    const { post, notified } = await openPlayground()
    const earliestMs = Date.now() + 5_000
    await post('/playground/notify', { title: 'Later', delay_s: 5 }, { headers: await bearer('ann') })
    const atMs = Date.parse(notified[0]?.scheduledAt ?? '')
    expect(atMs).toBeGreaterThanOrEqual(earliestMs)
    expect(atMs).toBeLessThanOrEqual(Date.now() + 5_000)
  })

  it('lets the token’s own user into rooms of the playground alone', async () => {
    const { post, admitted } = await openPlayground()
    const headers = await bearer('ann')
    const rooms = ['playground:lobby', 'team:design', 'conversation:x', 'playground:', 'user:ben']
    const statuses: number[] = []
    for (const room of rooms)
      statuses.push((await post('/playground/room', { room }, { headers })).statusCode)
    expect(statuses).toEqual([204, 400, 400, 400, 400])
    expect(admitted).toEqual([['playground:lobby', 'ann']])
  })

  it.each([
    ['/playground/token', {}],
    ['/playground/token', { sub: '' }],
    ['/playground/token', { sub: 'a\0b' }],
    ['/playground/token', { sub: 'ann', tier: 'premium' }],
    ['/playground/notify', { title: 'Hi', user_id: 'ben' }],
    ['/playground/notify', { title: '' }],
    ['/playground/notify', { title: 'Hi', type: 'nonsense' }],
    ['/playground/notify', { title: 'Hi', progress: 101 }],
    ['/playground/notify', { title: 'Hi', channels: ['email'] }],
    ['/playground/notify', { title: 'Hi', delay_s: 3_601 }],
  ])('%s %j is 400', async (url, body) => {
    const { post, notified } = await openPlayground()
    expect((await post(url, body, { headers: await bearer('ann') })).statusCode).toBe(400)
    expect(notified).toEqual([])
  })

  it.each(['/playground/notify', '/playground/room'])('%s asks who it is', async (url) => {
    const { post, notified, admitted } = await openPlayground()
    const body = url.endsWith('room') ? { room: 'playground:lobby' } : { title: 'Hi' }
    expect((await post(url, body)).statusCode).toBe(401)
    const foreign = await mintToken('another-secret-than-that-of-this-one', { sub: 'ann', hours: 1 })
    const headers = { authorization: `Bearer ${foreign}` }
    expect((await post(url, body, { headers })).statusCode).toBe(401)
    expect([notified, admitted]).toEqual([[], []])
  })
})

/** Bodies that are right: only who asks, and from where, is wrong. */
const bodies: Record<string, object> = {
  '/playground/token': { sub: 'ann' },
  '/playground/notify': { title: 'Hi' },
  '/playground/room': { room: 'playground:lobby' },
}

describe.each(actions)('%s', (url) => {
  const asked = async (playground: Playground, also: InjectOptions) =>
    playground.post(url, bodies[url], {
      ...also,
      headers: { ...(await bearer('ann')), ...also.headers },
    })

  it.each<[what: string, also: InjectOptions]>([
    ['a page of this server by its name', {}],
    ['one by its address', { headers: { host: '127.0.0.1:3006', origin: 'http://127.0.0.1:3006' } }],
    ['one over IPv6', { headers: { host: '[::1]:3006', origin: 'http://[::1]:3006' }, remoteAddress: '::1' }],
    ['one over IPv4 in IPv6', { remoteAddress: '::ffff:127.0.0.1' }],
    ['a browser that says where from', { headers: { 'sec-fetch-site': 'same-origin' } }],
    ['a program, which has no origin', { headers: { origin: undefined } }],
  ])('answers %s', async (_what, also) => {
    const answer = await asked(await openPlayground(), also)
    expect(answer.statusCode).toBeLessThan(300)
  })

  it.each<[what: string, also: InjectOptions]>([
    ['another machine', { remoteAddress: '10.0.0.5' }],
    ['another machine over IPv6', { remoteAddress: 'fd00::5' }],
    [
      'another machine that calls us localhost, and names itself loopback',
      {
        remoteAddress: '10.0.0.5',
        headers: { 'x-forwarded-for': '127.0.0.1' },
      },
    ],
    [
      'another name for this address (rebinding)',
      {
        headers: { host: 'rebound.example:3006', origin: 'http://rebound.example:3006' },
      },
    ],
    ['another name, by a program', { headers: { host: 'rebound.example', origin: undefined } }],
    ['a name that begins like ours', { headers: { host: 'localhost.example', origin: undefined } }],
    ['a name that ends like ours', { headers: { host: 'x.localhost', origin: undefined } }],
    ['a page of another site', { headers: { origin: 'https://evil.example' } }],
    ['a page of nowhere', { headers: { origin: 'null' } }],
    ['a page of another port of this machine', { headers: { origin: 'http://localhost:5173' } }],
    ['a page under another of our names', { headers: { origin: 'http://127.0.0.1:3006' } }],
    [
      'a page of another site that hides its origin',
      {
        headers: { origin: undefined, 'sec-fetch-site': 'cross-site' },
      },
    ],
    ['a page of a neighbour', { headers: { origin: undefined, 'sec-fetch-site': 'same-site' } }],
    ['somebody behind a proxy on this machine', { headers: { 'x-forwarded-for': '203.0.113.9' } }],
    ['somebody behind a proxy that says so otherwise', { headers: { forwarded: 'for=203.0.113.9' } }],
    ['somebody behind nginx', { headers: { 'x-real-ip': '203.0.113.9' } }],
  ])('refuses %s, and does nothing', async (_what, also) => {
    const playground = await openPlayground()
    const answer = await asked(playground, also)
    expect([answer.statusCode, answer.json<{ code: string }>().code]).toEqual([403, 'forbidden'])
    expect([playground.notified, playground.admitted]).toEqual([[], []])
    expect(answer.headers['access-control-allow-origin']).toBe(undefined)
  })

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', undefined])(
    'refuses a body of type %s, as forms of other sites send it',
    async (type) => {
      const playground = await openPlayground()
      const answer = await asked(playground, { headers: { 'content-type': type } })
      expect(answer.statusCode).toBe(415)
      expect([playground.notified, playground.admitted]).toEqual([[], []])
    },
  )

  it('lets no other page read its answer', async () => {
    const answer = await asked(await openPlayground(), {})
    expect(answer.headers['access-control-allow-origin']).toBe(undefined)
  })
})

it('refuses over a real connection too whoever calls it by another name', async () => {
  const { http } = await openPlayground()
  const origin = await http.listen({ host: '127.0.0.1', port: 0 })
  const ask = (headers: Record<string, string>) =>
    fetch(`${origin}/playground/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ sub: 'ann' }),
    })
  expect((await ask({ origin })).status).toBe(200)
  expect((await ask({ origin: 'https://evil.example' })).status).toBe(403)
})

describe('in the whole service', () => {
  it('what it sends to the bearer of a token that it made is in their inbox', async () => {
    const service = await startService({ resolved: { embeddedSecret: jwtSecret } })
    onTestFinished(() => service.close())
    const { body } = await service.anonymous.request<{ token: string }>('POST', '/playground/token', {
      sub: 'ann',
    })
    const ann = createClient(service.origin, body.token)
    expect((await ann.post('/playground/notify', { title: 'Hi' })).status).toBe(201)
    const list = await ann.get<{ notifications: { title: string }[] }>('/api/chat/notifications')
    expect(list.body.notifications.map(({ title }) => title)).toEqual(['Hi'])
  })

  it('it does nothing with keys that are configured, and its page is there', async () => {
    const service = await startService()
    onTestFinished(() => service.close())
    const { anonymous } = service
    expect((await anonymous.get('/playground/realtime')).status).toBe(200)
    for (const url of actions) expect((await anonymous.post(url, bodies[url])).status).toBe(404)
  })
})

describe('the page', () => {
  it('lets itself load and ask nothing but this server', async () => {
    const { http } = await openPlayground()
    const { headers, body } = await http.inject('/playground/realtime')
    expect(headers['content-type']).toBe('text/html; charset=utf-8')
    expect(headers['content-security-policy']).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
    expect(body).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/)
    expect(body).toContain('data-api="/api/chat" data-tokens="minted"')
  })

  it('brings all that it refers to, and its scripts all that they import', async () => {
    const { http } = await openPlayground()
    const { body } = await http.inject('/playground/realtime')
    const todo = [...body.matchAll(/(?:src|href)="(\/playground\/[^"]+)"/g)].map(([, url = '']) => url)
    const seen = new Set<string>()
    for (let url = todo.shift(); url !== undefined; url = todo.shift()) {
      if (seen.has(url)) continue
      seen.add(url)
      const { statusCode, headers, body: script } = await http.inject(url)
      const type = url.endsWith('.css') ? 'text/css' : 'text/javascript'
      expect([url, statusCode, headers['content-type']]).toEqual([url, 200, `${type}; charset=utf-8`])
      for (const [, target = ''] of script.matchAll(/\bfrom '([^']+)'/g))
        todo.push(new URL(target, `http://x${url}`).pathname)
    }
    expect(seen.size).toBe(8)
  })

  it('has every part that its scripts look for', () => {
    const folder = join(import.meta.dirname, '../../src/playground')
    const read = (file: string) => readFileSync(join(folder, file), 'utf8')
    const page = read('realtime.html')
    const scripts = read('realtime-view.ts') + read('realtime-page.ts')
    const parts = [...scripts.matchAll(/\b(?:part|partOf)\('([a-z-]+)'/g)].map(([, name]) => name)
    const ids = [...scripts.matchAll(/find\(document, '#([a-z-]+)'\)/g)].map(([, id]) => id)
    expect(parts.length).toBeGreaterThan(20)
    expect(parts.filter((name) => !page.includes(`data-part="${name ?? ''}"`))).toEqual([])
    expect(ids.filter((id) => !page.includes(`id="${id ?? ''}"`))).toEqual([])
  })

  it('answers HEAD, and is no part of OpenAPI', async () => {
    const { http } = await openPlayground()
    for (const url of ['/playground/realtime', '/playground/realtime.css', '/playground/realtime-page.ts']) {
      const head = await http.inject({ method: 'HEAD', url })
      expect([head.statusCode, head.body]).toEqual([200, ''])
    }
    const { paths } = (await http.inject('/docs/openapi.json')).json<{ paths?: object }>()
    expect(Object.keys(paths ?? {})).toEqual([])
  })
})
