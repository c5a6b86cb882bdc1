/** Door of notifications, to the outside: what a channel is given to send, and what it says about it afterwards. */
import type { NotificationType, Priority } from '../kinds.ts'

export type { Channel } from '../kinds.ts'

/** What is sent: of the stored notification. */
export interface Outgoing {
  id: string
  /** Grows with what the notification says, and stays while the same is tried again: its number in the log. */
  version: number
  userId: string
  type: NotificationType
  priority: Priority
  title: string
  body: string
  icon: string | null
  color: string | null
  /** An http or https URL, or a path of the app. */
  action: { label?: string | undefined; url: string } | null
  data: Record<string, unknown>
  /** RFC 3339. */
  createdAt: string
}

/** `why` is a code of ours: never the other side's words, never an address. It is stored, logged and shown. */
export type SendOutcome =
  | { kind: 'sent' }
  /** Not this time. `afterMs`: the other side asked for that much patience. */
  | { kind: 'retry'; why: string; afterMs?: number | undefined }
  /** It will not be better the next time. */
  | { kind: 'failed'; why: string }
  /** The target itself is no more: it is to be removed. */
  | { kind: 'gone'; why: string }

/**
 * One way out of the house. It tries once: when to try again is decided by who asked. It resolves soon after `signal`
 * is aborted, and does not throw for anything that a network, a server or a target does.
 */
export interface SendingChannel<Target> {
  send(outgoing: Outgoing, target: Target, signal: AbortSignal): Promise<SendOutcome>
  /** Connections are closed, and what is on its way is given up. */
  close(): Promise<void>
}
