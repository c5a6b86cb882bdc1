/** Door of outbox: who gets events. Each has a queue of its own in the table, so that one that is away holds no other up. */

export const sinkNames = ['exchange', 'dead_letters', 'bridge'] as const
export type SinkName = (typeof sinkNames)[number]

export interface EventToSend {
  /** The row's, and the event's: a receiver knows by it what it has had already. */
  id: string
  routingKey: string
  payload: Readonly<Record<string, unknown>>
  /** RFC 3339. */
  createdAt: string
}

/** `unroutable`: nobody has asked for such events. `refused`: the receiver will never take this one, and why. */
export type SendOutcome = 'sent' | 'unroutable' | { refused: string }

export interface Sink {
  /** False: nothing is taken out of the table for it. */
  isUp: () => boolean
  /** Called in the events' order. Rejects where the receiver is away, or does not want anything just now. */
  send: (event: EventToSend) => Promise<SendOutcome>
  /** Events under way; undefined: a whole batch. */
  atOnceMax?: number
}
