/**
 * Door of bus: what instances tell each other. The contract; postgres-bus.ts and redis-bus.ts keep it.
 *
 * Fast, and lossy: a message may be lost, and comes once at most. Whatever must not be lost is in the database, and is
 * looked for there too. Whoever may connect to the server can say anything here: a message is a reason to look, or
 * something that nobody depends on.
 */

export interface Bus {
  /**
   * To all other instances, never to this one; `message` is anything that JSON can say. Never throws, never waits.
   * A message of the same topic and key that has not left yet is replaced by this one, which takes its place at the end.
   */
  publish(topic: string, message: unknown, key?: string): void
  /**
   * What other instances publish. Messages of one instance come in their order.
   *
   * @returns unsubscribe
   */
  subscribe(topic: string, onMessage: (message: unknown, instance: string) => void): () => void
  /**
   * Something may have been missed: called whenever listening begins, the first time too.
   *
   * @returns unsubscribe
   */
  onGap(handler: () => void): () => void
  /** `away`: nothing comes, and what is published waits, the newest of it. */
  state(): 'up' | 'away'
  /** Lets go what was published last, where it can. Within a second. */
  close(): Promise<void>
}

/** A message that is longer as JSON is dropped, bytes: a bus is no place for files, and each instance reads it all. */
export const messageBytesMax = 256 * 1024
