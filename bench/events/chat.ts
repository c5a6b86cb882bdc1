/** The chat beside it: short questions at a steady rate, each in a conversation of its own, read to their end. */
import { setTimeout as delay } from 'node:timers/promises'
import { mintToken } from '../../src/auth/tokens.ts'
import { secret } from '../realtime/subjects.ts'
import { quantiles } from './quantiles.ts'

export interface Chatting {
  /** From sending to the first token, and to the end of the answer, ms. */
  firstMs: ReturnType<typeof quantiles>
  wholeMs: ReturnType<typeof quantiles>
  sends: number
  failed: number
}

const perSecond = 2
/** As the demo model: an answer of 150 ms. */
const content = '10 tokens, 15 ms apart'
/** What is later than this is a failure, ms. */
const patienceMs = 20_000

/** Sends until `over`. */
export async function chat(origin: string, over: AbortSignal): Promise<Chatting> {
  const token = await mintToken(secret, { sub: 'chatting', hours: 2 })
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
  const firsts: number[] = []
  const wholes: number[] = []
  const sending: Promise<void>[] = []
  let failed = 0

  async function send(): Promise<void> {
    const made = await fetch(`${origin}/conversations`, { method: 'POST', headers, body: '{}' })
    const { id } = (await made.json()) as { id: string }
    const beganMs = performance.now()
    const answer = await fetch(`${origin}/conversations/${id}/messages`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ content, stream: true }),
      signal: AbortSignal.timeout(patienceMs),
    })
    let firstMs: number | undefined
    let said = ''
    for await (const bytes of answer.body ?? []) {
      said += Buffer.from(bytes as Uint8Array).toString('latin1')
      if (firstMs === undefined && said.includes('assistant_chunk')) firstMs = performance.now() - beganMs
    }
    if (firstMs === undefined || !said.includes('"complete"')) throw new Error(`no answer: ${answer.status}`)
    firsts.push(firstMs)
    wholes.push(performance.now() - beganMs)
  }

  while (!over.aborted) {
    sending.push(
      send().catch(() => {
        failed++
      }),
    )
    await delay(1_000 / perSecond, undefined, { signal: over }).catch(() => undefined)
  }
  await Promise.all(sending)
  return { firstMs: quantiles(firsts), wholeMs: quantiles(wholes), sends: sending.length, failed }
}
