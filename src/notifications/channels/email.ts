/**
 * Door of notifications: to mailboxes, through one SMTP server.
 *
 * A notification's letter has the same Message-ID however often it is sent, so a duplicate (the server took it, and died
 * before it said so) is one letter to a mail program. Whatever the server says before it has heard the recipient, or is
 * not forever, is a matter between it and us and is tried again; only a refusal of this letter is final.
 */
import { createTransport, type NodemailerError, type SMTPPoolOptions } from 'nodemailer'
import type { SendingChannel, SendOutcome } from './channel.ts'
import { letterOf, linkOf, type LetterLinks } from './letter.ts'

export interface EmailTarget {
  address: string
}

export interface EmailOptions extends LetterLinks {
  /** `smtp://user:password@host:587` (encrypted where the server offers it; `?requireTLS=true`: or not at all), `smtps://…`. */
  smtpUrl: string
  /** `Rivulet <hello@example.com>`. Its domain is also that of Message-IDs. */
  from: string
  timeouts?: EmailTimeouts | undefined
}

/** All in ms. */
export interface EmailTimeouts {
  /** Until the server has greeted and, where it does, encrypted. */
  connectMs?: number
  /** Between two words of the server. */
  silenceMs?: number
  /** All that a letter gets, waiting for a free connection included: a server may go on saying something for ever. */
  totalMs?: number
}

/** Few: a mail server counts connections, and a letter takes well under a second. */
const connectionsMax = 3
/** Letters over one connection before a new one is made: servers have such limits of their own. */
const lettersPerConnectionMax = 100
/** A connection waits this long for the next letter, ms: servers wait less than they should. */
const idleMs = 30_000
/** Letters that wait for a connection: more than any number of deliveries at once. Beyond it they come again later. */
const waitingMax = 100
/** Of one reply, bytes. */
const replyBytesMax = 64 * 1024
/** A server that does not close when asked is left, ms. */
const closeMs = 500

/** @throws where `from` is no address. */
export function createEmailChannel(options: EmailOptions): SendingChannel<EmailTarget> {
  const { connectMs = 5_000, silenceMs = 15_000, totalMs = 25_000 } = options.timeouts ?? {}
  const [, domain] = /@([A-Za-z0-9.-]+)>?\s*$/.exec(options.from) ?? []
  if (domain === undefined) throw new TypeError('the sender of e-mails is no address')
  const preferences = linkOf(options.preferencesUrl ?? '', undefined)
  const pool: SMTPPoolOptions & { pool: true } = {
    pool: true,
    url: options.smtpUrl,
    maxConnections: connectionsMax,
    maxMessages: lettersPerConnectionMax,
    // One retry layer, and it is not here.
    maxRequeues: 0,
    idleTimeout: idleMs,
    connectionTimeout: connectMs,
    dnsTimeout: connectMs,
    socketTimeout: silenceMs,
    socketCloseTimeout: closeMs,
    maxResponseSize: replyBytesMax,
    // Nothing of a letter is a file or a URL to read from.
    disableFileAccess: true,
    disableUrlAccess: true,
  }
  const transport = createTransport(pool)
  let pending = 0
  let closed = false
  const closing = new AbortController()

  return {
    async send(outgoing, { address }, signal) {
      if (!isAddress(address)) return { kind: 'failed', why: 'invalid_address' }
      if (closed) return { kind: 'retry', why: 'stopped' }
      if (pending >= waitingMax) return { kind: 'retry', why: 'busy' }
      const deadline = AbortSignal.timeout(totalMs)
      pending++
      try {
        await transport.sendMail({
          ...letterOf(outgoing, options),
          from: options.from,
          // An object is one address, whatever it holds; a string may be a list of them.
          to: { name: '', address },
          messageId: `<notification.${outgoing.id.replace(/[^\w-]/g, '')}@${domain}>`,
          headers: {
            // Nobody's holiday is to answer it.
            'Auto-Submitted': 'auto-generated',
            'X-Auto-Response-Suppress': 'All',
            ...(preferences !== undefined &&
              outgoing.type !== 'security' && { 'List-Unsubscribe': `<${preferences}>` }),
          },
          signal: AbortSignal.any([signal, deadline, closing.signal]),
        })
        return { kind: 'sent' }
      } catch (error) {
        if (signal.aborted || closing.signal.aborted) return { kind: 'retry', why: 'stopped' }
        if (deadline.aborted) return { kind: 'retry', why: 'timeout' }
        return outcomeOf(error)
      } finally {
        pending--
      }
    },
    async close() {
      closed = true
      closing.abort()
      transport.transporter.close?.({ force: true })
    },
  }
}

/**
 * One mailbox and nothing else: no list, no name, no comment, no quotes. Narrower than the standard, wide enough for what
 * people have.
 */
export const isAddress = (text: string) =>
  text.length <= 254 &&
  /^[^\s\p{Cc}"(),:;<>@[\\\]]{1,64}@[^\s\p{Cc}"(),:;<>@[\\\]]+[^\s\p{Cc}"(),:;<>@[\\\].]$/u.test(text)

function outcomeOf(error: unknown): SendOutcome {
  if (!isMailError(error) || error.code === undefined) throw error
  const { code, command = '', responseCode = 0, response = '' } = error
  // What is wrong with this letter's own words, before anybody was asked.
  if (code === 'EENVELOPE' && command === 'API') return { kind: 'failed', why: 'invalid_address' }
  if (code === 'EMESSAGE' && responseCode === 0) return { kind: 'failed', why: 'too_large' }
  if (code === 'EAUTH') return { kind: 'retry', why: 'login_refused' }
  if (responseCode >= 500 && responseCode < 600 && responseCode !== 503) {
    // Address does not exist; address has moved away for good, or its domain takes no mail.
    if (command === 'RCPT TO' && /^\d{3}[ -]5\.1\.(1|10)\b/.test(response))
      return { kind: 'gone', why: 'mailbox_unknown' }
    if (command === 'RCPT TO' || command === 'DATA') return { kind: 'failed', why: 'refused' }
    return { kind: 'retry', why: 'server_refused' }
  }
  if (responseCode >= 400) return { kind: 'retry', why: 'deferred' }
  return { kind: 'retry', why: code === 'ETIMEDOUT' ? 'timeout' : 'unreachable' }
}

const isMailError = (error: unknown): error is NodemailerError => error instanceof Error
