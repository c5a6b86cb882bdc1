/**
 * Plays one behaviour on one response. It is over when the response was sent to its end, when the client closed, when
 * a step cut the socket, or when the server shuts down: `record.ended` resolves then, and no timer is left.
 */
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import { openLine, type Line } from './demo-line.ts'
import { DEMO_MODEL_ID, promptTokens, type ChatRequest } from './demo-protocol.ts'
import type { RecordedRequest } from './demo-recorder.ts'
import type { Behaviour, GateState, Step } from './demo-script.ts'
import { createBodyVoice, createStreamVoice, type Voice } from './demo-voice.ts'

export interface Received {
  body: ChatRequest
  headers: IncomingHttpHeaders
  response: ServerResponse
  behaviour: Behaviour
  /** closes that come after it are not the client's */
  shutdown: AbortSignal
}

export function play({ body, headers, response, behaviour, shutdown }: Received): RecordedRequest {
  const over = Promise.withResolvers<undefined>()
  const record: RecordedRequest = {
    body,
    headers,
    receivedAt: Date.now(),
    finished: false,
    open: true,
    ended: over.promise.then(() => undefined),
    sentText: '',
    sentBytes: 0,
    model: behaviour.model ?? body.model ?? DEMO_MODEL_ID,
    counts: { prompt: promptTokens(body), content: 0, reasoning: 0 },
    behaviour,
    lookups: 0,
  }
  const line = openLine(response, {
    onBytes: (count) => (record.sentBytes += count),
    onClose(byUs) {
      record.open = false
      record.finished = response.writableFinished
      if (!record.finished && !byUs && !shutdown.aborted) record.closedAt = Date.now()
      over.resolve(undefined)
    },
  })
  const voice = body.stream === true ? createStreamVoice(record, line) : createBodyVoice(record, line)
  playSteps(behaviour, voice, line).catch((error: unknown) => line.fail(error))
  return record
}

async function playSteps(behaviour: Behaviour, voice: Voice, line: Line): Promise<void> {
  for (const step of behaviour.steps) {
    if (line.closed()) return
    await playStep(step, voice, line)
  }
  if (!line.closed()) voice.end()
}

async function playStep(step: Step, voice: Voice, line: Line): Promise<void> {
  switch (step.kind) {
    case 'reply':
      line.reply(step.status, step.headers, step.body)
      return
    case 'comment':
      return voice.comment()
    case 'pause':
      return line.pause(step.ms)
    case 'say':
      for (const [index, token] of step.tokens.entries()) {
        if (index > 0) await line.pause(step.perTokenMs)
        if (line.closed()) return
        await voice.say(token, step.as)
      }
      return
    case 'gate':
      return playGate(step.gate, voice, line)
    case 'finish':
      return voice.finish(step.reason)
    case 'usage':
      return voice.usage()
    case 'done':
      return voice.done()
    case 'error':
      return voice.error(step.error, step.withChoice)
    case 'data':
      return voice.data(step.text)
    case 'bytes':
      return voice.bytes(step.pieces)
    case 'flood':
      return voice.flood(step.bytes, step.lines === 'one')
    case 'hang':
      while (!line.closed()) {
        await line.pause(step.commentEveryMs)
        await voice.comment()
      }
      return
    case 'cut':
      return line.cut(step.by)
    default:
      step satisfies never
  }
}

async function playGate(gate: GateState, voice: Voice, line: Line): Promise<void> {
  let sent = 0
  while (!line.closed()) {
    const token = sent < gate.released() ? gate.token(sent) : undefined
    if (token !== undefined) {
      sent++
      await voice.say(token, 'content')
    } else if (gate.ended()) {
      return
    } else {
      await line.until(gate.onChange)
    }
  }
}
