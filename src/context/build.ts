/**
 * Door of context: a path of messages → what a model is sent.
 *
 * The system prompt, then the newest messages of the path that fit the budget, oldest first. The newest one is
 * always sent. Answers without text (failed before their first word) are left out.
 */
import type { ContextType } from '../conversations/schemas.ts'
import type { UpstreamMessage } from '../upstream/openrouter.ts'
import { systemPrompt } from './prompts.ts'
import { bytesPerToken, estimateTokens } from './tokens.ts'

export { estimateTokens } from './tokens.ts'

export interface PathMessage {
  role: 'user' | 'assistant' | 'system'
  content: string
}

/** Bytes of a path that are worth reading for a budget of tokens. */
export const pathBytesMax = (tokensMax: number): number => tokensMax * bytesPerToken

/** @param path newest first, as it is walked from a leaf to its root. */
export function buildContext(
  path: readonly PathMessage[],
  options: { contextType: ContextType; isFreeModel: boolean; tokensMax: number },
): UpstreamMessage[] {
  const system = systemPrompt(options.contextType, options)
  let tokensLeft = options.tokensMax - estimateTokens(system)
  const chosen: UpstreamMessage[] = []
  for (const { role, content } of path) {
    if (content === '') continue
    tokensLeft -= estimateTokens(content)
    if (tokensLeft < 0 && chosen.length > 0) break
    chosen.push({ role, content })
  }
  return [{ role: 'system', content: system }, ...chosen.reverse()]
}
