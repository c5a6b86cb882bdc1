/** E-mail: what a mail server hears and what it is answered, over real SMTP. */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SendingChannel } from '../../../src/notifications/channels/channel.ts'
import {
  createEmailChannel,
  type EmailOptions,
  type EmailTarget,
} from '../../../src/notifications/channels/email.ts'
import { makeCertificate } from '../../support/certificate.ts'
import { outgoing } from '../../support/outgoing.ts'
import { startMailServer, type Letter, type MailServer } from '../../support/smtp.ts'

const ann = { address: 'ann@example.com' }
const never = new AbortController().signal
/** Longer than a test may take: what ends sooner was ended by something else. */
const patient = { connectMs: 120_000, silenceMs: 120_000, totalMs: 120_000 }

let server: MailServer
let channel: SendingChannel<EmailTarget>

beforeEach(async () => {
  server = await startMailServer()
  channel = channelTo(server.url, { timeouts: patient })
})

afterEach(async () => {
  await channel.close()
  await server.allClosed()
  await server.close()
})

const channelTo = (smtpUrl: string, options: Partial<EmailOptions> = {}) =>
  createEmailChannel({ smtpUrl, from: 'Rivulet <hello@chat.example>', ...options })

const theLetter = (): Letter => {
  const [letter, ...more] = server.letters
  if (letter === undefined || more.length > 0) throw new Error(`${server.letters.length} letters`)
  return letter
}
const header = (name: string) => theLetter().headers.get(name)
const part = (type: string) => theLetter().parts.get(type) ?? ''

describe('a letter that is taken', () => {
  it('goes to the one address, from ours, as text and as HTML', async () => {
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'sent' })
    expect(theLetter()).toMatchObject({ from: 'hello@chat.example', to: ['ann@example.com'] })
    expect(header('from')).toBe('Rivulet <hello@chat.example>')
    expect(header('to')).toBe('ann@example.com')
    expect(header('subject')).toBe('Ben wrote to you')
    expect(part('text/plain')).toContain('Shall we talk about it?')
    expect(part('text/html')).toContain('<p style="margin:0 0 16px">Shall we talk about it?</p>')
  })

  it.each(['jürgen@example.com', 'ann@exämple.com', "o'ann+x_y=z@a-b.example", 'ann@localhost'])(
    'goes to %s, too',
    async (address) => {
      expect(await channel.send(outgoing(), { address }, never)).toEqual({ kind: 'sent' })
      expect(theLetter().to).toEqual([address])
    },
  )

  it('has the same Message-ID each time that it is sent, and another letter another', async () => {
    const same = outgoing()
    await channel.send(same, ann, never)
    await channel.send(same, ann, never)
    await channel.send(outgoing(), ann, never)
    const ids = server.letters.map(({ headers }) => headers.get('message-id'))
    expect(ids[0]).toBe(`<notification.${same.id}@chat.example>`)
    expect(ids[1]).toBe(ids[0])
    expect(ids[2]).not.toBe(ids[0])
  })

  it('says that no person wrote it', async () => {
    await channel.send(outgoing(), ann, never)
    expect(header('auto-submitted')).toBe('auto-generated')
    expect(header('x-auto-response-suppress')).toBe('All')
  })

  it('goes over a connection that is already there', async () => {
    await channel.send(outgoing(), ann, never)
    await channel.send(outgoing(), ann, never)
    expect(server.letters).toHaveLength(2)
    expect(server.connections()).toBe(1)
  })

  it.each([
    'Jürgen schrieb dir: Überraschung!',
    '王さんからメッセージ',
    '🎉 '.repeat(40).trim(),
    'x'.repeat(150),
  ])('has the subject %j, whatever it is written in', async (title) => {
    await channel.send(outgoing({ title }), ann, never)
    expect(header('subject')).toBe(title)
  })

  it('has a long title cut to a subject, between characters', async () => {
    await channel.send(outgoing({ title: '🎉'.repeat(500) }), ann, never)
    expect(header('subject')).toBe(`${'🎉'.repeat(149)}…`)
  })

  it('has any body whole: dots alone, long lines, every script', async () => {
    const body = ['.', '..', 'x'.repeat(5_000), '日本語 🎉 naïve', 'From here'].join('\n')
    await channel.send(outgoing({ body }), ann, never)
    expect(part('text/plain').replaceAll('\r\n', '\n')).toContain(body)
  })
})

describe('what somebody may have written into it', () => {
  it.each([
    'Hello\r\nBcc: victim@example.com',
    'Hello\nBcc: victim@example.com',
    'Hello\rBcc: victim@example.com',
    'Hello\r\n\r\n<script>alert(1)</script>',
    'Hello\u2028Bcc: victim@example.com',
  ])('is no header: %j', async (title) => {
    await channel.send(outgoing({ title }), ann, never)
    expect(theLetter().to).toEqual(['ann@example.com'])
    expect(header('bcc')).toBeUndefined()
    expect(header('subject')).toBe(title.replace(/[\r\n\u2028]+/g, ' '))
  })

  it('is not decoded: a subject says the same in a mail program as in the app', async () => {
    await channel.send(outgoing({ title: 'Ben =?utf-8?q?and_the_bank?= wrote' }), ann, never)
    expect(header('subject')).toBe('Ben = ?utf-8?q?and_the_bank?= wrote')
  })

  it('is no markup', async () => {
    const nasty = `<img src=x onerror="alert('1')">&amp;`
    const action = { label: nasty, url: `https://example.com/?q="><script>` }
    await channel.send(outgoing({ title: nasty, body: nasty, color: '#fff"><b>', action }), ann, never)
    const html = part('text/html')
    expect(html).not.toMatch(/<img|<script|<b>|onerror="/)
    expect(html.split('&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;')).toHaveLength(5)
    expect(html).toContain('href="https://example.com/?q=%22%3E%3Cscript%3E"')
  })

  it.each([
    'ann@example.com, victim@example.com',
    'ann@example.com>\r\nRCPT TO:<victim@example.com',
    'Ann <ann@example.com>',
    'group: ann@example.com;',
    '"ann@example.com"@example.com',
    'ann@victim.example@example.com',
    'ann@example.com\0',
    'ann',
    '@example.com',
    'ann@',
    '',
  ])('is no second recipient, nor anything but an address: %j', async (address) => {
    expect(await channel.send(outgoing(), { address }, never)).toEqual({
      kind: 'failed',
      why: 'invalid_address',
    })
    expect(server.connections()).toBe(0)
  })
})

describe('its link', () => {
  it.each([
    ['https://example.com/a?b=1&c=2', undefined, 'https://example.com/a?b=1&c=2'],
    ['http://example.com/', undefined, 'http://example.com/'],
    ['/conversations/1', 'https://app.example', 'https://app.example/conversations/1'],
  ])('%s with the app at %s leads to %s', async (url, baseUrl, expected) => {
    const linking = channelTo(server.url, { baseUrl })
    await linking.send(outgoing({ action: { label: 'Read', url } }), ann, never)
    expect(part('text/plain')).toContain(`Read: ${expected}\r\n`)
    expect(part('text/html')).toContain(`<a href="${expected.replaceAll('&', '&amp;')}"`)
    await linking.close()
  })

  it.each([
    ['javascript:alert(1)', 'https://app.example'],
    ['data:text/html,hello', 'https://app.example'],
    ['//elsewhere.example/', 'https://app.example'],
    ['/\\elsewhere.example/', 'https://app.example'],
    ['/conversations/1', undefined],
    ['no link', 'https://app.example'],
  ])('%s with the app at %s is left out', async (url, baseUrl) => {
    const linking = channelTo(server.url, { baseUrl })
    expect(await linking.send(outgoing({ action: { url } }), ann, never)).toEqual({ kind: 'sent' })
    expect(part('text/html')).not.toContain('<a ')
    expect(part('text/plain')).not.toMatch(/https?:|javascript:|data:/)
    await linking.close()
  })

  it('to where one unsubscribes is in every letter, but for security', async () => {
    const preferencesUrl = 'https://app.example/preferences'
    const polite = channelTo(server.url, { preferencesUrl })
    await polite.send(outgoing(), ann, never)
    await polite.send(outgoing({ type: 'security' }), ann, never)
    const headers = server.letters.map(({ headers }) => headers.get('list-unsubscribe'))
    expect(headers).toEqual([`<${preferencesUrl}>`, undefined])
    await polite.close()
  })
})

describe('what the server says', () => {
  it.each([
    ['the greeting', { connection: [554, 'no service'] }, { kind: 'retry', why: 'server_refused' }],
    ['the greeting', { connection: [421, 'too busy'] }, { kind: 'retry', why: 'deferred' }],
    ['our address', { sender: [550, '5.7.1 not you'] }, { kind: 'retry', why: 'server_refused' }],
    ['the recipient', { recipient: [450, '4.2.1 greylisted'] }, { kind: 'retry', why: 'deferred' }],
    ['the recipient', { recipient: [451, '4.3.0 later'] }, { kind: 'retry', why: 'deferred' }],
    ['the recipient', { recipient: [421, 'closing'] }, { kind: 'retry', why: 'deferred' }],
    ['the recipient', { recipient: [550, '5.1.1 no such user'] }, { kind: 'gone', why: 'mailbox_unknown' }],
    ['the recipient', { recipient: [550, '5.7.1 spam'] }, { kind: 'failed', why: 'refused' }],
    ['the recipient', { recipient: [550, 'no'] }, { kind: 'failed', why: 'refused' }],
    ['the recipient', { recipient: [552, '5.2.2 full'] }, { kind: 'failed', why: 'refused' }],
    ['the letter', { data: [451, '4.3.0 later'] }, { kind: 'retry', why: 'deferred' }],
    ['the letter', { data: [503, '5.5.1 lost the thread'] }, { kind: 'retry', why: 'deferred' }],
    ['the letter', { data: [554, '5.7.1 spam'] }, { kind: 'failed', why: 'refused' }],
  ] as const)('to %s, %j, is %j', async (_, refusals, expected) => {
    server.refuse(refusals)
    expect(await channel.send(outgoing(), ann, never)).toEqual(expected)
    expect(server.letters).toEqual([])
  })

  it('about one letter is not held against the next', async () => {
    server.refuse({ recipient: [550, '5.1.1 no such user'] })
    await channel.send(outgoing(), ann, never)
    server.refuse({})
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'sent' })
  })

  it('breaks off in the middle of a letter: it is tried again', async () => {
    server.refuse({ data: 'cut' })
    const long = outgoing({ body: 'word '.repeat(20_000) })
    expect(await channel.send(long, ann, never)).toEqual({ kind: 'retry', why: 'unreachable' })
  })

  it('breaks off on a connection that was good before: when to try again is for whoever asked', async () => {
    await channel.send(outgoing(), ann, never)
    server.refuse({ sender: 'cut' })
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'unreachable' })
    expect(server.connections()).toBe(1)
  })

  it('is not waited for when it says nothing', async () => {
    const impatient = channelTo(server.url, { timeouts: { ...patient, silenceMs: 100 } })
    server.refuse({ data: 'silent' })
    expect(await impatient.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'timeout' })
    await impatient.close()
  })

  it('is not waited for when it says nothing from the start', async () => {
    const impatient = channelTo(server.url, { timeouts: { ...patient, connectMs: 100 } })
    server.refuse({ connection: 'silent' })
    expect(await impatient.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'timeout' })
    await impatient.close()
  })

  it('is not waited for when it goes on saying something', async () => {
    const talker = createServer((socket) => {
      const timer = setInterval(() => socket.write('220-welcome\r\n'), 10)
      socket.on('close', () => clearInterval(timer)).on('error', () => undefined)
    })
    talker.listen(0, '127.0.0.1')
    await once(talker, 'listening')
    const { port } = talker.address() as AddressInfo
    const impatient = channelTo(`smtp://127.0.0.1:${port}`, { timeouts: { ...patient, totalMs: 300 } })
    expect(await impatient.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'timeout' })
    await impatient.close()
    // Resolves when its connections are closed, too.
    await new Promise((resolve) => talker.close(resolve))
  })

  it('is nothing where nobody listens', async () => {
    await server.close()
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'unreachable' })
    server = await startMailServer()
  })
})

describe('giving up', () => {
  it('leaves a server in the middle of a letter, and says that it will be tried again', async () => {
    server.refuse({ data: 'silent' })
    const giveUp = new AbortController()
    const arrival = server.arrival()
    const sending = channel.send(outgoing(), ann, giveUp.signal)
    await arrival
    giveUp.abort()
    expect(await sending).toEqual({ kind: 'retry', why: 'stopped' })
    await server.allClosed()
  })

  it('is what a letter does that finds too many waiting, and all that wait can be given up', async () => {
    server.refuse({ data: 'silent' })
    const giveUp = new AbortController()
    const sendings = Array.from({ length: 100 }, () => channel.send(outgoing(), ann, giveUp.signal))
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'busy' })
    giveUp.abort()
    const outcomes = await Promise.all(sendings)
    expect(new Set(outcomes.map((outcome) => 'why' in outcome && outcome.why))).toEqual(new Set(['stopped']))
    server.refuse({})
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'sent' })
  })

  it('is what closing does to what is on its way, and to what comes after', async () => {
    server.refuse({ data: 'silent' })
    const arrival = server.arrival()
    const sending = channel.send(outgoing(), ann, never)
    await arrival
    await channel.close()
    expect(await sending).toEqual({ kind: 'retry', why: 'stopped' })
    expect(await channel.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'stopped' })
    await server.allClosed()
  })
})

describe('encryption', () => {
  it('is used where it is offered, and a certificate that nobody vouches for ends it before anything is said', async () => {
    const impostor = await startMailServer(makeCertificate(['127.0.0.1']))
    const careful = channelTo(impostor.url)
    expect(await careful.send(outgoing(), ann, never)).toEqual({ kind: 'retry', why: 'unreachable' })
    expect(impostor.letters).toEqual([])
    await careful.close()
    await impostor.close()
  })

  it('can be insisted on: a server without it hears nothing', async () => {
    const strict = channelTo(`${server.url}?requireTLS=true`)
    expect(await strict.send(outgoing(), ann, never)).toMatchObject({ kind: 'retry' })
    expect(server.letters).toEqual([])
    await strict.close()
  })
})

it('refuses to start with a sender that is no address', () => {
  expect(() => channelTo(server.url, { from: 'Rivulet' })).toThrow('no address')
})
