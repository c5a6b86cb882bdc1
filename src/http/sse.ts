/**
 * Server-Sent Events: a source of frames → a response that works behind proxies.
 *
 * A response is a Readable that pulls: when its socket has room it asks the source, when the source has nothing
 * it waits to be woken. No promise and no queue per frame; back-pressure is the stream's own. Fastify sends it like
 * any payload, so hooks, CORS and logging stay what they are on every other route.
 */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Pace } from './pace.ts'

export interface SseSource {
  /** The next frame after the cursor, and whether it is the last; undefined when there is none yet. */
  next(): { frame: string; last: boolean } | undefined
  watch(onWake: () => void): () => void
}

export interface SseResponses {
  /** Answers with the source's frames. Returns when the response has been handed to Fastify. */
  send(reply: FastifyReply, source: SseSource): FastifyReply
  /** Resolves when every open response has been flushed and closed; destroys what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>
}

/** What a response holds back for a slow socket at most, in bytes; the rest stays in the log. */
const bufferedBytesMax = 16 * 1024
/** A socket that takes nothing for so long is given up, ms: its client resumes at its cursor, should it still live. */
const stalledMs = 5 * 60_000
/** Writes that never wait for others: the first comment, what opens an answer, its first text. */
const promptWrites = 3

export interface SseOptions {
  /** A comment after so much silence. */
  pingMs: number
  pace: Pace
  /** default: five minutes */
  stalledMs?: number
}

export function createSseResponses(options: SseOptions): SseResponses {
  const open = new Set<{ done: Promise<void>; destroy(): void }>()
  return {
    send(reply, source) {
      const { raw } = reply
      // A client that left while its turn was being stored: nobody to answer, and nothing to wait for at the end.
      if (raw.destroyed) {
        reply.hijack()
        return reply
      }
      const stream = createFrameStream(source, options, () => raw.destroy())
      const entry = {
        done: new Promise<void>((resolve) => raw.once('close', resolve)),
        destroy: () => raw.destroy(),
      }
      open.add(entry)
      raw.once('close', () => {
        open.delete(entry)
        stream.destroy()
      })
      void reply
        .header('content-type', 'text/event-stream; charset=utf-8')
        .header('cache-control', 'no-cache, no-transform')
        .header('x-accel-buffering', 'no')
      return reply.send(stream)
    },
    async drain(graceMs) {
      const entries = [...open]
      const deadline = setTimeout(() => entries.forEach((entry) => entry.destroy()), graceMs)
      await Promise.all(entries.map((entry) => entry.done))
      clearTimeout(deadline)
    },
  }
}

function createFrameStream(
  source: SseSource,
  { pingMs, pace, ...limits }: SseOptions,
  giveUp: () => void,
): Readable {
  const givenUpMs = limits.stalledMs ?? stalledMs
  let wanted = false
  let takenAtMs = performance.now()
  let writes = 1
  let ended = false
  const stream = new Readable({
    highWaterMark: bufferedBytesMax,
    read() {
      wanted = true
      takenAtMs = performance.now()
      pump()
    },
    destroy(error, callback) {
      unwatch()
      pace.forget(write)
      clearTimeout(quiet)
      callback(error)
    },
  })
  const write = () => {
    if (wanted) pump()
  }
  const unwatch = source.watch(() => {
    if (writes < promptWrites) write()
    else if (wanted) pace.soon(write)
  })
  // A comment keeps proxies from taking a silent stream for a dead one. To a client that is gone it is a packet that
  // nobody acknowledges: the system closes that socket; one whose client is there and reads nothing we close.
  const quiet = setTimeout(() => {
    if (wanted && !ended) wanted = stream.push(': ping\n\n')
    else if (!wanted && performance.now() - takenAtMs > givenUpMs) {
      giveUp()
      return
    }
    quiet.refresh()
  }, pingMs)
  stream.push(': stream\n\n')

  function pump(): void {
    if (ended) return
    let frames = ''
    while (frames.length < bufferedBytesMax) {
      const next = source.next()
      if (next === undefined) break
      frames += next.frame
      if (next.last) {
        ended = true
        break
      }
    }
    if (frames !== '') {
      quiet.refresh()
      writes++
      wanted = stream.push(frames)
    }
    if (ended) stream.push(null)
  }
  return stream
}
