/**
 * Door of context: a path of messages → what a model is sent.
 *
 * First the system part: the prompt, the conversation's context data within a fence, the person's profile within
 * another one, and a line where earlier messages are left out. Then the newest messages of the path that fit the budget, oldest first. The newest question is always
 * sent, whole, also where it alone is over the budget: a cut question would be answered wrongly, and an upstream that
 * cannot take it says so.
 *
 * Promises, for whatever a path holds: after the system part roles alternate, a user's message comes first and last,
 * and none is empty. Chat templates and several providers refuse anything else.
 */
import type { ContextType } from '../conversations/schemas.ts'
import type { UpstreamMessage } from '../upstream/openrouter.ts'
import { orderData } from './assessment-data.ts'
import { fence, printData, withoutControlTokens } from './fence.ts'
import {
  dataCut,
  dataIntroduction,
  dataLeftOut,
  pathLeftOut,
  profileIntroduction,
  promptVersion,
  standIns,
  systemPrompt,
} from './prompts.ts'
import { estimateTokens, messageOverheadTokens, windowShare } from './tokens.ts'

export { fence, printData } from './fence.ts'
export { estimateTokens, messageOverheadTokens } from './tokens.ts'

export interface PathMessage {
  role: 'user' | 'assistant' | 'system'
  content: string
  /** As counted; null or absent: not yet. */
  tokens?: number | null
  /** When it was written, RFC 3339. */
  createdAt?: string
  /** Nothing lies above it. Absent: not known, and taken for true. */
  isRoot?: boolean
}

export interface ContextOptions {
  contextType: ContextType
  isFreeModel: boolean
  /** Of everything that is sent. */
  tokensMax: number
  /** What the model takes, its answer included, in tokens of its own. Absent: not known. */
  windowTokens?: number | undefined
  /** What of the window is kept for the answer. */
  answerTokensMax?: number | undefined
  /** The conversation's own; it is the user's, or another service's. */
  contextData?: Readonly<Record<string, unknown>> | undefined
  /** What the person's profile says of them, as it was found; left out where there is no room for any of it. */
  profile?: Readonly<Record<string, unknown>> | undefined
  /** Of the budget, 0 to 1: smaller where an upstream has said that all of it is too long. */
  share?: number | undefined
}

export interface Context {
  messages: UpstreamMessage[]
  /** Which text the system part begins with. */
  promptVersion: string
  /** Of all messages, as far as counted, else estimated. */
  promptTokens: number
  /** Earlier messages were. */
  isPathCut: boolean
}

/** What a token weighs where a path is read, bytes. Few languages have more: too much is read rather than too little. */
export const pathBytesPerToken = 8

/** Weight of a path that is worth reading for a budget of tokens: `readPathTexts` weighs each message. */
export const pathBytesMax = (tokensMax: number): number => Math.ceil(tokensMax * pathBytesPerToken)

/** Context data may take this much of the budget. */
const dataShare = 0.25
/** And the profile this much: it says who asks, and not what is asked about. */
const profileShare = 0.1
/** With less room than this it would say nothing, tokens. */
const dataTokensMin = 24
/** More characters than this never come to one token, on average, in JSON. */
const dataCharsPerToken = 5

const weightOf = (text: string): number => estimateTokens(text) + messageOverheadTokens

/** To tell that a path was cut, at most. */
const cutTokens = estimateTokens(pathLeftOut(new Date(0).toISOString())) + weightOf(standIns.leftOut)

/** @param path newest first, as it is walked from a leaf to its root. */
export function composeContext(path: readonly PathMessage[], options: ContextOptions): Context {
  const prompt = systemPrompt(options.contextType, options)
  const candidates = path.filter(({ content }) => content.trim() !== '').map(weigh)
  candidates.forEach((message, index) => {
    if (isFollowedUp(message, candidates[index + 1])) message.cost += weightOf(standIns.unanswered)
  })
  const newest = candidates.slice(0, candidates.findIndex(({ role }) => role !== 'assistant') + 1)
  let tokens = estimateTokens(prompt) + sum(newest)
  if (candidates[0]?.role === 'assistant') tokens += weightOf(standIns.goOn)
  if ((candidates.at(-1)?.role ?? 'assistant') === 'assistant') tokens += weightOf(standIns.opening)
  const budget = budgetOf(options)
  const data = fitContextData(options.contextData, Math.min(budget * dataShare, budget - tokens))
  tokens += data.tokens
  const profile = fitProfile(options.profile, Math.min(budget * profileShare, budget - tokens))
  tokens += profile.tokens

  const isWhole = path.at(-1)?.isRoot !== false
  const rest = candidates.slice(newest.length)
  let older = fit(rest, budget - tokens)
  const isPathCut = !isWhole || older.length < rest.length
  if (isPathCut) {
    tokens += cutTokens
    older = fit(rest, budget - tokens)
  }

  const chosen = [...newest, ...older]
  const system = [prompt, ...data.paragraphs, ...profile.paragraphs]
  if (isPathCut) system.push(pathLeftOut(chosen.at(-1)?.createdAt))
  const turns = alternate(chosen.toReversed(), isPathCut)
  return {
    messages: [{ role: 'system', content: system.join('\n\n') }, ...turns],
    promptVersion: promptVersion(options.contextType, options),
    promptTokens: tokens + sum(older),
    isPathCut,
  }
}

function budgetOf({ tokensMax, windowTokens, answerTokensMax = 0, share = 1 }: ContextOptions): number {
  const window = windowTokens === undefined ? Infinity : (windowTokens - answerTokensMax) * windowShare
  return Math.floor(Math.min(tokensMax, window) * share)
}

interface Candidate extends PathMessage {
  /** With what a template puts around it. */
  cost: number
}

const weigh = (message: PathMessage): Candidate => ({
  ...message,
  cost: message.tokens == null ? weightOf(message.content) : message.tokens + messageOverheadTokens,
})

const sum = (messages: readonly Candidate[]): number => messages.reduce((total, { cost }) => total + cost, 0)

/** As many from the first on as fit: a path with holes would not be one. */
function fit(messages: readonly Candidate[], tokensMax: number): readonly Candidate[] {
  let tokensLeft = tokensMax
  const end = messages.findIndex(({ cost }) => (tokensLeft -= cost) < 0)
  return end === -1 ? messages : messages.slice(0, end)
}

interface Fitted {
  paragraphs: string[]
  tokens: number
}

const nothing: Fitted = { paragraphs: [], tokens: 0 }

function fitContextData(data: Readonly<Record<string, unknown>> = {}, tokensMax: number): Fitted {
  if (Object.keys(data).length === 0) return nothing
  return (
    fitData('context_data', dataIntroduction, orderData(data), tokensMax) ?? {
      paragraphs: [dataLeftOut],
      tokens: estimateTokens(dataLeftOut),
    }
  )
}

function fitProfile(profile: Readonly<Record<string, unknown>> = {}, tokensMax: number): Fitted {
  if (Object.keys(profile).length === 0) return nothing
  return fitData('user_profile', profileIntroduction, profile, tokensMax) ?? nothing
}

/** @returns undefined where it has no room to say anything. */
function fitData(name: string, introduction: string, data: object, tokensMax: number): Fitted | undefined {
  const around = estimateTokens(`${introduction}${fence(name, '')}${dataCut}`)
  const room = tokensMax - around
  if (room < dataTokensMin) return undefined
  let printed = printData(data, room * dataCharsPerToken)
  // Escapes and numbers are denser than words: what is too much is cut by as much as it is too long, until it fits.
  for (let tokens = estimateTokens(printed.text); tokens > room; tokens = estimateTokens(printed.text))
    printed = printData(data, Math.floor((printed.text.length * room) / tokens) - 1)
  const paragraphs = [`${introduction}\n${fence(name, printed.text)}`]
  if (printed.cut) paragraphs.push(dataCut)
  return { paragraphs, tokens: around + estimateTokens(printed.text) }
}

/** A question to which nothing was said came before. @param before nearer to the root. */
const isFollowedUp = (message: PathMessage, before: PathMessage | undefined) =>
  before !== undefined && before.role !== 'assistant' && message.role !== 'assistant'

/**
 * Neighbouring answers become one; between questions stands that nothing was said. What is stored as the system's has no
 * more rights here than a user's.
 */
function alternate(path: readonly PathMessage[], isPathCut: boolean): UpstreamMessage[] {
  const turns: UpstreamMessage[] = []
  for (const message of path) {
    const role = message.role === 'assistant' ? 'assistant' : 'user'
    const content = withoutControlTokens(message.content)
    const last = turns.at(-1)
    if (last?.role !== role) turns.push({ role, content })
    else if (role === 'assistant') last.content += `\n\n${content}`
    // Sent again after an answer without a word: that is one question.
    else if (last.content !== content)
      turns.push({ role: 'assistant', content: standIns.unanswered }, { role, content })
  }
  if (turns[0]?.role !== 'user')
    turns.unshift({ role: 'user', content: isPathCut ? standIns.leftOut : standIns.opening })
  if (turns.at(-1)?.role !== 'user') turns.push({ role: 'user', content: standIns.goOn })
  return turns
}
