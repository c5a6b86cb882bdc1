/** Signatures of webhooks, as Standard Webhooks has them: HMAC-SHA256 of `id.timestamp.body`, base64, after `v1,`. */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

export interface Signed {
  id: string
  /** Seconds since 1970. */
  timestamp: string
  /** Byte for byte as it was sent. */
  body: string | Buffer
}

/** The standard allows 24 to 64 bytes. */
const secretBytes = 32
const secretBytesMin = 24
const secretBytesMax = 64
/** How old or how far ahead a signed message may be, seconds: older ones may be somebody's recording. */
const defaultToleranceS = 300

/** Shown once to whoever registers a target. */
export const createWebhookSecret = (random: (bytes: number) => Buffer = randomBytes): string =>
  `whsec_${random(secretBytes).toString('base64')}`

/** @returns the header's value; undefined where the secret is none. */
export function signWebhook(secret: string, { id, timestamp, body }: Signed): string | undefined {
  const key = keyOf(secret)
  if (key === undefined) return undefined
  const digest = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')
  return `v1,${digest}`
}

/**
 * For whoever receives them: is this message ours, whole, and of now?
 *
 * @param signature the header `webhook-signature`: one signature, or several (while secrets change) by spaces.
 * @param options `nowMs` and `toleranceS` are for clocks that differ by more than five minutes.
 */
export function verifySignature(
  secret: string,
  signed: Signed,
  signature: string,
  options: { nowMs?: number; toleranceS?: number } = {},
): boolean {
  const { nowMs = Date.now(), toleranceS = defaultToleranceS } = options
  if (!/^\d{1,12}$/.test(signed.timestamp)) return false
  if (Math.abs(nowMs / 1000 - Number(signed.timestamp)) > toleranceS) return false
  const expected = signWebhook(secret, signed)
  return expected !== undefined && signature.split(' ').some((given) => isSame(given, expected))
}

/** In a time that says nothing about where they differ. */
function isSame(given: string, expected: string): boolean {
  const [left, right] = [Buffer.from(given), Buffer.from(expected)]
  return left.length === right.length && timingSafeEqual(left, right)
}

function keyOf(secret: string): Buffer | undefined {
  const [, encoded] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret) ?? []
  if (encoded === undefined) return undefined
  const key = Buffer.from(encoded, 'base64')
  return key.length >= secretBytesMin && key.length <= secretBytesMax ? key : undefined
}
