/**
 * The bytes of an upstream's event stream → what the model said.
 *
 * Bytes may be cut anywhere: inside a character, a line, an event, a surrogate pair. Fields are checked by hand,
 * since this runs once per token. What cannot be stored (NUL, half a surrogate pair) is cleaned here, at the edge.
 */
import { StringDecoder } from 'node:string_decoder'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { cleanText, createTextCleaner } from './clean-text.ts'

/** Of an id, a model, a finish reason: what is kept of it, in UTF-16 units. They are stored as the text is. */
const nameCharsMax = 200
/** Longest line accepted, in UTF-16 units: an answer's tokens are a few hundred bytes each. */
export const lineCharsMax = 1024 * 1024

export interface ReportedUsage {
  promptTokens: number
  completionTokens: number
  totalTokens: number
  /** Credits, as a plain decimal; undefined where the server does not bill (it is not OpenRouter). */
  cost: string | undefined
}

/** An error that the upstream put into its stream, in its own words: for the log, never for a client. */
export interface StreamedError {
  code: number | undefined
  message: string
}

export interface DecodeHandlers {
  text: (content: string) => void
  reasoning: (content: string) => void
}

/** What the stream has told so far beside its text. */
export interface Decoded {
  upstreamId: string | undefined
  /** The model that really answered. */
  model: string | undefined
  finishReason: string | undefined
  usage: ReportedUsage | undefined
  /** `[DONE]` was seen: everything behind it is ignored. */
  done: boolean
  error: StreamedError | undefined
  /** A line was longer than the cap, or an event was no JSON object. */
  malformed: string | undefined
  /** Events so far, any kind: what an idle timeout looks at. */
  events: number
}

export function createDecoder(handlers: DecodeHandlers): {
  decoded: Decoded
  push(bytes: Uint8Array): void
  end(): void
} {
  const decoded: Decoded = {
    upstreamId: undefined,
    model: undefined,
    finishReason: undefined,
    usage: undefined,
    done: false,
    error: undefined,
    malformed: undefined,
    events: 0,
  }
  const characters = new StringDecoder('utf8')
  const text = createTextCleaner(handlers.text)
  const reasoning = createTextCleaner(handlers.reasoning)
  let ending = false
  /** What stood around the text of an event that held nothing else. */
  let around: Around | undefined

  const parser = createParser({
    maxBufferSize: lineCharsMax,
    onEvent: readEvent,
    onError(error) {
      if (error.type === 'max-buffer-size-exceeded')
        decoded.malformed ??= `a line of over ${lineCharsMax} characters`
    },
  })

  function readEvent({ data }: EventSourceMessage): void {
    if (decoded.done || decoded.malformed !== undefined || decoded.error !== undefined) return
    if (data === '[DONE]') {
      decoded.done = true
      return
    }
    const same = around === undefined ? '' : textWithin(around, data)
    if (same !== '') {
      decoded.events++
      text.push(same)
      return
    }
    const chunk = parseObject(data)
    if (chunk === undefined) {
      // The half event of a stream that was cut is no malformed one.
      if (!ending) decoded.malformed = 'an event that is no JSON object'
      return
    }
    decoded.events++
    readChunk(chunk)
    around ??= findAround(chunk, data)
  }

  function readChunk(chunk: Record<string, unknown>): void {
    decoded.upstreamId ??= name(chunk['id'])
    decoded.model ??= name(chunk['model'])
    const choices = chunk['choices']
    const choice: unknown = Array.isArray(choices) ? choices[0] : undefined
    if (isObject(choice)) {
      const delta = choice['delta']
      if (isObject(delta)) {
        // The one that is not in use is null, absent or empty.
        const content = delta['content'] || delta['refusal']
        const thought = delta['reasoning'] || delta['reasoning_content']
        if (typeof thought === 'string') reasoning.push(thought)
        if (typeof content === 'string') text.push(content)
      }
      decoded.finishReason = name(choice['finish_reason']) ?? decoded.finishReason
    }
    if (isObject(chunk['usage'])) decoded.usage = readUsage(chunk['usage'])
    const error = chunk['error']
    if (isObject(error)) decoded.error = readError(error)
    else if (typeof error === 'string') decoded.error = { code: undefined, message: error }
    else if (decoded.finishReason === 'error')
      decoded.error = { code: undefined, message: 'finish_reason: error' }
  }

  return {
    decoded,
    push(bytes) {
      // An overflow has terminated the parser: nothing more is read.
      if (decoded.malformed === undefined) parser.feed(characters.write(bytes))
    },
    end() {
      ending = true
      if (decoded.malformed === undefined) parser.feed(`${characters.end()}\n\n`)
      reasoning.end()
      text.end()
    },
  }
}

/**
 * The events of an answer differ in their text alone, as a rule. Once it is known what stands around it only the text
 * is parsed: the whole object was an eighth of a turn's CPU, measured with `npm run bench -- --only burst`.
 */
interface Around {
  before: string
  after: string
}

/** Undefined where the event says anything but text: a reasoning, an end, a usage, an error. */
function findAround(chunk: Record<string, unknown>, data: string): Around | undefined {
  const content = onlyTextOf(chunk)
  if (content === undefined) return undefined
  const literal = JSON.stringify(content)
  const at = data.indexOf(`"content":${literal}`)
  if (at === -1) return undefined
  const before = data.slice(0, at + '"content":'.length)
  const after = data.slice(before.length + literal.length)
  // The same words may stand elsewhere: is it really this place that is read?
  const probe = `${content}?`
  const changed = parseObject(`${before}${JSON.stringify(probe)}${after}`)
  return changed !== undefined && onlyTextOf(changed) === probe ? { before, after } : undefined
}

function onlyTextOf({ choices, usage, error }: Record<string, unknown>): string | undefined {
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined
  if (usage != null || error != null || !isObject(choice) || choice['finish_reason'] != null) return undefined
  if (!isObject(choice['delta'])) return undefined
  const { content, reasoning, reasoning_content: thought } = choice['delta']
  return typeof content === 'string' && content !== '' && !reasoning && !thought ? content : undefined
}

/** Empty where the event is another one: what stands between is one JSON string, or this is not the place. */
function textWithin({ before, after }: Around, data: string): string {
  const end = data.length - after.length
  if (end < before.length + 2 || !data.startsWith(before) || !data.endsWith(after)) return ''
  try {
    const content: unknown = JSON.parse(data.slice(before.length, end))
    return typeof content === 'string' ? content : ''
  } catch {
    return ''
  }
}

/** OpenRouter's error object: the code is a number, a numeric string, or a word. */
export function readError(error: Record<string, unknown>): StreamedError {
  const code = Number(error['code'])
  return {
    code: Number.isInteger(code) && code >= 400 && code <= 599 ? code : undefined,
    message: typeof error['message'] === 'string' ? error['message'] : 'unknown',
  }
}

export function readUsage(usage: Record<string, unknown>): ReportedUsage {
  const promptTokens = count(usage['prompt_tokens'])
  const completionTokens = count(usage['completion_tokens'])
  const cost = usage['cost']
  return {
    promptTokens,
    completionTokens,
    totalTokens: count(usage['total_tokens']) || count(promptTokens + completionTokens),
    cost: typeof cost === 'number' && Number.isFinite(cost) && cost >= 0 ? plainDecimal(cost) : undefined,
  }
}

/** The shortest decimal that reads back as this number, without an exponent: what the sender's JSON said. */
export function plainDecimal(value: number): string {
  const [mantissa = '0', exponent] = String(value).split('e')
  if (exponent === undefined) return mantissa
  const [whole = '0', fraction = ''] = mantissa.split('.')
  const digits = whole + fraction
  const point = whole.length + Number(exponent)
  if (point <= 0) return `0.${'0'.repeat(-point)}${digits}`
  return point >= digits.length
    ? digits + '0'.repeat(point - digits.length)
    : `${digits.slice(0, point)}.${digits.slice(point)}`
}

export function parseObject(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Empty says nothing: Azure's first chunk has an empty id and model, some servers an empty finish reason. */
const name = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? cleanText(value.slice(0, nameCharsMax)) : undefined

/** A token count fits PostgreSQL's integer, whatever an upstream says. */
function count(value: unknown): number {
  return typeof value === 'number' && value >= 0 ? Math.min(Math.floor(value), 2_147_483_647) : 0
}
