/** Who may open a socket, and how everybody else is answered: completely, as on every other route. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mintToken } from '../../src/auth/tokens.ts'
import { ask, expectProblem, sendRaw } from '../support/problem.ts'
import { opcodes, rawFrame } from '../support/frames.ts'
import { jwtSecret, serviceKey, startService, type Service } from '../support/service.ts'
import { openSocket, Refused, type SocketOptions } from '../support/socket.ts'
import { startUnready } from '../support/unready.ts'

const logs: Record<string, unknown>[] = []
let service: Service
let token: string

beforeAll(async () => {
  service = await startService({ logs })
  token = (await service.as('ann')).token ?? ''
})
afterAll(() => service.close())

const path = '/api/chat/ws'

/** How an upgrade is refused. Fails where it is not. */
async function refusal(options: SocketOptions = {}, origin = service.origin): Promise<Refused> {
  const error: unknown = await openSocket(origin, options).then(
    () => new Error('it was let in'),
    (reason: unknown) => reason,
  )
  if (!(error instanceof Refused)) throw error
  return error
}

const upgradeHead = (target: string, ...headers: string[]) =>
  [
    `GET ${target} HTTP/1.1`,
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ...headers,
    '\r\n',
  ].join('\r\n')

const countSockets = async (): Promise<number> => {
  const { body } = await fetchMetrics()
  return Number(/^rivulet_sockets (\d+)$/m.exec(body)?.[1])
}
async function fetchMetrics(): Promise<{ body: string }> {
  const response = await fetch(`${service.origin}/metrics`, {
    headers: { authorization: `Bearer ${serviceKey}` },
  })
  return { body: await response.text() }
}

describe('a request that is no WebSocket', () => {
  it('is told what is needed: 426', async () => {
    const answer = await ask(service.origin, { path, token })
    expectProblem(answer, { status: 426, code: 'upgrade_required', path })
    expect(answer.headers.get('upgrade')).toBe('websocket')
  })

  it('of another method is 405, of another path what it would be without an upgrade', async () => {
    expectProblem(await ask(service.origin, { method: 'POST', path, token, body: '{}' }), {
      status: 405,
      code: 'method_not_allowed',
      path,
    })
    const elsewhere = await sendRaw(service.origin, upgradeHead('/api/chat/elsewhere', 'Connection: close'))
    expect([elsewhere.status, JSON.parse(elsewhere.text)]).toMatchObject([404, { code: 'route_not_found' }])
    const known = await sendRaw(service.origin, upgradeHead('/api/chat/conversations', 'Connection: close'))
    expect([known.status, JSON.parse(known.text)]).toMatchObject([401, { code: 'unauthorized' }])
  })

  it('asks for HTTP/2, as the client of Java does of every server: it is answered by HTTP/1.1, with its body', async () => {
    const body = '{"title":"from Java"}'
    const answer = await sendRaw(
      service.origin,
      [
        'POST /api/chat/conversations HTTP/1.1',
        'Host: localhost',
        'Connection: Upgrade, HTTP2-Settings, close',
        'Upgrade: h2c',
        'HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA',
        `Authorization: Bearer ${token}`,
        'Content-Type: application/json',
        `Content-Length: ${body.length}`,
        '',
        body,
      ].join('\r\n'),
    )
    expect([answer.status, JSON.parse(answer.text)]).toMatchObject([201, { title: 'from Java' }])
  })
})

describe('an upgrade that is none', () => {
  const authorization = () => `Authorization: Bearer ${token}`
  it.each<[string, number, string, string[]]>([
    ['of another version', 426, 'upgrade_required', ['Sec-WebSocket-Version: 12']],
    ['without a version', 426, 'upgrade_required', ['Sec-WebSocket-Version:']],
    ['without a key', 400, 'invalid_request', ['Sec-WebSocket-Key:']],
    ['with a key that is none', 400, 'invalid_request', ['Sec-WebSocket-Key: short']],
    ['with protocols that are none', 400, 'invalid_request', ['Sec-WebSocket-Protocol: a b']],
    [
      'with the same protocol twice',
      400,
      'invalid_request',
      ['Sec-WebSocket-Protocol: rivulet.v1, rivulet.v1'],
    ],
    ['with two cursors', 400, 'invalid_request', []],
  ])('%s: %i', async (name, status, code, changed) => {
    const target = name === 'with two cursors' ? `${path}?cursor=a.1&cursor=b.2` : path
    const replaced = changed.map((line) => line.slice(0, line.indexOf(':')))
    const lines = upgradeHead(target, authorization())
      .split('\r\n')
      .filter((line) => !replaced.some((header) => line.startsWith(`${header}:`)))
    lines.splice(1, 0, ...changed)
    const answer = await sendRaw(service.origin, lines.join('\r\n'))
    expect([answer.status, JSON.parse(answer.text)]).toMatchObject([status, { code }])
    expect(answer.headers.get('connection')).toBe('close')
  })
})

describe('who asks', () => {
  it('and proves nothing is told so: a whole answer, with what every answer has', async () => {
    const { status, headers, body } = await refusal()
    expect(status).toBe(401)
    expect(Object.fromEntries(headers)).toMatchObject({
      'www-authenticate': 'Bearer',
      connection: 'close',
      'content-type': 'application/problem+json; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none';frame-ancestors 'none'",
      'x-request-id': body['request_id'],
    })
    expect(body).toMatchObject({ status: 401, code: 'unauthorized', instance: path })
  })

  it('proves it by a token in a header only: in the address it is none', async () => {
    for (const query of ['ticket', 'token', 'access_token', 'authorization', 'jwt']) {
      const answer = await sendRaw(service.origin, upgradeHead(`${path}?${query}=${token}`))
      expect(answer.status, query).toBe(401)
    }
    const socket = await openSocket(service.origin, { token })
    expect(await socket.hello()).toMatchObject({ mode: 'fresh' })
  })

  it('with a token that is over, or a key of a service, is refused', async () => {
    const expired = await mintToken(jwtSecret, { sub: 'ann', hours: -1 })
    expect((await refusal({ token: expired })).status).toBe(401)
    expect((await refusal({ token: 'nonsense' })).status).toBe(401)
    expect((await refusal({ token: serviceKey })).body).toMatchObject({ status: 403, code: 'forbidden' })
  })

  it('from a page of a foreign origin is refused, with a token too; of this machine it is not, while developing', async () => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example', 'file://'])
      expect((await refusal({ token, origin })).body).toMatchObject({ status: 403, code: 'forbidden' })
    const socket = await openSocket(service.origin, { token, origin: 'http://localhost:5173' })
    await socket.live()
  })
})

describe('subprotocols', () => {
  it('rivulet.v1 is chosen wherever it is offered, and none is fine', async () => {
    const chosen = await openSocket(service.origin, { token, protocols: ['other.v9', 'rivulet.v1'] })
    expect(chosen.ws.protocol).toBe('rivulet.v1')
    const none = await openSocket(service.origin, { token, protocols: [] })
    expect(none.ws.protocol).toBe('')
    await Promise.all([chosen.live(), none.live()])
  })

  it('others alone are accepted, so that a browser can read why it is closed: 4505', async () => {
    const socket = await openSocket(service.origin, { token, protocols: ['rivulet.v9', 'other'] })
    expect(socket.ws.protocol).toBe('rivulet.v9')
    expect(await socket.closed).toEqual({ code: 4505, reason: 'version' })
    expect(socket.frames).toEqual([])
  })
})

describe('a client on a bad line', () => {
  it('that is gone before it is let in leaves nothing', async () => {
    const before = logs.length
    for (let n = 0; n < 60; n++) {
      const socket = connect({ port: Number(new URL(service.origin).port), host: '127.0.0.1' })
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write(
        upgradeHead(
          n % 2 === 0 ? path : `${path}?ticket=nothing`,
          ...(n % 2 === 0 ? [`Authorization: Bearer ${token}`] : []),
        ),
      )
      if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      if (n % 4 === 0) socket.resetAndDestroy()
      else if (n % 4 === 1) socket.destroy()
      else socket.end()
    }
    const socket = await openSocket(service.origin, { token: (await service.as('bob')).token })
    await socket.live()
    await socket.close()
    await expect.poll(countSockets, { timeout: 10_000 }).toBe(0)
    expect(logs.slice(before).filter(({ level }) => Number(level) >= 50)).toEqual([])
  })

  it('that sends its first frame right behind its request is answered', async () => {
    const socket = connect({ port: Number(new URL(service.origin).port), host: '127.0.0.1' })
    socket.write(
      Buffer.concat([
        Buffer.from(upgradeHead(path, `Authorization: Bearer ${token}`)),
        rawFrame({ opcode: opcodes.text, payload: '{"op":"ping","rid":"early"}' }),
      ]),
    )
    let text = ''
    for await (const bytes of socket as AsyncIterable<Buffer>) {
      text += bytes.toString('latin1')
      if (text.includes('"early"')) break
    }
    // Greeted first.
    expect(text).toMatch(/^HTTP\/1.1 101[^]*"op":"hello"[^]*"rid":"early"/)
  })

  it('that does not wait for an answer before it asks for an upgrade is cut, and costs nobody else anything', async () => {
    const list = `GET /api/chat/conversations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`
    const upgrade = upgradeHead(path, `Authorization: Bearer ${token}`)
    for (const bytes of [list + upgrade, list + list + upgrade, upgrade + list, upgrade + upgrade]) {
      const socket = connect({ port: Number(new URL(service.origin).port), host: '127.0.0.1' })
      socket.on('error', () => undefined)
      socket.write(bytes)
      let text = ''
      socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
      await Promise.race([once(socket, 'close'), once(socket, 'data')])
      expect(text).toMatch(/^(HTTP\/1.1 (101|200) |$)/)
      socket.destroy()
    }
    await (await openSocket(service.origin, { token })).live()
  })

  it.each<[string, (head: string) => string]>([
    ['with a body', (head) => head.replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\nhello')],
    [
      'with a body in chunks',
      (head) => head.replace('\r\n\r\n', '\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'),
    ],
    ['that expects something', (head) => head.replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n')],
    ['of HTTP/1.0', (head) => head.replace('HTTP/1.1', 'HTTP/1.0')],
    ['without a host', (head) => head.replace('Host: localhost\r\n', '')],
    ['to a proxy', (head) => head.replace(' /api', ' http://elsewhere/api')],
    ['of a path with a slash', (head) => head.replace('/ws ', '/ws/ ')],
    ['of a path in disguise', (head) => head.replace('/ws ', '/%77s ')],
    ['of a path that is none', (head) => head.replace('/ws ', '/ws%zz ')],
    ['with a query that is none', (head) => head.replace('/ws ', '/ws?ticket=%zz&cursor=%00&%ff ')],
    ['of two minds', (head) => head.replace('Upgrade: websocket', 'Upgrade: h2c, websocket')],
    ['in capitals', (head) => head.replace('Upgrade: websocket', 'Upgrade: WEBSOCKET')],
    [
      'with two keys',
      (head) => head.replace('Sec-WebSocket-Key', 'Sec-WebSocket-Key: x\r\nSec-WebSocket-Key'),
    ],
    [
      'with extensions that are none',
      (head) => head.replace('\r\n\r\n', '\r\nSec-WebSocket-Extensions: ;;,=\r\n\r\n'),
    ],
    ['that is cut off', (head) => head.slice(0, -2)],
  ])('%s gets an answer or is cut, and costs nobody else anything', async (_, change) => {
    const socket = connect({ port: Number(new URL(service.origin).port), host: '127.0.0.1' })
    socket.on('error', () => undefined)
    socket.write(change(upgradeHead(path, `Authorization: Bearer ${token}`)))
    let text = ''
    socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
    socket.end()
    await Promise.race([once(socket, 'close'), once(socket, 'data')])
    expect(text).toMatch(/^(HTTP\/1.1 (101|400|401|404|426|431) |$)/)
    socket.destroy()
    await (await openSocket(service.origin, { token })).live()
  })

  it('that sends frames behind a request that is refused reads why', async () => {
    const answer = await sendRaw(
      service.origin,
      Buffer.concat([
        Buffer.from(upgradeHead(path)),
        rawFrame({ opcode: opcodes.text, payload: 'x'.repeat(200_000) }),
      ]),
    )
    expect([answer.status, JSON.parse(answer.text)]).toMatchObject([401, { code: 'unauthorized' }])
  })
})

describe('an instance that cannot', () => {
  it('since all places are taken says 503 and when to come again; a place that is left is given away', async () => {
    const small = await startService({ env: { MAX_SOCKETS: '2' } })
    try {
      const open = async (user: string) => openSocket(small.origin, { token: (await small.as(user)).token })
      const [one] = [await open('ann'), await open('bob')]
      const { body, headers } = await refusal({ token: (await small.as('eve')).token }, small.origin)
      expect(body).toMatchObject({ status: 503, code: 'overloaded', retry_after: 10 })
      expect(headers.get('retry-after')).toBe('10')
      // A ticket is not used up by that.
      const ticket = String(
        (await (await small.as('eve')).post('/api/chat/ticket', { for: 'socket' })).body['ticket'],
      )
      expect((await refusal({ ticket }, small.origin)).status).toBe(503)
      await one.close()
      const socket = await openSocket(small.origin, { ticket })
      await socket.live()
    } finally {
      await small.close()
    }
  })

  it('since it stops says 503, and closes all with 1012: those too who do not answer', async () => {
    const stopped = await startService()
    const tokenOf = async (user: string) => (await stopped.as(user)).token ?? ''
    const polite = await openSocket(stopped.origin, { token: await tokenOf('ann') })
    await polite.live()
    // A client that reads nothing and says no goodbye.
    const deaf = connect({ port: Number(new URL(stopped.origin).port), host: '127.0.0.1' })
    deaf.write(upgradeHead(path, `Authorization: Bearer ${await tokenOf('bob')}`))
    await once(deaf, 'readable')
    const late = await tokenOf('eve')
    const startedAtMs = performance.now()
    const closing = stopped.close()
    expect(await polite.closed).toEqual({ code: 1012, reason: 'restart' })
    expect((await refusal({ token: late }, stopped.origin)).body).toMatchObject({
      status: 503,
      code: 'shutting_down',
      retry_after: 1,
    })
    await closing
    expect(performance.now() - startedAtMs).toBeLessThan(10_000)
    deaf.destroy()
  })

  it('since its database is away says 503, before and after it was there', async () => {
    const unready = await startUnready('postgres://nobody@127.0.0.1:9/nothing')
    try {
      const { port } = unready.app.http.server.address() as { port: number }
      const { body } = await refusal({ token: unready.ann.token }, `http://127.0.0.1:${port}`)
      expect(body).toMatchObject({ status: 503, code: 'database_unavailable' })
      expect(body['retry_after']).toEqual(expect.any(Number))
    } finally {
      await unready.close()
    }
  })
})

describe('who fails too often', () => {
  it('to prove anything is told so by address: 429', async () => {
    const strict = await startService({ env: { RATE_LIMIT_BAD_TOKENS_PER_MINUTE: '3' } })
    try {
      for (let n = 0; n < 3; n++)
        expect((await refusal({ ticket: `guess-${n}` }, strict.origin)).status).toBe(401)
      const { body, headers } = await refusal({ ticket: 'guess-4' }, strict.origin)
      expect(body).toMatchObject({ status: 429, code: 'rate_limited' })
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
      // Who proves it is let in all the same.
      await (await openSocket(strict.origin, { token: (await strict.as('ann')).token })).live()
    } finally {
      await strict.close()
    }
  })

  it('comes back is told so, by user: sockets opened with a token count as tickets do', async () => {
    const strict = await startService({ env: { RATE_LIMIT_TICKETS_PER_MINUTE: '3' } })
    try {
      const [ann, bob] = [await strict.as('ann'), await strict.as('bob')]
      await (await openSocket(strict.origin, { token: ann.token })).close()
      const issued = await ann.post<{ ticket: string }>('/api/chat/ticket', { for: 'socket' })
      expect(issued.headers.get('ratelimit-remaining')).toBe('1')
      await (await openSocket(strict.origin, { ticket: issued.body.ticket })).close()
      await (await openSocket(strict.origin, { token: ann.token })).close()
      expect((await refusal({ token: ann.token }, strict.origin)).body).toMatchObject({
        status: 429,
        code: 'rate_limited',
      })
      const refused = await ann.post('/api/chat/ticket', { for: 'socket' })
      expect([refused.status, refused.body['code']]).toEqual([429, 'rate_limited'])
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
      await (await openSocket(strict.origin, { token: bob.token })).live()
    } finally {
      await strict.close()
    }
  })
})
