/** The language of texts shows in their commonest words, also in short ones. */
import { expect, it } from 'vitest'
import { languageOf } from '../../src/assessments/language.ts'
import { texts } from '../context/texts.ts'

it.each([
  'What now?',
  'careers for me?',
  'I love working with people.',
  'THE THINKER',
  'Hello',
  'You like to build 🚀 and repair.',
  texts['English'] ?? '',
])('%s: English', (text) => {
  expect(languageOf([text])).toBe('en')
})

it.each([
  'Apa?',
  'karier yang cocok',
  'Saya suka bekerja dengan orang.',
  'gimana caranya? aku bingung',
  'PEMIKIR YANG TENANG',
  'Anda memiliki minat kuat pada riset 🔬 dan data.',
  'Bagaimana karir di bidang machine learning?',
  texts['Indonesian'] ?? '',
])('%s: Indonesian', (text) => {
  expect(languageOf([text])).toBe('id')
})

it.each([
  ['no text', []],
  ['empty texts', ['', ' ']],
  ['emoji, digits and names', ['🚀 👩‍🚀', '42', 'Ann Lee', '<b></b>', '\ud800']],
  ['one word of each', ['the', 'yang']],
  ...['German', 'Chinese', 'Arabic', 'Thai', 'Russian', 'Base64'].map((name): [string, string[]] => [
    name,
    [texts[name] ?? ''],
  ]),
])('%s: not known', (_name, given) => {
  expect(languageOf(given)).toBeUndefined()
})

it('counts over all texts: who mixes is answered in the language that prevails', () => {
  expect(languageOf(['the job', 'saya ingin tahu apa yang cocok untuk saya'])).toBe('id')
  expect(languageOf(['yang', 'what are my strengths and the jobs for them'])).toBe('en')
})

it('looks at the beginning of a long text, and at so many texts', () => {
  const many = Array.from({ length: 10_000 }, () => 'the '.repeat(10_000))
  languageOf(many)
  const startedAt = performance.now()
  expect(languageOf(many)).toBe('en')
  expect(performance.now() - startedAt).toBeLessThan(100)
})
