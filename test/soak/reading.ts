/**
 * What a client makes of the frames that it gets, over any number of responses, by the contract and nothing else: a
 * chunk appends, a snapshot replaces, a cursor is the id of the last complete frame.
 */
import type { Message } from '../../src/messages/schemas.ts'
import { isTerminal, type TimedFrame } from './viewing.ts'

/** How a response was asked for. */
export type Asked =
  /** By sending, or by sending the same again under the same key: from the first event on. */
  | 'send'
  /** With the id of a frame that was received: exactly what is behind it. */
  | 'cursor'
  | 'no cursor'
  /** With a cursor that is not of this log, or beyond its end. */
  | 'unknown cursor'

interface State {
  cursor: string | undefined
  text: string
  reasoning: string
}

export interface Reading {
  state(): Readonly<State>
  /** After each frame that leaves a client somewhere to go on from, oldest first. */
  states(): readonly Readonly<State>[]
  /** The terminal frames of the newest response. */
  terminals(): readonly TimedFrame[]
  /** A response begins. @param from the client's state that it goes on from; default: the newest. */
  begin(asked: Asked, from?: Readonly<State>): void
  /** @returns what the contract does not allow. */
  take(frames: readonly TimedFrame[]): string[]
  /** Snapshots in answers to a cursor that had been received. */
  snapshots(): number
  /** What came when, for who has to find out why. */
  history(): string
}

/** What is there before an unknown cursor is answered, and must not be afterwards. */
const stale = 'what another answer said'

export function createReading(): Reading {
  const states: State[] = []
  let state: State = { cursor: undefined, text: '', reasoning: '' }
  let asked: Asked = 'send'
  let lastSeq = 0
  let first = true
  let terminals: TimedFrame[] = []
  let snapshots = 0
  const history: string[] = []

  function takeOne(frame: TimedFrame): string[] {
    const wrong: string[] = []
    const { data, seq } = frame
    const say = (what: string) => wrong.push(`${what}: ${frame.id} ${JSON.stringify(data).slice(0, 200)}`)
    // Who has the terminal frame gets it again; a snapshot goes back to what is stored.
    const again = first && ((isTerminal(frame) && seq === lastSeq) || data.type === 'snapshot')
    if (seq <= lastSeq && !again) say(`a seq that is not beyond ${lastSeq}`)
    if (terminals.length > 0) say('a frame behind the terminal one')
    lastSeq = seq
    if (first && asked === 'unknown cursor' && data.type !== 'snapshot')
      say('no snapshot for an unknown cursor')
    if (first && asked === 'no cursor' && !begins(frame)) say('does not begin with the beginning')
    first = false
    if (data.type === 'assistant_chunk') state = { ...state, text: state.text + textIn(data['content']) }
    else if (data.type === 'reasoning_chunk')
      state = { ...state, reasoning: state.reasoning + textIn(data['content']) }
    else if (data.type === 'snapshot') {
      if (asked === 'send') say('a snapshot for one who was there from the start')
      if (asked === 'cursor') snapshots++
      const { content, metadata } = data['message'] as Message
      state = { ...state, text: content, reasoning: textIn(metadata['reasoning']) }
    }
    if (isTerminal(frame)) terminals.push(frame)
    history.push(`${seq} ${data.type} → ${state.text.length}`)
    state = { ...state, cursor: frame.id }
    states.push(state)
    return wrong
  }

  return {
    state: () => state,
    states: () => states,
    terminals: () => terminals,
    snapshots: () => snapshots,
    history: () => history.join('\n'),
    begin(how, from = state) {
      history.push(`begins: ${how}, from ${from.cursor ?? 'nothing'}, ${from.text.length} units`)
      asked = how
      first = true
      terminals = []
      lastSeq = how === 'cursor' ? Number(from.cursor?.split(':')[1] ?? 0) : 0
      state =
        how === 'cursor'
          ? from
          : how === 'unknown cursor'
            ? { cursor: undefined, text: stale, reasoning: stale }
            : { cursor: undefined, text: '', reasoning: '' }
    },
    take: (frames) => frames.flatMap(takeOne),
  }
}

const textIn = (value: unknown): string => (typeof value === 'string' ? value : '')

/** Where nothing is stored yet, what is shown elsewhere begins with the question; or ends, where its process died. */
const begins = ({ data }: TimedFrame): boolean =>
  data.type === 'assistant_start' ||
  data.type === 'user_message' ||
  (data.type === 'error' && (data['message'] as Message).content === '')
