/** What is suggested is six to eight questions of the person's own, made from their results, different for others'. */
import { describe, expect, it } from 'vitest'
import { languageOf } from '../../src/assessments/language.ts'
import { riasecLetters, type AssessmentResults } from '../../src/assessments/results.ts'
import { strengthNames } from '../../src/assessments/strengths.ts'
import { careersIn, questionsIn, suggest, type SuggestOptions } from '../../src/assessments/suggestions.ts'
import { resultsOf, typical } from './read-results.ts'

const languages = ['en', 'id'] as const
const contextTypes = ['general', 'assessment', 'career_guidance'] as const

const suggested = (value: unknown, more: Partial<SuggestOptions> = {}) =>
  suggest({
    results: value === null ? null : resultsOf(value),
    language: 'en',
    contextType: 'assessment',
    ...more,
  })

const bare = (question: string) => question.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '')

function expectSound(questions: readonly string[], language: 'en' | 'id'): void {
  expect(questions.length).toBeGreaterThanOrEqual(6)
  expect(questions.length).toBeLessThanOrEqual(8)
  expect(new Set(questions.map(bare)).size).toBe(questions.length)
  for (const question of questions) {
    expect(question.length, question).toBeLessThanOrEqual(160)
    expect(question).toMatch(/^\p{Lu}[^\n<>[\]{}*_`|\\]*\?$/u)
    expect(question).not.toMatch(/undefined|null|NaN|\$\{|\s\s/)
    expect(question).toMatch(language === 'en' ? /\b(?:I|my|me)\b/ : /\bsaya\b/)
  }
  expect(languageOf(questions)).toBe(language)
}

const topics = {
  en: {
    careers: /career|job/i,
    strengths: /strength|my \w+ and \w+ at work/i,
    development: /skill|grow/i,
    steps: /step|plan/i,
  },
  id: {
    careers: /karier|pekerjaan/i,
    strengths: /kekuatan|memakai/i,
    development: /keterampilan|kembangkan/i,
    steps: /langkah|rencana/i,
  },
}

/** What results can be made of. */
const awkward: [name: string, value: unknown][] = [
  ['typical results', typical],
  ['nothing', null],
  ['one score', { riasec: { S: 3 } }],
  ['two scores', { riasec: { S: 3, C: 3 } }],
  ['all equal', { ...typical, riasec: { R: 50, I: 50, A: 50, S: 50, E: 50, C: 50 } }],
  ['traits only', { ocean: { N: 90 } }],
  ['one strength', { via_is: { zest: 50.5 } }],
  ['24 strengths', { via_is: Object.fromEntries(strengthNames.map((name) => [name, 50])) }],
  ['a persona only', { persona_profile: 'Suka membantu orang.' }],
  [
    '200 careers',
    { persona_profile: { career_recommendations: Array.from({ length: 200 }, (_, n) => `Career ${n}`) } },
  ],
  ['the same career 200 times', { persona_profile: { career_recommendations: Array(200).fill('Nurse') } }],
  [
    'names as long as can be',
    {
      via_is: Object.fromEntries(
        ['W', 'X', 'Y', 'Z', 'Ω'].map((letter) => [`${letter}${'x'.repeat(99)}`, 5]),
      ),
      persona_profile: { career_recommendations: ['C'.repeat(40), 'D'.repeat(40), 'E'.repeat(41)] },
    },
  ],
  [
    'names that are no names',
    {
      via_is: { '</context_data>': 9, '**x**\n- [a](http://b)': 8, '🚀🚀': 7, '?': 6 },
      persona_profile: {
        career_recommendations: ['<script>alert(1)</script>', '`rm`?', 5, null, { title: '__Pilot__?' }],
      },
    },
  ],
  ['emoji', { via_is: { ['🧑🏿‍🚀'.repeat(12)]: 5, ['👩‍👩‍👧‍👦'.repeat(9)]: 4 } }],
]

describe.each(awkward)('for %s', (_name, value) => {
  it('six to eight sound and different questions, in both languages, the same each time', () => {
    for (const language of languages)
      for (const contextType of contextTypes) {
        const questions = suggested(value, { language, contextType })
        expectSound(questions, language)
        expect(suggested(value, { language, contextType })).toEqual(questions)
      }
  })

  it('careers, strengths, development and next steps are among them, also behind three of a model’s', () => {
    for (const language of languages)
      for (const asked of [[], ['Halo 1 aaa?', 'Halo 2 aaa?', 'Halo 3 aaa?']]) {
        const text = suggested(value, { language, asked }).join('\n')
        for (const [topic, pattern] of Object.entries(topics[language])) expect(text, topic).toMatch(pattern)
      }
  })
})

describe('different results', () => {
  const pairs = riasecLetters.flatMap((first) =>
    riasecLetters.filter((second) => second !== first).map((second) => ({ [first]: 90, [second]: 80 })),
  )

  it.each(languages)('all 30 orders of the two highest interests: as many lists (%s)', (language) => {
    const low = { R: 10, I: 10, A: 10, S: 10, E: 10, C: 10 }
    const lists = pairs.map((pair) => suggested({ ...typical, riasec: { ...low, ...pair } }, { language }))
    expect(new Set(lists.map((list) => list.join('\n'))).size).toBe(30)
    expect(new Set(lists.map(([first]) => first)).size).toBe(30)
    // Also where a model's own come first.
    const asked = ['Halo 1 aaa?', 'Halo 2 aaa?', 'Halo 3 aaa?']
    const cut = pairs.map((riasec) => suggested({ ...typical, riasec }, { language, asked }).join('\n'))
    expect(new Set(cut).size).toBe(30)
  })

  it.each(languages)('all orders of the two highest strengths: as many lists (%s)', (language) => {
    const lists = strengthNames.flatMap((first) =>
      strengthNames
        .filter((second) => second !== first)
        .map((second) => suggested({ ...typical, via_is: { [first]: 90, [second]: 80 } }, { language })),
    )
    expect(new Set(lists.map((list) => list.join('\n'))).size).toBe(24 * 23)
  })

  it('a third to fifth strength, or another recommended career, makes another list', () => {
    const strengths = { creativity: 90, leadership: 80, curiosity: 70, kindness: 60 }
    const lists = ['zest', 'hope', 'love'].map((name) =>
      suggested({ ...typical, via_is: { ...strengths, [name]: 50 } }),
    )
    const careers = ['Nurse', 'Pilot'].map((career) =>
      suggested({ ...typical, persona_profile: { career_recommendations: [career] } }),
    )
    expect(new Set([...lists, ...careers].map((list) => list.join('\n'))).size).toBe(5)
  })

  it('another kind of conversation asks for other next steps', () => {
    const lists = contextTypes.map((contextType) => suggested(typical, { contextType }).join('\n'))
    expect(new Set(lists).size).toBe(3)
    expect(new Set(contextTypes.map((contextType) => suggested(null, { contextType }).join('\n'))).size).toBe(
      3,
    )
  })
})

it('names interests, strengths and careers as they are called in the language', () => {
  const english = suggested(typical)
  expect(english[0]).toBe('What careers suit my investigative and realistic sides?')
  expect(english).toContain('How can I use my creativity and leadership at work?')
  expect(english).toContain('Which would suit me better, “Data Scientist” or “Mechanical Engineer”?')
  const indonesian = suggested(typical, { language: 'id' })
  expect(indonesian[0]).toBe('Karier apa yang cocok dengan sisi investigatif dan realistis saya?')
  expect(indonesian).toContain(
    'Bagaimana saya bisa memakai kreativitas dan kepemimpinan saya dalam pekerjaan?',
  )
})

describe('careers', () => {
  const careersOf = (career_recommendations: unknown): string[] =>
    careersIn(resultsOf({ persona_profile: { summary: 's', career_recommendations } }))

  it('are read from texts and from objects that name one, at most five, each once', () => {
    expect(
      careersOf(['Nurse', { title: 'Pilot' }, { career_name: 'Nurse' }, { role: 'C++ Developer' }]),
    ).toEqual(['Nurse', 'Pilot', 'C++ Developer'])
    expect(careersOf(Array.from({ length: 200 }, (_, n) => `Career ${n}`))).toHaveLength(5)
  })

  it('are not read from sentences, numbers, or what names none', () => {
    expect(
      careersOf(['You could become a nurse, and then one day a doctor.', 7, {}, { a: 1 }, [['x']], ' ']),
    ).toEqual([])
    expect(careersIn({ ...resultsOf(typical), persona_profile: null } satisfies AssessmentResults)).toEqual(
      [],
    )
  })
})

describe('a model’s questions', () => {
  it('come first, three of them, without their Markdown', () => {
    const asked = [
      '- **How do I begin?**',
      '2. “Which courses help me?”',
      '* Why do I get bored?',
      'A fourth, for me?',
    ]
    const questions = suggested(typical, { asked })
    expect(questions.slice(0, 3)).toEqual([
      'How do I begin?',
      'Which courses help me?',
      'Why do I get bored?',
    ])
    expect(questions).not.toContain('A fourth, for me?')
    expectSound(questions, 'en')
  })

  it('leave out those of ours that are much the same', () => {
    const [ours = ''] = suggested(typical)
    const theirs = ours.replace(/\?$/, ' these days?').replace('What careers', 'Which careers')
    const questions = suggested(typical, { asked: [theirs] })
    expect(questions[0]).toBe(theirs)
    expect(questions).not.toContain(ours)
    expectSound(questions, 'en')
  })

  it.each([
    ['empty', ''],
    ['no question', 'I like this.'],
    ['too short', 'Why?'],
    ['too long', `${'Why do I '.repeat(20)}?`],
    ['1 MB long', `${'Why do I '.repeat(120_000)}?`],
    ['marks only', '??????????'],
    ['a question to the person', 'What would you like to explore first?'],
    ['another language', 'Karier apa yang cocok untuk saya?'],
    ['an address', 'Can I look at https://evil.example/?'],
    ['a tag', 'Can I </context_data> look?'],
    ['one of ours, in capitals', 'WHAT CAREERS SUIT MY INVESTIGATIVE AND REALISTIC SIDES ?'],
  ])('one that is %s adds nothing', (_name, question) => {
    expect(
      suggested(typical, { asked: [question] })
        .map(bare)
        .toSorted(),
    ).toEqual(suggested(typical).map(bare).toSorted())
  })

  it('a question of two lines is not one', () => {
    expect(suggested(typical, { asked: ['Why do I\nlike this?'] })[0]).toBe('Why do I like this?')
  })
})

describe('the questions of a welcome', () => {
  it.each<[name: string, text: string, questions: string[]]>([
    [
      'a list',
      'Hi!\n\n- What suits me?\n- Why is that so?\n- What now for me?',
      ['What suits me?', 'Why is that so?', 'What now for me?'],
    ],
    [
      'a numbered list, bold or quoted',
      '1. **What suits me?**\n2) “Why is that so?”\n3. *What now for me?*\n',
      ['What suits me?', 'Why is that so?', 'What now for me?'],
    ],
    [
      'stars, CRLF and spaces',
      '*  What suits me? \r\n* __Why is that so?__\r\n',
      ['What suits me?', 'Why is that so?'],
    ],
    [
      'the last three of more',
      'Is it me one?\nIs it me two?\nIs it me three?\nIs it me four?',
      ['Is it me two?', 'Is it me three?', 'Is it me four?'],
    ],
    [
      'a closing question of the assistant’s',
      '- What suits me?\n\nWhich one would you like to begin with?',
      ['What suits me?'],
    ],
    [
      'Indonesian',
      '- Karier apa yang cocok untuk saya?\n- Apa kekuatanku?\n\nMana yang ingin Anda bahas?',
      ['Karier apa yang cocok untuk saya?', 'Apa kekuatanku?'],
    ],
    ['a wide question mark', '- 我适合什么工作，应该怎么开始呢？', ['我适合什么工作，应该怎么开始呢?']],
    ['the same twice', '- What suits me?\n- what suits me?', ['What suits me?']],
    ['no question', 'Welcome.\n- One\n- Two', []],
    ['nothing', '', []],
    ['a paragraph', `${'Long words. '.repeat(40)}Right?`, []],
  ])('%s', (_name, text, questions) => {
    expect(questionsIn(text)).toEqual(questions)
  })

  it('are looked for at the end alone, in no time', () => {
    const text = `- Is this me?\n${'*_`[('.repeat(400_000)}\n${'- '.repeat(150)}Is that me?`
    questionsIn(text)
    const startedAt = performance.now()
    expect(questionsIn(text)).toEqual(['Is that me?'])
    expect(performance.now() - startedAt).toBeLessThan(20)
  })
})
