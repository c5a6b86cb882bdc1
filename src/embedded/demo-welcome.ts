/** The demo model's welcome to somebody whose assessment is finished: what an instruction to write one is answered with. */
import { textOf, type ChatRequest } from './demo-protocol.ts'
import {
  ENGLISH_WELCOME,
  INDONESIAN_WELCOME,
  type OceanLetter,
  type RiasecLetter,
  type WelcomePhrases,
} from './demo-welcome-phrases.ts'

export interface Welcome {
  reasoning: string
  text: string
}

/**
 * A greeting, two or three insights that quote the scores in the system message (`RIASEC (I: 92, …)`, `Big Five (…)`,
 * `Top strengths (…)` or `Kekuatan utama (…)`), and three questions in the person's own words, one a line. Without
 * scores it says so.
 *
 * @param instruction the newest user message. @param seed which of several wordings.
 * @returns undefined where no welcome is wanted.
 */
export function welcomeFor(request: ChatRequest, instruction: string, seed: number): Welcome | undefined {
  const phrases = phrasesFor(instruction)
  if (phrases === undefined) return undefined
  const profile = profileIn(request)
  const insights = insightsOf(profile, phrases).map((insight) => `- ${insight}`)
  const questions = questionsOf(profile, phrases, seed).map((question) => `- ${question}`)
  return {
    reasoning: phrases.reasoning,
    text: [
      pick(phrases.greetings, seed),
      insights.join('\n') || phrases.nothingKnown,
      [phrases.beforeQuestions, ...questions].join('\n'),
    ].join('\n\n'),
  }
}

function phrasesFor(instruction: string): WelcomePhrases | undefined {
  if (/tulis pesan sambutan/i.test(instruction)) return INDONESIAN_WELCOME
  return /write the welcome message/i.test(instruction) ? ENGLISH_WELCOME : undefined
}

interface Profile {
  /** Highest first, as all of these; at most two. */
  types: [RiasecLetter, number][]
  trait: [OceanLetter, number] | undefined
  /** At most two. */
  strengths: string[]
}

/** Of a system message, UTF-16 units. */
const CONTEXT_MAX = 20_000

function profileIn(request: ChatRequest): Profile {
  const context = request.messages
    .filter(({ role }) => role === 'system' || role === 'developer')
    .map((message) => textOf(message).slice(0, CONTEXT_MAX))
    .join('\n')
  const [, strengths = ''] = STRENGTHS.exec(context) ?? []
  return {
    types: scoresIn(context, RIASEC, isRiasec).slice(0, 2),
    trait: scoresIn(context, BIG_FIVE, isOcean)[0],
    strengths: strengths
      .split(',')
      .map(plainName)
      .filter((name) => name !== '')
      .slice(0, 2),
  }
}

// A prompt may speak of the "Big Five (OCEAN)" too: only what has a letter and a number counts.
const RIASEC = /\bRIASEC \(([^)]{1,200})\)/g
const BIG_FIVE = /\bBig Five \(([^)]{1,200})\)/g
const STRENGTHS = /\b(?:Top strengths|Kekuatan utama) \(([^)]{1,400})/
const SCORE = /\b([A-Z]): (\d{1,3}(?:\.\d{1,2})?)/g

const isRiasec = (letter: string): letter is RiasecLetter => 'RIASEC'.includes(letter)
const isOcean = (letter: string): letter is OceanLetter => 'OCEAN'.includes(letter)

function scoresIn<Letter extends string>(
  context: string,
  section: RegExp,
  isKnown: (letter: string) => letter is Letter,
): [Letter, number][] {
  const scores = new Map<Letter, number>()
  for (const [, listed = ''] of context.matchAll(section))
    for (const [, letter = '', score] of listed.matchAll(SCORE))
      if (isKnown(letter) && !scores.has(letter)) scores.set(letter, Number(score))
  return [...scores].sort(([, one], [, other]) => other - one)
}

/** Without anything that markdown or HTML could take for its own. */
function plainName(name: string): string {
  const plain = name.replace(/[^\p{L}\p{M}\p{N}'’-]+/gu, ' ').trim()
  return Array.from(plain).slice(0, NAME_CHARACTERS).join('')
}

const NAME_CHARACTERS = 40

function insightsOf({ types, trait, strengths }: Profile, phrases: WelcomePhrases): string[] {
  const insights: string[] = []
  if (types.length > 0)
    insights.push(
      phrases.types(
        types.map(([letter, score]) => `**${phrases.riasec[letter].name}** (${score})`).join(phrases.and),
        types.map(([letter]) => phrases.riasec[letter].likes).join(phrases.and),
      ),
    )
  if (trait !== undefined) {
    const { name, means } = phrases.ocean[trait[0]]
    insights.push(phrases.trait(`**${name}** (${trait[1]})`, means))
  }
  if (strengths.length > 0)
    insights.push(phrases.strengths(strengths.map((strength) => `**${strength}**`).join(phrases.and)))
  return insights
}

function questionsOf({ types, strengths }: Profile, phrases: WelcomePhrases, seed: number): string[] {
  const sides = types.map(([letter]) => phrases.riasec[letter].name.toLowerCase())
  return [
    phrases.askCareers(sides.join(phrases.and)),
    phrases.askStrength(strengths[0]),
    pick(phrases.askNext, seed),
  ]
}

function pick<T>(choices: readonly [T, ...T[]], seed: number): T {
  return choices[seed % choices.length] ?? choices[0]
}
