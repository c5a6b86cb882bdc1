/** A client's text → a frame, or what is wrong with it; and how many it may send. */
import { z } from 'zod'
import { clientFrameSchema, ridSchema, type ClientFrame } from './protocol.ts'

export type Inbound =
  | { frame: ClientFrame }
  /** JSON, but no frame that is known here: its sender is told. */
  | { rid: Rid; problem: string }

export type Rid = z.output<typeof ridSchema>

/** @returns undefined for what is no JSON object: whoever sends that speaks something else. */
export function readFrame(data: Buffer): Inbound | undefined {
  let value: unknown
  try {
    value = JSON.parse(data.toString())
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const parsed = clientFrameSchema.safeParse(value)
  if (parsed.success) return { frame: parsed.data }
  const rid = ridSchema.safeParse('rid' in value ? value.rid : undefined)
  const [issue] = parsed.error.issues
  const problem = issue === undefined ? 'is wrong' : [issue.path.join('.'), issue.message].join(': ')
  return { rid: rid.data, problem: problem.replace(/^: /, '').slice(0, problemCharsMax) }
}

/** It may quote what was sent. */
const problemCharsMax = 200

/** What one socket may send in the long run, and at once after it was quiet. */
const messagesPerSecond = 20
const burstMessages = 40

/** @returns whether one more is allowed. */
export function createAllowance(nowMs: () => number): () => boolean {
  let left = burstMessages
  let atMs = nowMs()
  return () => {
    const now = nowMs()
    left = Math.min(burstMessages, left + ((now - atMs) / 1_000) * messagesPerSecond)
    atMs = now
    if (left < 1) return false
    left--
    return true
  }
}
