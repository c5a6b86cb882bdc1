/** What the demo model says by itself: one prepared answer for each request, told apart by question and repetition. */
import { ENGLISH, INDONESIAN, type Phrases, type Topic } from './demo-phrases.ts'
import { textOf, type ChatRequest } from './demo-protocol.ts'
import { welcomeFor } from './demo-welcome.ts'

export interface DemoAnswer {
  /** empty unless the request asks for it */
  reasoning: string[]
  tokens: string[]
  finishReason: 'stop' | 'length'
}

/** Distinct questions whose repetitions are counted; then counting starts over. */
const QUESTIONS_MAX = 1_000

/**
 * What the demo model says when nothing is scripted: a prepared piece of career guidance in the language of the newest
 * user message, on the topic it names; or a title, or a welcome, where that message or the system's asks for one. It
 * depends on that message, the temperature, the number of messages, and on how often the same question was asked
 * before, so that a regenerate reads differently.
 */
export function createDemoAnswers(): (request: ChatRequest) => DemoAnswer {
  const asked = new Map<number, number>()
  return (request) => {
    const question = hash(newestQuestion(request))
    const before = asked.get(question) ?? 0
    if (before === 0 && asked.size >= QUESTIONS_MAX) asked.clear()
    asked.set(question, before + 1)
    return composeAnswer(request, before)
  }
}

function composeAnswer(request: ChatRequest, attempt: number): DemoAnswer {
  const question = newestQuestion(request)
  const phrases = speaksIndonesian(question) ? INDONESIAN : ENGLISH
  const topic = topicOf(question)
  const title = wantsTitle(request) ? titleOf(question) : undefined
  const welcome = welcomeFor(request, question, attempt)
  const thoughts = welcome?.reasoning ?? phrases.topics[topic].reasoning

  const reasoning = wantsReasoning(request) ? tokenize(thoughts) : []
  const tokens = tokenize(title ?? welcome?.text ?? guidance(request, question, phrases, topic, attempt))
  const max = request.max_completion_tokens ?? request.max_tokens ?? Infinity
  return {
    reasoning: reasoning.slice(0, max),
    tokens: tokens.slice(0, Math.max(0, max - reasoning.length)),
    finishReason: reasoning.length + tokens.length > max ? 'length' : 'stop',
  }
}

/** The newest user message, at most its first 4,000 characters. */
function newestQuestion(request: ChatRequest): string {
  const message = request.messages.findLast(({ role }) => role === 'user')
  return message ? textOf(message).slice(0, 4_000).toWellFormed() : ''
}

function guidance(
  request: ChatRequest,
  question: string,
  phrases: Phrases,
  topic: Topic,
  attempt: number,
): string {
  const seed = hash(`${question}|${request.temperature ?? 1}|${request.messages.length}`) + attempt
  const { advice } = phrases.topics[topic]
  const points = advice.map((_, index) => `- ${pick(advice, seed + index)}`)
  const scores = topScores(request)
  return [
    pick(phrases.openings, seed)(quote(question) || phrases.nothing),
    scores.length > 0 ? phrases.scores(scores.join(phrases.and)) : '',
    points.join('\n'),
    pick(phrases.closings, seed),
    introducedBefore(request) ? '' : phrases.introduction,
  ]
    .filter((paragraph) => paragraph !== '')
    .join('\n\n')
}

const INDONESIAN_WORDS = new Set(
  `saya aku apa apakah yang dan atau bagaimana gimana karir karier kerja pekerjaan jurusan kuliah bisa ingin mau untuk
  tidak nggak gak dengan ini itu halo tolong bantu kenapa mengapa cocok suka kamu anda saran jadi sudah belum lebih`.split(
    /\s+/,
  ),
)
const ENGLISH_WORDS = new Set(
  `i a an the is am are do does what which how why and or to for of my me you your should can would like with in it
  hello hi help job career work want`.split(/\s+/),
)

function speaksIndonesian(question: string): boolean {
  const words = question.toLowerCase().match(/\p{L}+/gu) ?? []
  const known = (vocabulary: Set<string>) => words.filter((word) => vocabulary.has(word)).length
  return known(INDONESIAN_WORDS) > known(ENGLISH_WORDS)
}

function topicOf(question: string): Topic {
  return TOPIC_WORDS.find(([, words]) => words.test(question))?.[0] ?? 'direction'
}

const TOPIC_WORDS: readonly (readonly [Topic, RegExp])[] = [
  ['interview', /interview|wawancara/i],
  ['resume', /\b(cv|resume|résumé|portfolio|portofolio|lamaran|cover letter)\b/iu],
  ['study', /\b(study|major|degree|university|college|course|learn|jurusan|kuliah|belajar|kursus)/i],
  ['change', /\b(switch|change|quit|bored|burn|pindah|ganti|bosan|resign|jenuh)/i],
]

/** A few words of the question, without anything that markdown or HTML could take for its own. */
function quote(question: string): string {
  const words = question
    .replace(/[^\p{L}\p{M}\p{N}\s.,?'’%+-]/gu, ' ')
    .trim()
    .split(/\s+/)
  const points = Array.from(words.slice(0, QUOTED_WORDS).join(' '))
  const more = words.length > QUOTED_WORDS || points.length > QUOTED_CHARACTERS
  return points.slice(0, QUOTED_CHARACTERS).join('') + (more ? '…' : '')
}

const QUOTED_WORDS = 7
const QUOTED_CHARACTERS = 60

/** The two highest scores that a system message states, such as "Investigative: 85" or `"artistic": 78`. */
function topScores(request: ChatRequest): string[] {
  const context = request.messages
    .filter(({ role }) => role === 'system' || role === 'developer')
    .map((message) => textOf(message).slice(0, 20_000))
    .join('\n')
  const scores = new Map<string, number>()
  for (const [, name = '', value] of context.matchAll(RIASEC_SCORE)) {
    scores.set(name.charAt(0).toUpperCase() + name.slice(1).toLowerCase(), Number(value))
  }
  return [...scores]
    .sort(([, one], [, other]) => other - one)
    .slice(0, 2)
    .map(([name, score]) => `**${name}** (${score})`)
}

const RIASEC_SCORE =
  /\b(realistic|investigative|artistic|social|enterprising|conventional)\b["'*]{0,3}\s?[:=(]\s?(\d{1,3}(?:\.\d{1,2})?)/gi

function introducedBefore(request: ChatRequest): boolean {
  return request.messages.some((message) => {
    return message.role === 'assistant' && textOf(message).includes('OPENROUTER_API_KEY')
  })
}

function wantsReasoning({ reasoning }: ChatRequest): boolean {
  if (!reasoning) return false
  return reasoning.exclude !== true && reasoning.enabled !== false && reasoning.effort !== 'none'
}

/** A short answer to an instruction that speaks of a title: somebody wants a name for a conversation. */
function wantsTitle(request: ChatRequest): boolean {
  const max = request.max_completion_tokens ?? request.max_tokens ?? Infinity
  const instruction = request.messages.find(({ role }) => role === 'system' || role === 'developer')
  return max <= 64 && instruction !== undefined && /\b(title|judul)\b/i.test(textOf(instruction))
}

function titleOf(question: string): string {
  const title = quote(question).replace(/[.,?…]+$/, '')
  return title === '' ? 'Career guidance' : title.charAt(0).toUpperCase() + title.slice(1)
}

/** Word pieces with their leading space, as a model's tokenizer makes them; joined, they are the text again. */
function tokenize(text: string): string[] {
  return text.match(/\s?[\p{L}\p{M}]{1,7}|\s?\p{N}{1,3}|\s?[^\s\p{L}\p{M}\p{N}]+|\s+/gu) ?? []
}

function pick<T>(choices: readonly [T, ...T[]], seed: number): T {
  return choices[seed % choices.length] ?? choices[0]
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  return value >>> 0
}
