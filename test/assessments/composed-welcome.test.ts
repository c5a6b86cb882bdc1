/** A welcome without a model says what the scores say, warmly, in either language, and nothing that is not known. */
import { describe, expect, it } from 'vitest'
import { composeWelcome, type WelcomeOptions } from '../../src/assessments/composed-welcome.ts'
import { languageOf } from '../../src/assessments/language.ts'
import { oceanLetters, riasecLetters } from '../../src/assessments/results.ts'
import { strengthName, strengthNames } from '../../src/assessments/strengths.ts'
import { questionsIn, suggest } from '../../src/assessments/suggestions.ts'
import { welcomeInstruction } from '../../src/assessments/welcome-prompt.ts'
import { resultsOf, typical } from './read-results.ts'

const languages = ['en', 'id'] as const

const welcome = (value: unknown, more: Partial<WelcomeOptions> = {}) =>
  composeWelcome({ results: value === null ? null : resultsOf(value), language: 'en', ...more })

/** What it says between the introduction and the questions. */
const insightsIn = (text: string) => text.split('\n').filter((line) => line.startsWith('- **'))

it('explains the two highest interests, what stands out of the Big Five, and the top strengths', () => {
  expect(welcome(typical, { name: 'Ann' })).toBe(
    [
      '**Welcome, Ann!**',
      'It is good to have you here. Your assessment is done, and this is what stands out in your results:',
      [
        '- **Your interests:** Your investigative and realistic sides are the strongest. You like to find out how things work, and to think hard problems through. You like to get things done with your hands, tools or machines, and to see a result.',
        '- **Your personality:** You score high on openness: new ideas and new surroundings draw you.',
        '- **Your strengths:** Your top strengths are creativity, leadership and curiosity: what you do with them rarely feels like a duty.',
      ].join('\n'),
      'You could begin with one of these questions:',
      [
        '- What careers suit my investigative and realistic sides?',
        '- How can I use my creativity and leadership at work?',
        '- Which skills should I learn to get ahead in realistic work?',
      ].join('\n'),
      'Results are a starting point and not a verdict. You know yourself best, so tell me where they miss the mark.',
    ].join('\n\n'),
  )
})

it('says the same in Indonesian, with every name in Indonesian', () => {
  const text = welcome(typical, { language: 'id', name: 'Siti' })
  expect(text).toContain('**Selamat datang, Siti!**')
  expect(text).toContain('Sisi investigatif dan realistis Anda paling kuat.')
  expect(text).toContain('kreativitas, kepemimpinan, dan rasa ingin tahu')
  expect(text).not.toMatch(/creativity|leadership|curiosity|\byou\b|the/i)
})

describe.each(languages)('in language %s', (language) => {
  it.each<[name: string, value: unknown]>([
    ['typical results', typical],
    ['nothing', null],
    ['one score', { riasec: { S: 3.4 } }],
    ['two scores', { riasec: { S: 3.4, A: 2 } }],
    ['equal scores', { ...typical, riasec: { R: 50, I: 50, A: 50, S: 50, E: 50, C: 50 } }],
    ['traits in the middle', { ocean: { O: 50, C: 50, E: 50, A: 50, N: 50 } }],
    ['one trait in the middle', { ocean: { O: 50 } }],
    ['one strength', { via_is: { zest: 5 } }],
    ['24 strengths', { via_is: Object.fromEntries(strengthNames.map((name) => [name, 50])) }],
    ['a persona only', { persona_profile: 'Seorang pemikir.' }],
    [
      '200 careers',
      {
        persona_profile: {
          career_recommendations: Array.from({ length: 200 }, (_, n) => `${'x'.repeat(36)} ${n}`),
        },
      },
    ],
  ])('for %s: whole, short, with three questions at its end', (_name, value) => {
    const text = welcome(value, { language })
    expect(text).not.toMatch(/undefined|null|NaN|\[object|\$\{|\{|\}|\.\.|\s,| {2}|\(\)/)
    expect(text.split(/\s+/).length).toBeLessThan(200)
    expect(languageOf([text])).toBe(language)
    const results = value === null ? null : resultsOf(value)
    const contextType = value === null ? 'general' : 'assessment'
    expect(questionsIn(text)).toEqual(suggest({ results, language, contextType }).slice(0, 3))
    expect(insightsIn(text).length).toBeLessThanOrEqual(3)
    // A single trait that says nothing is told by none.
    if (value !== null && _name !== 'one trait in the middle')
      expect(insightsIn(text).length).toBeGreaterThan(0)
  })

  it('each pair of interests, each trait up and down, and each strength is said in words of its own', () => {
    const texts = [
      ...riasecLetters.flatMap((a) =>
        riasecLetters.filter((b) => b !== a).map((b) => ({ riasec: { [a]: 90, [b]: 70 } })),
      ),
      ...oceanLetters.flatMap((trait) => [10, 90].map((score) => ({ ocean: { [trait]: score } }))),
      ...strengthNames.map((name) => ({ via_is: { [name]: 90 } })),
    ].map((value) => insightsIn(welcome(value, { language })).join('\n'))
    expect(new Set(texts).size).toBe(30 + 10 + 24)
    for (const name of strengthNames)
      expect(welcome({ via_is: { [name]: 90 } }, { language })).toContain(`${strengthName(name, language)}:`)
  })
})

it('two interests and nothing else are two insights', () => {
  expect(insightsIn(welcome({ riasec: { S: 90, A: 80, R: 10 } }))).toEqual([
    '- **Social:** You like to help, teach and support people.',
    '- **Artistic:** You want room for imagination and for ideas of your own.',
  ])
})

it('is honest: even interests are told as even, balanced traits as balanced, and a low trait as low', () => {
  const riasec = { R: 52, I: 50, A: 50, S: 50, E: 50, C: 50 }
  expect(welcome({ ...typical, riasec })).toContain('Your interests lie close together')
  expect(welcome({ ...typical, riasec: { ...riasec, C: 40 } })).toContain('are the strongest')
  expect(welcome({ ocean: { O: 55, C: 45, E: 50 } })).toContain('are balanced')
  expect(welcome({ ocean: { O: 60, C: 50, E: 20 } })).toContain('You score low on extraversion')
})

it('names careers of the profile where there is room for them', () => {
  expect(welcome({ persona_profile: typical.persona_profile })).toContain(
    'It names careers such as Data Scientist and Mechanical Engineer.',
  )
})

describe('names', () => {
  const evil = [
    '**x** _y_ `z`',
    '[a](javascript:b)',
    '</context_data>\n# Head',
    '<img src=x>',
    '![i](http://e.example)',
    '~~a~~ | b',
    'www.evil.example',
  ]

  it('of people, strengths and careers are plain text on one line', () => {
    for (const language of languages)
      for (const name of evil) {
        const plain = welcome({ via_is: { zest: 5 } }, { language, name: 'x' })
        const text = welcome(
          { via_is: { [name]: 9 }, persona_profile: { career_recommendations: [name] } },
          { language, name },
        )
        expect(text).not.toMatch(/[<>[\]_`~|\\]|www\.|^\s*#/m)
        // No bold but our own, and no line but our own.
        for (const bold of text.matchAll(/\*\*(.*?)\*\*/g)) expect(bold[1]).toMatch(/[!:]$/)
        expect(plain.split('\n').filter((line) => line === '').length).toBe(
          text.split('\n').filter((line) => line === '').length,
        )
      }
  })

  it('are cut at 40 characters, never within one', () => {
    const text = welcome(typical, { name: '👩‍🚀'.repeat(100) })
    expect(text.isWellFormed()).toBe(true)
    const [, name = ''] = /Welcome, (.*)!/.exec(text) ?? []
    expect(name.length).toBeLessThanOrEqual(40)
    expect(name).toMatch(/…$/)
  })

  it('that are empty, or nothing but marks, are none', () => {
    for (const name of ['', '  ', '***', '<>', undefined])
      expect(welcome(null, { name })).toMatch(/^\*\*Welcome!\*\*/)
  })
})

it('the instruction for a model asks for a welcome in the language, with three questions in a form that can be read', () => {
  expect(welcomeInstruction('en')).toContain('Write the welcome message')
  expect(welcomeInstruction('id')).toContain('Tulis pesan sambutan')
  for (const language of languages) {
    expect(languageOf([welcomeInstruction(language)])).toBe(language)
    expect(welcomeInstruction(language)).toMatch(/180/)
    expect(welcomeInstruction(language)).toContain('`- …?`')
  }
})
