/** An answer of the demo, printed as it arrives, and then what it took. */
import type { LogEvent } from '../generation/events.ts'
import type { Message } from '../messages/schemas.ts'
import { dim, seconds, style } from './demo-text.ts'

/**
 * @param since when it was asked for, of `performance.now()`. @param sinceWhat in words, where that is not the request.
 * @throws where it fails, or is cut.
 */
export async function printAnswer(
  events: AsyncIterable<LogEvent>,
  since = performance.now(),
  sinceWhat?: string,
): Promise<Message> {
  const watchedAt = performance.now()
  let firstTokenMs: number | undefined
  let frames = 0
  let shown = 0
  const show = (text: string) => {
    if (text !== '') firstTokenMs ??= performance.now() - since
    shown += text.length
    process.stdout.write(style('cyan', text))
  }

  for await (const event of events) {
    if (event.type === 'assistant_chunk') {
      frames++
      show(event.content)
    }
    // It comes once at most, before what is live: there is nothing to replace yet.
    if (event.type === 'snapshot') show(event.message.content)
    if (event.type === 'error') throw new Error(`${event.error.code}: ${event.error.message}`)
    if (event.type === 'complete') {
      const { message, usage } = event
      const isReplayed = frames === 0
      if (shown === 0) show(message.content)
      const ms = Math.round(firstTokenMs ?? 0)
      const told = [
        sinceWhat === undefined ? `first token after ${ms} ms` : `first token ${ms} ms ${sinceWhat}`,
        isReplayed ? 'it was written already: replayed' : `${frames} frames in ${seconds(watchedAt)}`,
        ...(usage === null
          ? []
          : [
              `${usage.prompt_tokens} + ${usage.completion_tokens} = ${usage.total_tokens} tokens`,
              `cost ${usage.cost ?? 'unknown'} (${usage.source})`,
            ]),
      ]
      console.log(`\n\n${dim(told.join(' · '))}`)
      return message
    }
  }
  throw new Error('the stream ended without a last frame')
}
