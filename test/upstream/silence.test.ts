/** Upstreams that keep us waiting, that cannot be reached, or that send us elsewhere. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as demo from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'
import { representations, takeTurn } from '../support/turn.ts'

const closers: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const close of closers.reverse()) await close()
})

async function start(
  env: Record<string, string>,
  baseUrl?: string,
): Promise<{ service: Service; ann: Client }> {
  const upstream = { apiKey: 'test-upstream-key', defaultModel: demo.DEMO_MODEL_ID }
  const service = await startService({
    env,
    ...(baseUrl !== undefined && { resolved: { upstream: { ...upstream, baseUrl } } }),
  })
  closers.push(() => service.close())
  return { service, ann: await service.as('ann') }
}

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('limits of time', () => {
  let silent: { service: Service; ann: Client }
  let long: { service: Service; ann: Client }
  beforeAll(async () => {
    silent = await start({ UPSTREAM_FIRST_TEXT_TIMEOUT_MS: '400', UPSTREAM_IDLE_TIMEOUT_MS: '400' })
    long = await start({ UPSTREAM_TOTAL_TIMEOUT_MS: '600' })
  })

  const roleOnly = JSON.stringify({ choices: [{ delta: { role: 'assistant', content: '' } }] })
  const drip: demo.Step = demo.say(demo.someTokens(10_000), 20)
  const silences: {
    name: string
    behaviour: demo.Behaviour
    by: 'silence' | 'total'
    textCharsMin: number
    /** The upstream had begun: it may charge for what it read. */
    begun?: boolean
  }[] = [
    { name: 'no answer at all', behaviour: demo.hang(), by: 'silence', textCharsMin: 0, begun: false },
    {
      name: 'headers, then nothing',
      behaviour: demo.hang({ after: 'headers' }),
      by: 'silence',
      textCharsMin: 0,
    },
    {
      name: 'comments for text',
      behaviour: demo.hang({ after: 'headers', commentEveryMs: 20 }),
      by: 'silence',
      textCharsMin: 0,
    },
    {
      name: 'events without text',
      behaviour: {
        steps: Array.from({ length: 200 }, () => [
          { kind: 'data', text: roleOnly } as const,
          { kind: 'pause', ms: 20 } as const,
        ]).flat(),
      },
      by: 'silence',
      textCharsMin: 0,
    },
    { name: 'silence in the text', behaviour: demo.hang({ after: 3 }), by: 'silence', textCharsMin: 5 },
    {
      name: 'comments in the text',
      behaviour: demo.hang({ after: 3, commentEveryMs: 20 }),
      by: 'silence',
      textCharsMin: 5,
    },
    { name: 'an answer without end', behaviour: { steps: [drip] }, by: 'total', textCharsMin: 5 },
    {
      name: 'comments without end',
      behaviour: demo.hang({ after: 'headers', commentEveryMs: 20 }),
      by: 'total',
      textCharsMin: 0,
    },
  ]

  describe.each(representations)('as %s', (as) => {
    it.each(silences)(
      '$name ($by): upstream_timeout, the connection closed',
      async ({ behaviour, by, textCharsMin, begun = true }) => {
        const { service, ann } = by === 'total' ? long : silent
        service.upstream.forget()
        service.upstream.script(behaviour)
        const turn = await takeTurn(ann, await ann.conversation(), as)
        expect(turn.error?.code).toBe('upstream_timeout')
        if (as === 'json') expect(turn.status).toBe(504)
        expect(turn.assistant.status).toBe('failed')
        expect(turn.assistant.content).toBe(turn.shown)
        expect(turn.shown.length).toBeGreaterThanOrEqual(textCharsMin)
        expect(turn.assistant.usage?.source).toBe(begun ? 'estimated' : undefined)
        expect(service.upstream.requests).toHaveLength(1)
        const request = await service.upstream.nextRequest()
        await request.ended
        expect(request.closedAt).toEqual(expect.any(Number))
      },
    )

    it('reasoning counts as text: whoever thinks aloud for longer than the first-text limit is not cut', async () => {
      silent.service.upstream.forget()
      silent.service.upstream.script({
        steps: [demo.reason(demo.someTokens(8), 100), demo.say(['done']), ...demo.ending],
      })
      const turn = await takeTurn(silent.ann, await silent.ann.conversation(), as)
      expect(turn.assistant).toMatchObject({ content: 'done', status: 'complete' })
    })
  })
})

let plain: { service: Service; ann: Client }
beforeAll(async () => {
  plain = await start({})
})

describe.each(representations)('as %s', (as) => {
  it('an error page that never ends is upstream_timeout', async () => {
    const baseUrl = await listen((request, response) => {
      request.resume()
      response.writeHead(500, { 'content-type': 'text/html' }).write('<html>')
    })
    const { ann } = await start({ UPSTREAM_FIRST_TEXT_TIMEOUT_MS: '300' }, baseUrl)
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(turn.error?.code).toBe('upstream_timeout')
    expect(turn.assistant.status).toBe('failed')
  })

  it('a closed port is upstream_unavailable, and names no host', async () => {
    const baseUrl = await listen((_, response) => void response.end())
    await closers.pop()?.()
    const { ann } = await start({}, baseUrl)
    const turn = await takeTurn(ann, await ann.conversation(), as)
    expect(turn.error?.code).toBe('upstream_unavailable')
    expect(turn.error?.retry_after).toBeGreaterThanOrEqual(1)
    expect(turn.assistant).toMatchObject({ status: 'failed', content: '', usage: null })
    expect(turn.raw).not.toMatch(/ECONN|127\.0\.0\.1|localhost/i)
  })

  it.each([301, 302, 303, 307, 308])(
    'a redirect by %d is not followed: it could take our key along',
    async (status) => {
      const visits: string[] = []
      const target = await listen((request, response) => {
        visits.push(request.headers.authorization ?? 'no key')
        response.end()
      })
      const { service, ann } = plain
      service.upstream.forget()
      service.upstream.script(demo.redirect(`${target}/chat/completions`, status))
      const turn = await takeTurn(ann, await ann.conversation(), as)
      expect(turn.error?.code).toBe('upstream_error')
      expect(visits).toEqual([])
      expect(service.upstream.requests).toHaveLength(1)
    },
  )
})
