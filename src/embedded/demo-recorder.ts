/** What the demo model was asked and how it went, for tests to look at. */
import type { IncomingHttpHeaders } from 'node:http'
import { usageOf, type ChatRequest, type TokenCounts, type Usage } from './demo-protocol.ts'
import type { Behaviour } from './demo-script.ts'

/** One chat completion, kept up to date while it is answered. */
export interface RecordedRequest {
  body: ChatRequest
  headers: IncomingHttpHeaders
  /** epoch ms */
  receivedAt: number
  /** epoch ms; set when the client closed before the end, and only then */
  closedAt?: number
  /** the whole response was handed to the network */
  finished: boolean
  /** until nothing more will happen; then it is finished, closedAt is set, or (neither) we cut it */
  open: boolean
  /** resolves when it is no longer open */
  ended: Promise<void>
  /** the content (not the reasoning) that was sent; a flood's filler is left out */
  sentText: string
  /** of the response's body */
  sentBytes: number
  /** absent until an answer's headers are sent */
  generationId?: string
  /** the model that the answer names */
  model: string
  counts: TokenCounts
  behaviour: Behaviour
  /** how often `GET /generation` asked for this one after it ended */
  lookups: number
}

/** What the answer so far is billed as. */
export function billed(record: RecordedRequest): Usage {
  return { ...usageOf(record.model, record.counts), ...record.behaviour.usage }
}

type Matches = (request: RecordedRequest) => boolean

/** Beyond it the oldest are forgotten. */
const RECORDED_MAX = 1_000

/** Keeps the newest requests, and hands each to at most one of those who wait for such a request. */
export function createRecorder() {
  const requests: RecordedRequest[] = []
  const untaken: RecordedRequest[] = []
  const takers: { matches: Matches; taken: PromiseWithResolvers<RecordedRequest> }[] = []

  return {
    requests: requests as readonly RecordedRequest[],

    add(request: RecordedRequest): void {
      requests.push(request)
      if (requests.length > RECORDED_MAX) requests.shift()
      const index = takers.findIndex(({ matches }) => matches(request))
      const [taker] = index < 0 ? [] : takers.splice(index, 1)
      if (taker) taker.taken.resolve(request)
      else untaken.push(request)
      if (untaken.length > RECORDED_MAX) untaken.shift()
    },

    next(matches: Matches): Promise<RecordedRequest> {
      const taken = Promise.withResolvers<RecordedRequest>()
      const index = untaken.findIndex(matches)
      const [request] = index < 0 ? [] : untaken.splice(index, 1)
      if (request) taken.resolve(request)
      else takers.push({ matches, taken })
      return taken.promise
    },

    forget(): void {
      requests.length = 0
      untaken.length = 0
    },

    /** Whoever still waits is told; whoever started to wait and forgot it is not punished. */
    close(): void {
      for (const { taken } of takers.splice(0)) {
        taken.promise.catch(() => undefined)
        taken.reject(new Error('The demo model was closed before such a request came'))
      }
    },
  }
}
