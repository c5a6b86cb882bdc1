import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { DEMO_MODEL_ID, startDemoModel, type DemoModel } from '../../src/embedded/demo-model.ts'

let demo: DemoModel

beforeAll(async () => {
  demo = await startDemoModel({ tokenDelayMs: 0, firstTokenDelayMs: 0 })
})
beforeEach(() => demo.forget())
afterAll(() => demo.close())

const user = (content: string) => ({ role: 'user' as const, content })

async function answerOf(request: unknown): Promise<unknown> {
  const url = `${demo.baseUrl}/chat/completions`
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(request) })
  return response.json()
}

async function ask(content: string, more: Record<string, unknown> = {}): Promise<string> {
  const answer = completion.parse(await answerOf({ messages: [user(content)], ...more }))
  return answer.choices[0].message.content
}

const completion = z.object({
  choices: z.tuple([z.object({ message: z.object({ content: z.string() }) })]),
})

const questions = [
  'What career fits somebody who likes drawing and mathematics?',
  'How do I prepare for an interview?',
  'I am bored, should I switch jobs?',
  'Bagaimana cara memilih jurusan kuliah yang cocok untuk saya?',
  'Tolong bantu saya menulis CV',
  'Saya mau ganti pekerjaan tapi takut',
  '',
  '`<script>alert(1)</script>` **[x](javascript:y)** \ud800 😀😀',
  'a'.repeat(100_000),
]

test.each(questions)('has 60 to 180 tokens, some of them not ASCII (%#)', async (question) => {
  const text = await ask(question)
  const counts = demo.requests[0]?.counts
  expect(counts?.content).toBeGreaterThanOrEqual(60)
  expect(counts?.content).toBeLessThanOrEqual(180)
  expect(text).toMatch(/[^\p{ASCII}]/u)
  expect(text.isWellFormed()).toBe(true)
  expect(text).toContain('OPENROUTER_API_KEY')
  expect(text).not.toMatch(/[<>[\]]/)
})

test('follows the language of the newest user message and quotes it', async () => {
  expect(await ask('Apakah saya cocok jadi desainer?')).toMatch(
    /Apakah saya cocok jadi desainer\?.*[\s\S]*model demo/,
  )
  expect(await ask('Would design suit me?')).toMatch(/Would design suit me\?[\s\S]*demo model/)
})

test('differs when asked again, and with another temperature', async () => {
  const answers = [await ask('Hello'), await ask('Hello'), await ask('Hello', { temperature: 0.2 })]
  expect(new Set(answers).size).toBe(3)
})

test('introduces itself once in a conversation', async () => {
  const first = await ask('Hello')
  const messages = [user('Hello'), { role: 'assistant', content: first }, user('And then?')]
  expect(await ask('', { messages })).not.toContain('OPENROUTER_API_KEY')
})

test('names the two highest scores of an assessment in the system prompt', async () => {
  const system = { role: 'system', content: '{"realistic": 20, "investigative": 85, "artistic": 78.5}' }
  expect(await ask('', { messages: [system, user('What suits me?')] })).toContain(
    '**Investigative** (85) and **Artistic** (78.5)',
  )
})

test('thinks aloud only when asked to', async () => {
  await ask('Hello')
  await ask('Hello', { reasoning: { effort: 'low' } })
  await ask('Hello', { reasoning: { effort: 'low', exclude: true } })
  expect(demo.requests.map(({ counts }) => counts.reasoning > 0)).toEqual([false, true, false])
})

test('stops at max_tokens with the finish reason length', async () => {
  expect(await answerOf({ messages: [user('Hello')], max_tokens: 5 })).toMatchObject({
    model: DEMO_MODEL_ID,
    choices: [{ finish_reason: 'length' }],
    usage: { completion_tokens: 5 },
  })
})

test('is a title when a title is what the system prompt wants', async () => {
  const system = { role: 'system', content: 'Write a title for this conversation.' }
  expect(await ask('', { messages: [system, user('how do I become a pilot?')], max_tokens: 20 })).toBe(
    'How do I become a pilot',
  )
})
