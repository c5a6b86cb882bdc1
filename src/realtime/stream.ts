/**
 * Door of realtime: an inbox as an event stream. The same frames as on a socket, each with its place in the log as `id`, which
 * a browser comes back with. Its heartbeats are the stream's own comments.
 */
import type { UserCaller } from '../auth/caller.ts'
import type { SseSource } from '../http/sse.ts'
import type { Cursor } from '../notifications/log.ts'
import type { Hub } from './hub.ts'
import { printEvent, printHello, printLive } from './print.ts'
import type { Subscription, Viewer } from './viewer.ts'

/** What is printed and not yet read, UTF-16 units: beyond, the rest waits in the log. */
const waitingCharsMax = 64 * 1024

/** @param since what the client says it has; undefined: nothing. */
export function createInboxStream(
  hub: Hub,
  { userId, validUntil }: Pick<UserCaller, 'userId' | 'validUntil'>,
  since: Cursor | undefined,
): SseSource {
  let waiting: string[] = []
  let waitingChars = 0
  let epoch = ''
  let over = false
  let wake: () => void = () => undefined
  let subscription: Subscription | undefined

  function print(seq: number, text: string): boolean {
    const frame = `id: ${epoch}.${seq}\ndata: ${text}\n\n`
    waiting.push(frame)
    waitingChars += frame.length
    wake()
    return waitingChars < waitingCharsMax
  }

  const viewer: Viewer = {
    userId,
    since,
    greet(greeting) {
      epoch = greeting.epoch
      print(greeting.cursor, printHello(greeting))
    },
    show: (event) => print(event.seq, printEvent(event)),
    live: (seq) => void print(seq, printLive(seq)),
    close(reason) {
      // It comes back by itself, with the last id.
      waiting = [`: ${reason}\n\n`]
      over = true
      subscription?.close()
      wake()
    },
  }

  return {
    next() {
      const frame = waiting.shift()
      if (frame === undefined) return undefined
      waitingChars -= frame.length
      if (waiting.length === 0 && !over) subscription?.resume()
      return { frame, last: over }
    },
    watch(onWake) {
      wake = onWake
      subscription = hub.subscribe(viewer)
      const expiring = setTimeout(
        () => viewer.close('expired'),
        Math.min(validUntil - Date.now(), timerMsMax),
      )
      expiring.unref()
      return () => {
        clearTimeout(expiring)
        subscription?.close()
      }
    },
  }
}

/** The longest that a timer can be. */
const timerMsMax = 2 ** 31 - 1
