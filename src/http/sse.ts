/**
 * Server-Sent Events: a source of frames → a response that works behind proxies.
 *
 * A response pulls: when its socket has room it asks the source, when the source has nothing it waits to be woken. No
 * promise and no queue per frame; back-pressure is the socket's own. Fastify sends it like any payload, so hooks, CORS
 * and logging stay what they are on every other route.
 */
import { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
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
  /** Open responses. */
  viewers(): number
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
      const stream = new FrameStream(source, options, () => raw.destroy())
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
    viewers: () => open.size,
  }
}

/**
 * The payload that Fastify sends. A `Readable` for its life cycle's sake alone: `pipe` is ours, and what is written goes
 * from the log to the socket with nothing in between.
 */
class FrameStream extends Readable {
  readonly #source: SseSource
  readonly #pace: Pace
  readonly #unwatch: () => void
  readonly #quiet: NodeJS.Timeout
  #response: ServerResponse | undefined
  /** It took all that we wrote. */
  #wanted = false
  #takenAtMs = performance.now()
  #writes = 1
  #ended = false

  constructor(source: SseSource, { pingMs, pace, ...limits }: SseOptions, giveUp: () => void) {
    super({ read: () => undefined })
    const givenUpMs = limits.stalledMs ?? stalledMs
    this.#source = source
    this.#pace = pace
    this.#unwatch = source.watch(() => {
      if (this.#writes < promptWrites) this.#pump()
      else if (this.#wanted) pace.soon(this.#pump)
    })
    // A comment keeps proxies from taking a silent stream for a dead one. To a client that is gone it is a packet that
    // nobody acknowledges: the system closes that socket; one whose client is there and reads nothing we close.
    this.#quiet = setTimeout(() => {
      if (this.#wanted && !this.#ended) this.#write(': ping\n\n')
      else if (!this.#wanted && performance.now() - this.#takenAtMs > givenUpMs) {
        giveUp()
        return
      }
      this.#quiet.refresh()
    }, pingMs)
  }

  override pipe<T extends NodeJS.WritableStream>(response: T): T {
    if (!(response instanceof ServerResponse)) throw new TypeError('frames are for an HTTP response')
    this.#response = response
    this.#write(': stream\n\n')
    this.#pump()
    return response
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#unwatch()
    this.#pace.forget(this.#pump)
    clearTimeout(this.#quiet)
    this.#response?.socket?.off('drain', this.#drained)
    this.#response = undefined
    callback(error)
  }

  readonly #pump = (): void => {
    while (this.#wanted && !this.#ended) {
      let frames = ''
      while (frames.length < bufferedBytesMax && !this.#ended) {
        const next = this.#source.next()
        if (next === undefined) break
        frames += next.frame
        this.#ended = next.last
      }
      if (frames === '') return
      this.#writes++
      this.#quiet.refresh()
      if (this.#ended) this.#end(frames)
      else this.#write(frames)
    }
  }

  #write(frames: string): void {
    if (this.#response === undefined) return
    this.#wanted = writeChunk(this.#response, frames)
    if (!this.#wanted) (this.#response.socket ?? this.#response).once('drain', this.#drained)
  }

  readonly #drained = (): void => {
    this.#wanted = true
    this.#takenAtMs = performance.now()
    this.#pump()
  }

  #end(frames: string): void {
    this.#response?.end(frames)
    this.push(null)
    this.resume()
  }
}

/**
 * `response.write`, with a chunk that reaches the socket as one string: `ServerResponse` makes four pieces of it and
 * gathers them again a tick later, which costs as much as all that we do for a token (measured, README's Decisions).
 *
 * @returns whether the socket wants more; it says 'drain' when it does.
 */
function writeChunk(response: ServerResponse, frames: string): boolean {
  const { socket } = response
  // The head goes before it, and behind others on a pipelined connection: that is for the response to arrange.
  if (!response.headersSent || !(socket instanceof Socket)) return response.write(frames)
  const bytes = Buffer.byteLength(frames)
  const encoding = bytes === frames.length ? 'latin1' : 'utf8'
  return socket.write(response.chunkedEncoding ? `${bytes.toString(16)}\r\n${frames}\r\n` : frames, encoding)
}
