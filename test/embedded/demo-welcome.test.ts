/** The demo model writes a welcome where it is asked for one, from the scores that it is shown. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parseResults } from '../../src/assessments/results.ts'
import { strengthName } from '../../src/assessments/strengths.ts'
import { questionsIn } from '../../src/assessments/suggestions.ts'
import { summarize } from '../../src/assessments/summary.ts'
import { welcomeInstruction } from '../../src/assessments/welcome-prompt.ts'
import { startDemoModel, type DemoModel } from '../../src/embedded/demo-model.ts'

let demo: DemoModel
beforeAll(async () => {
  demo = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
})
beforeEach(() => demo.forget())
afterAll(() => demo.close())

const english = 'Write the welcome message for this person.'
const indonesian = 'Tulis pesan sambutan untuk orang ini.'
const summary =
  'RIASEC (I: 92, R: 85, A: 78), Big Five (O: 88, E: 82, C: 75), Top strengths (creativity, love of learning, …), Career profile: available'
const prompt = `You know the RIASEC, Big Five (OCEAN) and VIA character strengths models.\n<context>\n{"assessment_summary": "${summary}"}\n</context>`

const system = (content: string) => ({ role: 'system', content })
const user = (content: string) => ({ role: 'user', content })

async function ask(messages: unknown[], more: Record<string, unknown> = {}): Promise<string> {
  const response = await fetch(`${demo.baseUrl}/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ messages, ...more }),
  })
  expect(response.status).toBe(200)
  const { choices } = (await response.json()) as { choices: [{ message: { content: string } }] }
  return choices[0].message.content
}

/** Its three parts. */
async function partsOf(instruction: string, shown: string = prompt): Promise<[string, string, string]> {
  const parts = (await ask([system(shown), user(instruction)])).split('\n\n')
  expect(parts).toHaveLength(3)
  return parts as [string, string, string]
}
const itemsIn = (part: string) => part.split('\n').filter((line) => line.startsWith('- '))

it.each(['en', 'id'] as const)(
  'answers the instruction that is really given, and its questions are found (%s)',
  async (language) => {
    const parsed = parseResults({ riasec: { S: 91, E: 84.4 }, ocean: { N: 70 }, via_is: { zest: 90 } })
    if ('problem' in parsed) throw new Error(parsed.problem)
    const shown = JSON.stringify({ assessment_summary: summarize(parsed.results, language) })
    const text = await ask([system(shown), user(welcomeInstruction(language))])
    expect(text).toContain('(91)')
    expect(text).toContain('(70)')
    // The strength, under the name that the summary gives it.
    expect(text).toContain(`**${strengthName('zest', language)}**`)
    expect(questionsIn(text)).toHaveLength(3)
  },
)

describe.each([
  ['English', english, '**Investigative** (92) and **Realistic** (85)', '**Openness** (88)', /\b(my|I)\b/],
  [
    'Indonesian',
    indonesian,
    '**Investigatif** (92) dan **Realistis** (85)',
    '**Keterbukaan** (88)',
    /\bsaya\b/,
  ],
])('a welcome in %s', (_, instruction, types, trait, firstPerson) => {
  it('greets, tells three insights with their scores, and ends with three questions', async () => {
    const [greeting, insights, questions] = await partsOf(instruction)
    expect(greeting).toMatch(/[.!]$/)
    expect(itemsIn(insights)).toEqual([
      expect.stringContaining(types),
      expect.stringContaining(trait),
      expect.stringContaining('**creativity**'),
    ])
    expect(insights).toContain('**love of learning**')
    expect(insights).not.toContain('…')
    expect(itemsIn(questions)).toHaveLength(3)
    for (const question of itemsIn(questions)) {
      expect(question).toMatch(/^- .{10,150}\?$/)
      expect(question).toMatch(firstPerson)
    }
  })

  it('is at most 180 words, and the one prepared line about the demo is left to an answer', async () => {
    const text = await ask([system(prompt), user(instruction)])
    expect(text.split(/\s+/).length).toBeLessThanOrEqual(180)
    expect(text).not.toMatch(/OPENROUTER|undefined|null|NaN/)
  })

  it('is another one for another profile, and differs when written again', async () => {
    const other = prompt.replace('I: 92, R: 85', 'S: 90, E: 81')
    const texts = [
      await ask([system(prompt), user(instruction)]),
      await ask([system(prompt), user(instruction)]),
    ]
    texts.push(await ask([system(other), user(instruction)]))
    expect(new Set(texts).size).toBe(3)
    expect(texts[2]).not.toContain('(92)')
  })

  it('without scores invents none, and asks all the same', async () => {
    const [, middle, questions] = await partsOf(
      instruction,
      'You know the Big Five (OCEAN) and RIASEC (Holland).',
    )
    expect(middle).not.toMatch(/\d/)
    expect(itemsIn(middle)).toEqual([])
    expect(new Set(itemsIn(questions)).size).toBe(3)
  })
})

it('tells what there is: one section alone', async () => {
  const insightsFor = async (shown: string) => itemsIn((await partsOf(english, shown))[1])
  expect(await insightsFor('Top strengths (humor)')).toEqual([expect.stringContaining('**humor**')])
  expect(await insightsFor('RIASEC (C: 50.5)')).toEqual([expect.stringContaining('**Conventional** (50.5)')])
  expect(await insightsFor('Big Five (N: 0)')).toEqual([expect.stringContaining('(0)')])
})

it('takes the highest scores, in whatever order they are listed', async () => {
  const [, insights] = await partsOf(english, 'RIASEC (A: 10, C: 97, S: 55)')
  expect(insights).toContain('**Conventional** (97) and **Social** (55)')
})

it('repeats a name as plain words only', async () => {
  const text = await ask([
    system(`Top strengths (<script>alert</script>, [x](javascript:y, ${'z'.repeat(100)})`),
    user(english),
  ])
  expect(text).not.toMatch(/[<>[\]:]alert|<|>|\[|\]/)
  expect(text).not.toContain('z'.repeat(41))
})

it('follows the newest user message: an older instruction is over, and any other question is answered', async () => {
  const messages = [
    system(prompt),
    user(english),
    { role: 'assistant', content: 'Welcome!' },
    user('What now?'),
  ]
  expect(await ask(messages)).toContain('“What now?”')
})

it('is not what a title’s instruction is answered with', async () => {
  const messages = [system('Write a title for this conversation.'), user(english)]
  expect(await ask(messages, { max_tokens: 20 })).toBe('Write the welcome message for this person')
})

it('thinks of a welcome where it is asked to think', async () => {
  await ask([system(prompt), user(english)], { reasoning: { effort: 'low' } })
  expect(demo.requests[0]?.counts.reasoning).toBeGreaterThan(0)
})

it('streams as any answer does, and is cut where the tokens end', async () => {
  const response = await fetch(`${demo.baseUrl}/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ messages: [system(prompt), user(english)], stream: true }),
  })
  expect(await response.text()).toContain('data: [DONE]')
  expect(demo.requests[0]?.sentText).toContain('**Investigative** (92)')
  await ask([system(prompt), user(english)], { max_tokens: 5 })
  expect(demo.requests[1]?.counts.content).toBe(5)
})
