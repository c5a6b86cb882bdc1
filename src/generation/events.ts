/** Door of generation, for clients: what a generation's log holds: the frames of the contract, one event each. */
import type { ErrorCode } from '../errors.ts'
import type { Message, Usage } from '../messages/schemas.ts'

export interface FrameError {
  code: ErrorCode
  message: string
  retryable: boolean
  retry_after?: number
}

export type TextEvent = { type: 'assistant_chunk' | 'reasoning_chunk'; content: string }

export type TerminalEvent =
  | { type: 'complete'; message: Message; usage: Usage | null }
  | { type: 'error'; error: FrameError; message: Message }

/** Before the first text another model is asked; or nothing has been said for a while. */
export interface StatusEvent {
  type: 'status'
  state: 'waiting' | 'fallback'
  model: string
  detail: string
}

/** How a generation ends. */
export type Outcome = 'complete' | 'stopped' | 'failed' | 'interrupted'

export type LogEvent =
  | { type: 'user_message'; message: Message }
  | {
      type: 'assistant_start'
      message: Message
      generation_id: string
      model: string
      estimated_response_time_ms: number | null
    }
  | { type: 'snapshot'; message: Message }
  | TextEvent
  | StatusEvent
  | TerminalEvent

export const isTerminal = (event: LogEvent): event is TerminalEvent =>
  event.type === 'complete' || event.type === 'error'

export const isText = (event: LogEvent): event is TextEvent =>
  event.type === 'assistant_chunk' || event.type === 'reasoning_chunk'
