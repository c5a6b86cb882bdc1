/**
 * Counts tokens, with the vocabulary o200k. Runs as a thread: to load the vocabulary takes 130 ms and 70 MB, and
 * neither that nor a long text may hold up a stream.
 *
 * Message in: texts. Message out: as many counts.
 */
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { clearMergeCache, countTokens } from 'gpt-tokenizer/encoding/o200k_base'

/**
 * The tokenizer's time is quadratic in a run without a border (100,000 emoji: 34 s), so longer runs are counted in parts
 * of so many characters. That adds a token or two for each, and no word of any language is that long.
 */
const longRun = /[\p{L}\p{M}]{128}|[^\s\p{L}\p{N}]{128}|\s{128}|[\r\n/]{128}/gu

/** What looks like a control token is text, as it will be for the model. */
const asText = { disallowedSpecial: new Set<string>() }

export function count(text: string): number {
  let tokens = 0
  let from = 0
  for (const { 0: run, index } of text.matchAll(longRun)) {
    tokens += countTokens(text.slice(from, index + run.length), asText)
    from = index + run.length
  }
  return tokens + countTokens(text.slice(from), asText)
}

if (parentPort !== null) {
  const port = parentPort
  // On Linux a thread has a priority of its own: streams come first. Elsewhere it would be the whole process's.
  if (process.platform === 'linux') setPriority(10)
  port.on('message', (texts: string[]) => {
    const counts = texts.map(count)
    // It remembers pieces of what it has seen, which is nobody's business any more.
    clearMergeCache()
    port.postMessage(counts)
  })
}
