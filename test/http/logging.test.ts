/** What is never logged, at any level: tokens, keys, query strings, and what people and models wrote. */
import { pino } from 'pino'
import postgres, { type Sql } from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { createApp, type App } from '../../src/app.ts'
import { mintToken } from '../../src/auth/tokens.ts'
import {
  answer,
  DEMO_MODEL_ID,
  errorAfter,
  httpError,
  jsonError,
  raw,
  startDemoModel,
  type Behaviour,
  type DemoModel,
} from '../../src/embedded/demo-model.ts'
import { loggerOptions } from '../../src/logging.ts'
import { createClient, type Client } from '../support/client.ts'
import { ask, sendRaw } from '../support/problem.ts'
import { cloneDatabase, jwtSecret, serviceKey, testConfig } from '../support/service.ts'

/** In everything that must not be logged. */
const canary = 'cAnArY'
const apiKey = `sk-or-${canary}`

let lines: string[] = []
let upstream: DemoModel
let database: Awaited<ReturnType<typeof cloneDatabase>>
let app: App
let origin: string
let ann: Client
let sql: Sql

// Not startService: its logger has no options, and what the real one has is the question here.
beforeAll(async () => {
  database = await cloneDatabase()
  upstream = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
  app = await createApp(
    testConfig(),
    {
      databaseUrl: database.url,
      exclusive: true,
      tokenKeys: { kind: 'secrets', secrets: [jwtSecret] },
      upstream: { baseUrl: upstream.baseUrl, apiKey, defaultModel: DEMO_MODEL_ID },
      pseudonymKey: jwtSecret,
    },
    pino(loggerOptions('trace'), { write: (line: string) => void lines.push(line) }),
  )
  await app.prepared
  origin = await app.listen({ host: '127.0.0.1', port: 0 })
  ann = createClient(origin, await mintToken(jwtSecret, { sub: 'ann', hours: 1 }))
  sql = postgres(database.url, { max: 1, onnotice: () => undefined })
})
afterAll(async () => {
  await app.close(0)
  await upstream.close()
  await sql.end()
  await database.drop()
})
beforeEach(() => {
  lines = []
  upstream.forget()
})

/** @param telling what has to be in the lines: that something was logged at all. */
function expectClean(telling: RegExp): void {
  const logged = lines.join('')
  expect(logged).toMatch(telling)
  for (const secret of [canary, jwtSecret, serviceKey, ...(ann.token ?? '').split('.')])
    expect(logged).not.toContain(secret)
  // Of the request only what the serializer names: no query, no host, no address.
  for (const line of lines)
    for (const key of Object.keys((JSON.parse(line) as { req?: object }).req ?? {}))
      expect(['id', 'method', 'path']).toContain(key)
}

const send = async (content: string) =>
  ann.post(`/conversations/${await ann.conversation({ title: canary, metadata: { canary } })}/messages`, {
    content,
  })

it('a send and its answer', async () => {
  upstream.script(answer([canary, ' text'], { reasoning: [canary] }))
  expect((await send(canary)).status).toBe(200)
  expectClean(/generation_settled/)
})

it('a stream, and a viewer that leaves it', async () => {
  upstream.script(answer(canary))
  const id = await ann.conversation()
  const stream = await ann.stream(`/conversations/${id}/messages`, { content: canary })
  await stream.until(({ data }) => data.type === 'assistant_start')
  stream.drop()
  await expect.poll(() => lines.join('')).toMatch(/generation_settled/)
  expectClean(/request/)
})

it.each<[what: string, path: string]>([
  ['of a list', `/conversations?cursor=${canary}`],
  ['with a token in it', `/conversations?access_token=${canary}&ticket=${canary}`],
  ['of no route', `/nope?token=${canary}`],
  ['of a route with other methods', `/conversations/x/fork?token=${canary}`],
  ['of a URL that cannot be decoded', `/conversations/%zz?token=${canary}`],
  ['of an id that is too long', `/conversations/${'a'.repeat(300)}?token=${canary}`],
  ['behind a number sign', `/health%23?token=${canary}`],
])('a query %s', async (_what, path) => {
  await ask(origin, { path, token: ann.token })
  expectClean(/incoming request/)
})

it.each<[what: string, body: string]>([
  ['that is no JSON', `{"content":"${canary}`],
  ['with an unknown key', `{"${canary}":"${canary}"}`],
  ['with a wrong value', `{"title":["${canary}"]}`],
  ['that is too large', `{"title":"${canary.repeat(50_000)}"}`],
])('a body %s', async (_what, body) => {
  expect(
    (await ask(origin, { method: 'POST', path: '/conversations', token: ann.token, body })).status,
  ).toBeGreaterThan(399)
  expectClean(/incoming request/)
})

it.each<[what: string, headers: Record<string, string>]>([
  ['a bad token', { authorization: `Bearer ${canary}.${canary}.${canary}` }],
  ['Basic', { authorization: `Basic ${canary}` }],
  [
    'a token of another secret',
    {
      authorization: `Bearer eyJhbGciOiJIUzI1NiJ9.${Buffer.from(`{"sub":"${canary}"}`).toString('base64url')}.${canary}`,
    },
  ],
  ['a cookie', { cookie: `session=${canary}` }],
  ['a request id that is no id', { 'x-request-id': `${canary} {}` }],
  [
    'headers of all kinds',
    { 'user-agent': canary, referer: `http://localhost/?${canary}`, 'x-forwarded-for': canary },
  ],
])('%s', async (_what, headers) => {
  await ask(origin, { path: '/conversations', headers })
  expectClean(/incoming request/)
})

it('the service key, right and wrong', async () => {
  for (const token of [serviceKey, `${serviceKey}x`, canary])
    await ask(origin, { path: '/health?full=true', token })
  expectClean(/incoming request/)
})

it('bytes that are no HTTP', async () => {
  await sendRaw(origin, `${canary} ${canary}\r\nauthorization: Bearer ${canary}\r\n\r\n`)
  await ask(origin, { path: '/health' })
  expectClean(/incoming request/)
})

const echo = `Input should be shorter: [{"role":"user","content":"${canary}"}]`
it.each<[what: string, behaviour: Behaviour]>([
  ['that quotes the prompt', httpError(400, { body: { error: { code: 400, message: echo } } })],
  [
    'that is a list of validation errors',
    httpError(422, { body: { detail: [{ loc: ['body'], input: echo }] } }),
  ],
  [
    'that shows the key',
    httpError(401, { body: { error: { message: `Incorrect API key provided: ${apiKey}` } } }),
  ],
  [
    'that is a page',
    httpError(502, { body: `<h1>${canary}</h1>`, headers: { 'content-type': 'text/html' } }),
  ],
  [
    'about what was flagged',
    httpError(403, { body: { error: { message: 'flagged', metadata: { flagged_input: canary } } } }),
  ],
  ['in a 200', jsonError({ message: echo })],
  ['in the middle of the answer', errorAfter(2, { error: { message: echo } })],
  ['that is no JSON in the stream', raw([`data: {"choices":[{"delta":{"content":"${canary}"\n\n`])],
])('an error of the upstream %s', async (_what, behaviour) => {
  upstream.always(behaviour)
  expect((await send(canary)).status).toBeGreaterThan(499)
  expectClean(/generation_settled/)
})

it.each<[what: string, question: string, told: string]>([
  ['of a turn', `${canary} refused`, 'x'],
  ['of an answer that settles', canary, `${canary} refused`],
])('an error of the database, about the row %s', async (_what, question, told) => {
  upstream.script(answer(told))
  await sql.unsafe(`alter table chat.messages add constraint refusal check (content not like '%refused')`)
  try {
    expect((await send(question)).status).toBe(500)
  } finally {
    await sql.unsafe('alter table chat.messages drop constraint refusal')
  }
  expectClean(/23514/)
})

it('an error of the database whose very words quote the row', async () => {
  await sql.unsafe(`create function chat.refuse() returns trigger language plpgsql as
    $$ begin perform (new.content)::int; return new; end $$`)
  await sql.unsafe(
    'create trigger refuse before insert on chat.messages for each row execute function chat.refuse()',
  )
  try {
    expect((await send(canary)).status).toBe(500)
  } finally {
    await sql.unsafe('drop function chat.refuse cascade')
  }
  expectClean(/22P02/)
})
