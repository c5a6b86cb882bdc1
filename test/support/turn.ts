/** A turn as a client sees it: the same questions to both representations of one route. */
import type { Message } from '../../src/messages/schemas.ts'
import { textOf, type Client, type Frame } from './client.ts'

export type Representation = 'json' | 'sse'
export const representations: readonly Representation[] = ['json', 'sse']

export interface Turn {
  status: number
  headers: Headers
  /** All that the client got, as text. */
  raw: string
  /** Of a stream; empty for JSON. */
  frames: Frame[]
  /** The text that was shown: the frames', or the answer's content. */
  shown: string
  user: Message
  assistant: Message
  /** Of a turn that failed: the problem document, or the error frame's error. */
  error: { code: string; retry_after?: number; retryable?: boolean } | undefined
}

/** Sends, and waits for the end of the answer. Throws where the response holds no turn. */
export async function takeTurn(
  client: Client,
  conversationId: string,
  as: Representation,
  body: Record<string, unknown> = {},
): Promise<Turn> {
  const path = `/conversations/${conversationId}/messages`
  const turn = as === 'json' ? await asJson(client, path, body) : await asStream(client, path, body)
  if (!isMessage(turn.user) || !isMessage(turn.assistant))
    throw new Error(`no turn: ${turn.raw.slice(0, 500)}`)
  return turn
}

async function asJson(client: Client, path: string, body: Record<string, unknown>): Promise<Turn> {
  const {
    status,
    headers,
    body: answer,
  } = await client.post<{
    user_message: Message
    assistant_message: Message
    code: string
  }>(path, { content: 'Hello?', ...body })
  const { user_message: user, assistant_message: assistant } = answer
  return {
    status,
    headers,
    raw: JSON.stringify(answer),
    frames: [],
    shown: isMessage(assistant) ? assistant.content : '',
    user,
    assistant,
    error: status === 200 ? undefined : answer,
  }
}

async function asStream(client: Client, path: string, body: Record<string, unknown>): Promise<Turn> {
  const stream = await client.stream(path, { content: 'Hello?', ...body })
  const frames = await stream.ended
  const last = frames.at(-1)?.data
  return {
    status: stream.status,
    headers: stream.headers,
    raw: stream.raw(),
    frames,
    shown: textOf(frames),
    user: frames[0]?.data['message'] as Message,
    assistant: last?.['message'] as Message,
    error: last?.type === 'error' ? (last['error'] as Turn['error']) : undefined,
  }
}

const isMessage = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'content' in value
