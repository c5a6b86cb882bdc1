/** Deliveries to URLs that strangers chose: what is connected to, what is believed, and when it is over. */
import type { ServerResponse } from 'node:http'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  createGuardedPost,
  targetProblem,
  type GuardedPost,
  type GuardOptions,
} from '../../../src/notifications/channels/guarded-post.ts'
import { makeCertificate, type Certificate } from '../../support/certificate.ts'
import { startNameServer, type NameServer } from '../../support/name-server.ts'
import { startReceiver, type Receiver } from '../../support/receiver.ts'

const never = new AbortController().signal

let certificate: Certificate
let receiver: Receiver
let post: GuardedPost
/** What a test opened besides. */
let opened: { close(): Promise<void> }[]

beforeAll(() => {
  certificate = makeCertificate(['127.0.0.1', 'hook.test'])
})

beforeEach(async () => {
  opened = []
  receiver = await startReceiver(certificate)
  post = guarded({ allowPrivate: true })
})

afterEach(async () => {
  for (const each of opened) await each.close()
  await receiver.allClosed()
  await receiver.close()
})

function guarded(options: Partial<GuardOptions>): GuardedPost {
  const made = createGuardedPost({ allowPrivate: false, ca: certificate.cert, timeoutMs: 5_000, ...options })
  opened.push(made)
  return made
}

async function names(answer: Parameters<typeof startNameServer>[0]): Promise<NameServer> {
  const server = await startNameServer(answer)
  opened.push(server)
  return server
}

const to = (url: string) => ({
  url,
  headers: { 'content-type': 'text/plain' },
  body: 'hello',
  goneStatuses: [410],
})
const toReceiver = () => to(`${receiver.origin}/hook?a=b`)

describe('where it goes', () => {
  it('posts to this machine where private addresses are allowed', async () => {
    expect(await post(toReceiver(), never)).toEqual({ kind: 'sent' })
    expect(receiver.received).toHaveLength(1)
    expect(receiver.received[0]).toMatchObject({ method: 'POST', path: '/hook?a=b' })
    expect(receiver.received[0]?.body.toString()).toBe('hello')
  })

  it('keeps a connection for what comes next', async () => {
    for (let nth = 0; nth < 10; nth++) await post(toReceiver(), never)
    expect(receiver.received).toHaveLength(10)
    // The second may come before the first connection is seen to be free.
    expect(receiver.connections()).toBeLessThanOrEqual(2)
  })

  it.each([
    'https://127.0.0.1:PORT/',
    'https://127.1:PORT/',
    'https://2130706433:PORT/',
    'https://0x7f.0.0.1:PORT/',
    'https://0177.0.0.1:PORT/',
    'https://[::1]:PORT/',
    'https://[::ffff:127.0.0.1]:PORT/',
    'https://[0:0:0:0:0:ffff:7f00:1]:PORT/',
    'https://localhost:PORT/',
    'https://localhost.:PORT/',
    'https://hook.test:PORT/',
    'https://ⓛocalhost:PORT/',
  ])('does not even connect to this machine, spelled %s', async (url) => {
    const { address } = await names(() => ['127.0.0.1'])
    const careful = guarded({ nameServers: [address] })
    expect(await careful(to(url.replace('PORT', String(receiver.port))), never)).toEqual({
      kind: 'failed',
      why: 'address_not_allowed',
    })
    expect(receiver.connections()).toBe(0)
  })

  it.each([
    'http://hook.test/',
    'ftp://hook.test/',
    'file:///etc/passwd',
    'https://user@hook.test/',
    'https://:password@hook.test/',
    'hook.test',
    '//hook.test/',
    '',
  ])('does not even look up %j', async (url) => {
    const { address, asked } = await names(() => ['127.0.0.1'])
    const careful = guarded({ nameServers: [address], mayConnect: () => true })
    expect(await careful(to(url), never)).toEqual({ kind: 'failed', why: 'url_not_allowed' })
    expect(asked).toEqual([])
  })

  it('connects to what it checked: one look-up a connection, and a name that has changed its mind is refused', async () => {
    const { address, asked } = await names((_, nth) => (nth === 0 ? ['127.0.0.1'] : ['127.0.0.9']))
    const careful = guarded({ nameServers: [address], mayConnect: (ip) => ip === '127.0.0.1' })
    receiver.answer((response) => response.writeHead(204, { connection: 'close' }).end())
    const url = `https://hook.test:${receiver.port}/`
    expect(await careful(to(url), never)).toEqual({ kind: 'sent' })
    expect(asked.toSorted()).toEqual(['A hook.test', 'AAAA hook.test'])
    await receiver.allClosed()
    expect(await careful(to(url), never)).toEqual({ kind: 'failed', why: 'address_not_allowed' })
    expect(receiver.connections()).toBe(1)
  })

  it('connects to none of the forbidden ones where a name has allowed ones, too', async () => {
    // Nobody listens at the allowed one.
    const { address } = await names(() => ['127.0.0.1', '127.0.0.9'])
    const careful = guarded({
      nameServers: [address],
      mayConnect: (ip) => ip === '127.0.0.9',
      timeoutMs: 500,
    })
    expect(await careful(to(`https://hook.test:${receiver.port}/`), never)).toMatchObject({ kind: 'retry' })
    expect(receiver.connections()).toBe(0)
  })

  it('follows no redirect', async () => {
    const elsewhere = await startReceiver()
    for (const status of [301, 302, 303, 307, 308]) {
      receiver.answer((response) => response.writeHead(status, { location: elsewhere.origin }).end())
      expect(await post(toReceiver(), never)).toEqual({ kind: 'failed', why: 'redirected' })
    }
    expect(elsewhere.connections()).toBe(0)
    await elsewhere.close()
  })

  it('says nothing to a server whose certificate nobody vouches for', async () => {
    const distrustful = guarded({ allowPrivate: true, ca: undefined })
    expect(await distrustful(toReceiver(), never)).toEqual({ kind: 'retry', why: 'unreachable' })
    expect(receiver.received).toEqual([])
  })

  it('says nothing to a server with the certificate of another name', async () => {
    const { address } = await names(() => ['127.0.0.1'])
    const careful = guarded({ nameServers: [address], mayConnect: () => true })
    const url = `https://other.test:${receiver.port}/`
    expect(await careful(to(url), never)).toEqual({ kind: 'retry', why: 'unreachable' })
    expect(receiver.received).toEqual([])
  })
})

describe('what it makes of an answer', () => {
  const sent = { kind: 'sent' }
  const later = { kind: 'retry', why: 'unavailable' }
  const refused = { kind: 'failed', why: 'refused' }
  it.each([
    [200, sent],
    [201, sent],
    [204, sent],
    [304, { kind: 'failed', why: 'redirected' }],
    [400, refused],
    [401, refused],
    [403, refused],
    [404, refused],
    [408, later],
    [410, { kind: 'gone', why: 'gone' }],
    [413, { kind: 'failed', why: 'too_large' }],
    [425, later],
    [429, { kind: 'retry', why: 'rate_limited' }],
    [451, refused],
    [500, later],
    [502, later],
    [503, later],
    [599, later],
  ])('%i is %j', async (status, expected) => {
    receiver.answer((response) => response.writeHead(status).end(status === 204 ? '' : 'words of theirs'))
    expect(await post(toReceiver(), never)).toEqual(expected)
  })

  const nowMs = Date.parse('2026-01-02T03:04:05Z')
  const sixHoursMs = 6 * 3_600_000
  it.each([
    ['7', 7_000],
    ['0', 0],
    ['Fri, 02 Jan 2026 03:04:35 GMT', 30_000],
    ['Fri, 02 Jan 2026 03:04:00 GMT', 0],
    ['999999999999', sixHoursMs],
    ['Fri, 02 Jan 2099 03:04:00 GMT', sixHoursMs],
    ['soon', undefined],
    ['-1x', undefined],
  ])('retry-after: %s is %s ms', async (header, afterMs) => {
    const clocked = guarded({ allowPrivate: true, now: () => nowMs })
    for (const status of [429, 503]) {
      receiver.answer((response) => response.writeHead(status, { 'retry-after': header }).end())
      expect(await clocked(toReceiver(), never)).toMatchObject({ kind: 'retry', afterMs })
    }
  })
})

describe('when it is over', () => {
  const timeout = { kind: 'retry', why: 'timeout' }
  const hurried = () => guarded({ allowPrivate: true, timeoutMs: 300 })

  it('is over in time when nothing is answered', async () => {
    receiver.answer(() => undefined)
    expect(await hurried()(toReceiver(), never)).toEqual(timeout)
    await receiver.allClosed()
  })

  it('is over in time when an answer never ends to begin', async () => {
    receiver.answer(({ socket }) => {
      socket?.write('HTTP/1.1 200 OK\r\n')
      const timer = setInterval(() => socket?.write('x: y\r\n'), 20)
      socket?.on('close', () => clearInterval(timer)).on('error', () => undefined)
    })
    expect(await hurried()(toReceiver(), never)).toEqual(timeout)
    await receiver.allClosed()
  })

  it('is over in time when a name is not answered', async () => {
    const { address } = await names(() => undefined)
    const careful = guarded({ nameServers: [address], timeoutMs: 300 })
    expect(await careful(to('https://hook.test/'), never)).toEqual(timeout)
  })

  it.each([
    ['without end', (response: ServerResponse) => response.writeHead(200)],
    ['of a gigabyte', (response: ServerResponse) => response.writeHead(200, { 'content-length': 2 ** 30 })],
  ])('takes the status of an answer %s, and leaves the rest', async (_, begin) => {
    let writtenBytes = 0
    receiver.answer((response) => {
      begin(response)
      const chunk = Buffer.alloc(16_384)
      const write = () => {
        do writtenBytes += chunk.length
        while (!response.destroyed && response.write(chunk))
      }
      response.on('drain', write).on('error', () => undefined)
      write()
    })
    expect(await post(toReceiver(), never)).toEqual({ kind: 'sent' })
    await receiver.allClosed()
    // What the sockets hold on the way is more than what is read of it.
    expect(writtenBytes).toBeLessThan(16 * 1024 * 1024)
  })

  it('does not wait for an answer that stops in its middle', async () => {
    receiver.answer((response) => response.writeHead(200, { 'content-length': 10 }).write('x'))
    expect(await post(toReceiver(), never)).toEqual({ kind: 'sent' })
    await receiver.allClosed()
  })

  it('takes headers of gigabytes for no answer', async () => {
    receiver.answer(({ socket }) => {
      socket?.on('error', () => undefined)
      socket?.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(1024 * 1024)}`)
    })
    expect(await post(toReceiver(), never)).toEqual({ kind: 'retry', why: 'unreachable' })
    await receiver.allClosed()
  })

  it('is tried again where the connection is cut, or nobody is there', async () => {
    receiver.answer(({ socket }) => socket?.destroy())
    const unreachable = { kind: 'retry', why: 'unreachable' }
    expect(await post(toReceiver(), never)).toEqual(unreachable)
    expect(receiver.received).toHaveLength(1)
    const { origin } = receiver
    await receiver.close()
    expect(await post(to(origin), never)).toEqual(unreachable)
    receiver = await startReceiver(certificate)
  })

  it('ends when it is given up', async () => {
    const giveUp = new AbortController()
    receiver.answer(() => giveUp.abort())
    expect(await post(toReceiver(), giveUp.signal)).toEqual({ kind: 'retry', why: 'stopped' })
    expect(await post(toReceiver(), giveUp.signal)).toEqual({ kind: 'retry', why: 'stopped' })
    expect(receiver.received).toHaveLength(1)
  })

  it('ends when it is closed', async () => {
    receiver.answer(() => void post.close())
    expect(await post(toReceiver(), never)).toMatchObject({ kind: 'retry' })
    await receiver.allClosed()
  })
})

it('tells a route what is wrong with a URL, before anybody is asked', () => {
  const problems = (allowPrivate: boolean) =>
    ['https://hook.test/', 'http://hook.test/', 'https://10.0.0.1/', 'https://[::1]/', 'x'].map((url) =>
      targetProblem(url, allowPrivate),
    )
  expect(problems(false)).toEqual([
    undefined,
    'url_not_allowed',
    'address_not_allowed',
    'address_not_allowed',
    'url_not_allowed',
  ])
  expect(problems(true)).toEqual([undefined, undefined, undefined, undefined, 'url_not_allowed'])
})
