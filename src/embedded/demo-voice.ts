/** How the steps of a script sound: as frames of an event stream, or gathered into one JSON body. */
import { randomUUID } from 'node:crypto'
import type { Line } from './demo-line.ts'
import {
  completion,
  createFrames,
  DONE,
  PROCESSING,
  type GenerationHead,
  type UpstreamError,
  type Usage,
} from './demo-protocol.ts'
import { billed, type RecordedRequest } from './demo-recorder.ts'

/** Whether one waits: only when the client has to read before more is written. */
type Written = Promise<void> | undefined

/** What the steps of an answer become, streamed or not. */
export interface Voice {
  comment(): Written
  say(text: string, as: 'content' | 'reasoning'): Written
  finish(reason: string): Written
  usage(): Written
  done(): Written
  error(error: UpstreamError, withChoice: boolean): Written
  data(text: string): Written
  bytes(pieces: readonly (string | Uint8Array)[]): Written
  flood(bytes: number, oneLine: boolean): Written
  end(): void
}

const FILLER = 'x'.repeat(16 * 1024)

export function createStreamVoice(record: RecordedRequest, line: Line): Voice {
  const head = headOf(record)
  const frames = createFrames(head)
  let roleSent = false

  const open = () => openAnswer(record, line, head, 'text/event-stream')
  const send = (frame: string) => {
    open()
    return line.write(frame)
  }
  const sendChunk = (frame: string) => {
    const role = roleSent ? '' : frames.content('')
    roleSent = true
    return send(role + frame)
  }

  return {
    comment: () => send(PROCESSING),
    say(text, as) {
      count(record, text, as)
      return sendChunk(as === 'content' ? frames.content(text) : frames.reasoning(text))
    },
    finish: (reason) => sendChunk(frames.finish(reason)),
    usage: () => send(frames.usage(billed(record))),
    done: () => send(DONE),
    error: (error, withChoice) => send(frames.error(error, withChoice)),
    data: (text) => send(`data: ${text}\n\n`),
    bytes(pieces) {
      open()
      return line.writeApart(pieces)
    },
    async flood(bytes, oneLine) {
      const frame = oneLine ? FILLER : frames.content(FILLER)
      await sendChunk(oneLine ? frames.contentStart + '"' : '')
      for (let sent = 0; sent < bytes && !line.closed(); sent += FILLER.length) {
        record.counts.content += FILLER.length / 4
        await line.write(frame)
      }
    },
    end() {
      open()
      line.end()
    },
  }
}

/** Without `stream: true`: one JSON body at the end. A comment only sends the headers early. */
export function createBodyVoice(record: RecordedRequest, line: Line): Voice {
  const head = headOf(record)
  const answer = { content: '', reasoning: '' }
  let finishReason: string | null = null
  let usage: Usage | undefined
  /** replaces the answer */
  let instead: string | undefined

  const open = () => openAnswer(record, line, head, 'application/json')
  return {
    comment() {
      open()
      return undefined
    },
    say(text, as) {
      count(record, text, as)
      answer[as] += text
      return undefined
    },
    finish: (reason) => void (finishReason = reason),
    usage: () => void (usage = billed(record)),
    done: () => undefined,
    error: (error) => void (instead = JSON.stringify({ error })),
    data: (text) => void (instead = text),
    bytes(pieces) {
      open()
      instead = ''
      return line.writeApart(pieces)
    },
    flood(bytes) {
      record.counts.content += Math.ceil(bytes / 4)
      answer.content += 'x'.repeat(bytes)
      return undefined
    },
    end() {
      open()
      void line.write(instead ?? JSON.stringify(completion(head, { ...answer, finishReason, usage })))
      line.end()
    },
  }
}

function headOf(record: RecordedRequest): GenerationHead {
  return {
    id:
      record.behaviour.generationId ??
      `gen-${Math.floor(record.receivedAt / 1000)}-${randomUUID().replaceAll('-', '')}`,
    model: record.model,
    created: Math.floor(record.receivedAt / 1000),
  }
}

function openAnswer(record: RecordedRequest, line: Line, head: GenerationHead, contentType: string): void {
  const headers = { 'content-type': contentType, 'cache-control': 'no-cache', 'x-generation-id': head.id }
  if (line.open(200, headers)) record.generationId = head.id
}

function count(record: RecordedRequest, text: string, as: 'content' | 'reasoning'): void {
  record.counts[as]++
  if (as === 'content') record.sentText += text
}
