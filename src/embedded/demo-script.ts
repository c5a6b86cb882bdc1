/**
 * What the demo model does with one request: a behaviour is a list of steps, played in order on one response, which
 * is ended after the last. The constructors below are the ones that tests need; anything else is written as steps:
 * `{ steps: [say(['a', 'b']), finish('length'), done] }`.
 *
 * The first step that has something to send opens the answer (200, an event stream, `X-Generation-Id`). Nothing is
 * delayed unless it says so. When the request does not stream, the same steps gather one JSON body: what is said
 * becomes its message, an error replaces it, `data` is sent instead of it.
 */
import type { UpstreamError, Usage } from './demo-protocol.ts'

export interface Behaviour {
  steps: readonly Step[]
  /** default: a new `gen-…` */
  generationId?: string
  /** the model that the answer names; default: the one asked for */
  model?: string
  /** replaces fields of the counted usage, in the answer and in `GET /generation` */
  usage?: Partial<Usage>
  /** `GET /generation` answers 404 this many times before it knows this one, as the real one may */
  generationLag?: number
}

export type Step =
  /** a whole response that is not an answer; only as the first step */
  | { kind: 'reply'; status: number; headers: Readonly<Record<string, string>>; body: string }
  /** `: OPENROUTER PROCESSING` */
  | { kind: 'comment' }
  | { kind: 'pause'; ms: number }
  | { kind: 'say'; as: 'content' | 'reasoning'; tokens: readonly string[]; perTokenMs: number }
  | { kind: 'gate'; gate: GateState }
  | { kind: 'finish'; reason: string }
  | { kind: 'usage' }
  | { kind: 'done' }
  /** the error that arrives inside a 200: its chunk has `finish_reason: "error"`, or no choices at all */
  | { kind: 'error'; error: UpstreamError; withChoice: boolean }
  /** one `data:` line with this text, whatever it is */
  | { kind: 'data'; text: string }
  /** body bytes as they are, each piece written in a turn of the event loop of its own */
  | { kind: 'bytes'; pieces: readonly (string | Uint8Array)[] }
  /** filler as fast as the client reads: many frames, or one `data:` line that never ends */
  | { kind: 'flood'; bytes: number; lines: 'many' | 'one' }
  /** silence until the client leaves, or a comment now and then */
  | { kind: 'hang'; commentEveryMs: number | undefined }
  /** the socket goes, after what was sent has left: an orderly FIN, or a reset */
  | { kind: 'cut'; by: 'fin' | 'reset' }

// Steps, to be composed.

export function say(tokens: readonly string[], perTokenMs = 0): Step {
  return { kind: 'say', as: 'content', tokens, perTokenMs }
}

export function reason(tokens: readonly string[], perTokenMs = 0): Step {
  return { kind: 'say', as: 'reasoning', tokens, perTokenMs }
}

export const comment: Step = { kind: 'comment' }
export const usage: Step = { kind: 'usage' }
export const done: Step = { kind: 'done' }
export const cut: Step = { kind: 'cut', by: 'fin' }

export function finish(reason: string): Step {
  return { kind: 'finish', reason }
}

/** How an answer ends when all is well. */
export const ending: readonly Step[] = [finish('stop'), usage, done]

/** The first `count` tokens of a text without end: for behaviours where only their number matters. */
export function someTokens(count: number): string[] {
  return Array.from({ length: count }, (_, index) => SAMPLE[index % SAMPLE.length] ?? '')
}

const SAMPLE = [
  'Start',
  ' with',
  ' what',
  ' you',
  ' al',
  'ready',
  ' like',
  ' —',
  ' a',
  ' café',
  ' 🙂',
  ' perhaps',
  '.\n',
]

// Behaviours: answers.

export interface AnswerOptions {
  reasoning?: readonly string[]
  /** before the first token */
  delayMs?: number
  perTokenMs?: number
  finishReason?: string
  /** `false`: no usage is sent */
  usage?: Partial<Usage> | false
  generationId?: string
  model?: string
  generationLag?: number
}

/** A complete answer. A string is one token. */
export function answer(text: string | readonly string[], options: AnswerOptions = {}): Behaviour {
  const {
    reasoning = [],
    delayMs = 0,
    perTokenMs = 0,
    finishReason = 'stop',
    usage: counted,
    ...head
  } = options
  return {
    ...head,
    ...(counted && { usage: counted }),
    steps: [
      comment,
      { kind: 'pause', ms: delayMs },
      reason(reasoning, perTokenMs),
      say(typeof text === 'string' ? [text] : text, perTokenMs),
      finish(finishReason),
      ...(counted === false ? [] : [usage]),
      done,
    ],
  }
}

/** An answer whose tokens the test lets out. May be given to several requests: all follow it, each from the start. */
export interface Gate extends Behaviour {
  /** `count` tokens more; default 1 */
  release(count?: number): void
  /** No more tokens: what was released is sent, then what follows the gate. */
  end(): void
}

export interface GateState {
  /** token number `index`, from 0; undefined after the last */
  token(index: number): string | undefined
  released(): number
  ended(): boolean
  /** Calls back at each change, until the returned function is called. */
  onChange: (listener: () => void) => () => void
}

/** `tokens`: default an endless `t1 t2 t3 …`. `then`: default a good ending. */
export function gated(options: { tokens?: readonly string[]; then?: readonly Step[] } = {}): Gate {
  const { tokens, then = ending } = options
  const listeners = new Set<() => void>()
  let released = 0
  let ended = false
  const changed = () => [...listeners].forEach((listener) => listener())
  const gate: GateState = {
    token: (index) => (tokens ? tokens[index] : `t${index + 1} `),
    released: () => released,
    ended: () => ended,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
  return {
    steps: [comment, { kind: 'gate', gate }, ...then],
    release(count = 1) {
      released += count
      changed()
    },
    end() {
      ended = true
      changed()
    },
  }
}

/** A long answer, finished properly, as fast as it is read. `bytes` of content, rounded up to whole 16 KiB frames. */
export function huge(bytes: number): Behaviour {
  return { steps: [comment, { kind: 'flood', bytes, lines: 'many' }, ...ending] }
}

/** One `data:` line of at least `bytes` bytes, without its line end. */
export function hugeLine(bytes: number): Behaviour {
  return { steps: [comment, { kind: 'flood', bytes, lines: 'one' }] }
}

// Behaviours: answers that go wrong.

export function cutAfter(tokens: number): Behaviour {
  return { steps: [comment, say(someTokens(tokens)), cut] }
}

/** The connection is reset before any answer. */
export function reset(): Behaviour {
  return { steps: [{ kind: 'cut', by: 'reset' }] }
}

/** `after`: the request was read (default), the headers were sent, or so many tokens. Comments need headers. */
export function hang(
  options: { after?: 'request' | 'headers' | number; commentEveryMs?: number } = {},
): Behaviour {
  const { after = 'request', commentEveryMs } = options
  const silence: Step = { kind: 'hang', commentEveryMs }
  if (after === 'request') return { steps: [silence] }
  if (after === 'headers') return { steps: [comment, silence] }
  return { steps: [comment, say(someTokens(after)), silence] }
}

/** A line that is not JSON, and then the answer goes on. */
export function malformedAfter(tokens: number, text = '{"id": "gen-broken", "choices": ['): Behaviour {
  return { steps: [comment, say(someTokens(tokens)), { kind: 'data', text }, say([' and on']), ...ending] }
}

/** An error inside a 200, after so many tokens. `choices: 'none'` sends `choices: []`. */
export function errorAfter(
  tokens: number,
  options: { error?: Partial<UpstreamError>; choices?: 'error' | 'none' } = {},
): Behaviour {
  const error = {
    code: 502,
    message: 'Provider disconnected unexpectedly',
    metadata: { error_type: 'provider_unavailable', provider_name: 'Rivulet' },
    ...options.error,
  }
  const failure: Step = { kind: 'error', error, withChoice: options.choices !== 'none' }
  return { steps: [comment, say(someTokens(tokens)), failure] }
}

/** Finish reason and usage, then the end, without `[DONE]`. */
export function withoutDone(tokens = 3): Behaviour {
  return { steps: [comment, say(someTokens(tokens)), finish('stop'), usage] }
}

/** Tokens and then the end: no finish reason, no usage, no `[DONE]`. */
export function withoutFinish(tokens = 3): Behaviour {
  return { steps: [comment, say(someTokens(tokens))] }
}

export function tokensAfterDone(
  after: readonly string[] = ['never', ' to be', ' shown'],
  tokens = 3,
): Behaviour {
  return { steps: [comment, say(someTokens(tokens)), ...ending, say(after)] }
}

/** 200, an event stream, and nothing in it. */
export function empty(): Behaviour {
  return raw([])
}

/** Bytes of an event stream as they are, each piece on its own. */
export function raw(pieces: readonly (string | Uint8Array)[]): Behaviour {
  return { steps: [{ kind: 'bytes', pieces }] }
}
