import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  htmlPage,
  httpError,
  jsonError,
  redirect,
  startDemoModel,
  type Behaviour,
  type DemoModel,
} from '../../src/embedded/demo-model.ts'

let demo: DemoModel

beforeAll(async () => {
  demo = await startDemoModel()
})
afterAll(() => demo.close())

function run(behaviour: Behaviour): Promise<Response> {
  demo.script(behaviour)
  const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'x' }], stream: true })
  return fetch(`${demo.baseUrl}/chat/completions`, { method: 'POST', body, redirect: 'manual' })
}

test.each([400, 401, 402, 403, 408, 429, 500, 502, 503, 524, 529, 418])('httpError(%i)', async (status) => {
  const response = await run(httpError(status))
  expect(response.status).toBe(status)
  expect(response.headers.get('content-type')).toBe('application/json')
  expect(await response.json()).toMatchObject({ error: { code: status } })
  expect(response.headers.has('x-generation-id')).toBe(false)
})

test('400 is a context that is too long', async () => {
  expect(await (await run(httpError(400))).text()).toContain('context_length_exceeded')
})

test('429 says when to come back; the free quota says so for the account', async () => {
  const provider = await run(httpError(429))
  expect(provider.headers.get('retry-after')).toBe('5')
  expect(Number(provider.headers.get('x-ratelimit-reset'))).toBeGreaterThan(Date.now())
  expect(await provider.json()).toMatchObject({ error: { metadata: { provider_name: 'Rivulet' } } })

  const account = await run(httpError(429, { freeQuota: 'per-day', headers: { 'retry-after': '1' } }))
  const reset = Number(account.headers.get('x-ratelimit-reset'))
  expect([reset % 86_400_000, account.headers.get('retry-after')]).toEqual([0, '1'])
  expect(await account.text()).toContain('free-models-per-day')
})

test('an own body, a JSON error, a page and a redirect', async () => {
  expect(await (await run(httpError(500, { body: 'oops' }))).text()).toBe('oops')
  const json = await run(jsonError({ code: 429 }))
  expect([json.status, await json.json()]).toMatchObject([200, { error: { code: 429 } }])
  const page = await run(htmlPage())
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
  const moved = await run(redirect())
  expect([moved.status, moved.headers.get('location')]).toEqual([302, '/api/v1/models'])
})

test('a script that cannot be played says so', async () => {
  const response = await run(httpError(500, { headers: { 'x-bad': 'a\nb' } }))
  expect(await response.text()).toMatch(/^demo model: .*x-bad/)
})
