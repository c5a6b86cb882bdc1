/** A mail server on loopback: a real SMTP conversation, in which each step can be refused, cut or left unanswered. */
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { SMTPServer } from 'smtp-server'
import type { Certificate } from './certificate.ts'

/** What it says instead of yes: code and text. `cut`: it closes in the middle; `silent`: it says nothing. */
export type Refusal = readonly [code: number, text: string] | 'cut' | 'silent'

export interface MailServer {
  /** `smtp://127.0.0.1:4711`. */
  url: string
  /** How it takes each step from now on; undefined: it says yes. */
  refuse(refusals: { connection?: Refusal; sender?: Refusal; recipient?: Refusal; data?: Refusal }): void
  letters: Letter[]
  /** Resolves when a letter has arrived and is about to be answered. */
  arrival(): Promise<void>
  connections(): number
  /** Resolves when nobody is connected. */
  allClosed(): Promise<void>
  close(): Promise<void>
}

export interface Letter {
  from: string
  to: string[]
  /** Whether the conversation was encrypted. */
  secure: boolean
  raw: string
  /** By name in lower case; unfolded, and decoded where encoded. Each name once, or the letter is refused. */
  headers: Map<string, string>
  /** By content type. */
  parts: Map<string, string>
}

/** @param certificate it then offers STARTTLS; else it speaks in the clear. */
export async function startMailServer(certificate?: Certificate): Promise<MailServer> {
  let refusals: Parameters<MailServer['refuse']>[0] = {}
  let connections = 0
  const letters: Letter[] = []
  let arrived = (): void => undefined
  const sockets = new Set<Socket>()
  const cut = () => sockets.forEach((socket) => socket.destroy())

  const decide = (step: keyof typeof refusals, answer: (error?: Error) => void) => {
    const refusal = refusals[step]
    if (refusal === undefined) answer()
    else if (refusal === 'cut') cut()
    else if (refusal !== 'silent') answer(Object.assign(new Error(refusal[1]), { responseCode: refusal[0] }))
  }

  const server = new SMTPServer({
    logger: false,
    authOptional: true,
    disableReverseLookup: true,
    closeTimeout: 100,
    disabledCommands: certificate === undefined ? ['AUTH', 'STARTTLS'] : ['AUTH'],
    ...certificate,
    onConnect: (_session, answer) => decide('connection', answer),
    onMailFrom: (_address, _session, answer) => decide('sender', answer),
    onRcptTo: (_address, _session, answer) => decide('recipient', answer),
    onData(stream, { envelope, secure }, answer) {
      // In the middle: after the first bytes, before the end.
      if (refusals.data === 'cut') return void stream.once('data', cut)
      buffer(stream).then(
        (raw) => {
          if (refusals.data === undefined)
            letters.push({
              from: envelope.mailFrom === false ? '' : envelope.mailFrom.address,
              to: envelope.rcptTo.map(({ address }) => address),
              secure,
              ...parseLetter(raw.toString('utf8')),
            })
          arrived()
          decide('data', answer)
        },
        () => undefined,
      )
    },
  })
  // A client that goes away in the middle is what some tests are about.
  server.on('error', () => undefined)
  server.server.on('connection', (socket: Socket) => {
    connections++
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  const { port } = server.server.address() as AddressInfo
  return {
    url: `smtp://127.0.0.1:${port}`,
    refuse(changed) {
      refusals = changed
    },
    letters,
    arrival: () => new Promise((resolve) => (arrived = resolve)),
    connections: () => connections,
    async allClosed() {
      await Promise.all([...sockets].map((socket) => once(socket, 'close')))
    },
    async close() {
      cut()
      await new Promise<void>((resolve) => server.close(resolve))
    },
  }
}

function parseLetter(raw: string): Pick<Letter, 'raw' | 'headers' | 'parts'> {
  const { headers, body } = parsePart(raw)
  const [, boundary] = /boundary="([^"]+)"/.exec(headers.get('content-type') ?? '') ?? []
  const parts = new Map<string, string>()
  const inner = boundary === undefined ? [raw] : body.split(`--${boundary}`).slice(1, -1)
  for (const part of inner.map((text) => parsePart(text.replace(/^\r\n/, '')))) {
    const [type = ''] = (part.headers.get('content-type') ?? '').split(';')
    parts.set(type, decodeBody(part.body, part.headers.get('content-transfer-encoding')))
  }
  return { raw, headers, parts }
}

function parsePart(raw: string): { headers: Map<string, string>; body: string } {
  const end = raw.indexOf('\r\n\r\n')
  const headers = new Map<string, string>()
  const lines = raw
    .slice(0, end)
    .replace(/\r\n[ \t]+/g, ' ')
    .split('\r\n')
  for (const line of lines) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase()
    if (headers.has(name)) throw new Error(`two headers ${name}`)
    headers.set(name, decodeWords(line.slice(line.indexOf(':') + 1).trim()))
  }
  return { headers, body: raw.slice(end + 4) }
}

function decodeBody(body: string, encoding: string | undefined): string {
  if (encoding === 'base64') return Buffer.from(body, 'base64').toString('utf8')
  if (encoding === 'quoted-printable') return decodeQuoted(body.replace(/=\r\n/g, ''))
  return body
}

/** RFC 2047: between two encoded words white space means nothing. */
const decodeWords = (text: string) =>
  text
    .replace(/\?=\s+=\?/g, '?==?')
    .replace(/=\?utf-8\?([bq])\?([^?]*)\?=/gi, (_, kind: string, word: string) =>
      kind.toLowerCase() === 'b'
        ? Buffer.from(word, 'base64').toString('utf8')
        : decodeQuoted(word.replaceAll('_', ' ')),
    )

function decodeQuoted(text: string): string {
  const bytes = text.replace(/=([0-9A-F]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
