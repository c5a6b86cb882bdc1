/** Counting is exact and takes time in proportion to the text; the estimate before it is near, in every language. */
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base'
import { describe, expect, it } from 'vitest'
import { estimateTokens } from '../../src/context/build.ts'
import { count } from '../../src/context/counter.ts'
import { texts } from './texts.ts'

describe.each(Object.entries(texts))('%s', (name, text) => {
  it('is counted as o200k counts it', () => {
    expect(count(text)).toBe(countTokens(text))
    const long = `${text}\n`.repeat(200)
    expect(count(long)).toBe(countTokens(long))
  })

  it('is estimated at no less than three quarters and no more than a half more', () => {
    const ratio = estimateTokens(text) / countTokens(text)
    expect(ratio, name).toBeGreaterThan(0.75)
    expect(ratio, name).toBeLessThan(1.5)
  })
})

it('over all texts the estimate is off by less than a tenth', () => {
  const all = Object.values(texts).join('\n\n')
  expect(estimateTokens(all) / count(all)).toBeGreaterThan(0.95)
  expect(estimateTokens(all) / count(all)).toBeLessThan(1.1)
})

it('takes control tokens for text, as a model will be made to', () => {
  expect(count('<|endoftext|>')).toBeGreaterThan(4)
})

it('has nothing to count in nothing', () => {
  expect([count(''), estimateTokens('')]).toEqual([0, 0])
})

describe.each([
  ['a letter', 'a'],
  ['a letter with an accent', 'é'],
  ['letters with marks', 'a\u0301\u0302\u0303'],
  ['emoji', '😀'],
  ['families', '👩‍👩‍👧‍👦'],
  ['spaces', ' '],
  ['line breaks', '\n'],
  ['marks', '!'],
  ['slashes and line breaks', '/\n/'],
  ['digits', '7'],
  ['Han', '职业'],
  ['Thai', 'งานแบบไหน'],
  ['halves of pairs', '\ud800'],
  ['NUL', '\0'],
])('1 MB of %s', (_name, piece) => {
  const text = piece.repeat(1_000_000 / piece.length)

  it('is counted in parts, in seconds at most', () => {
    const startedAt = performance.now()
    const tokens = count(text)
    // Uncut, 100 KB of emoji take over 30 s. Cut, 1 MB of anything some 100 ms.
    expect(performance.now() - startedAt).toBeLessThan(5_000)
    // Cutting a run adds two tokens at most for each 128 characters.
    const exact = countTokens(text.slice(0, 1_200))
    expect(count(text.slice(0, 1_200)) - exact).toBeLessThanOrEqual(18)
    expect(tokens).toBeGreaterThan(0)
  })

  it('is estimated without looking at all of it', () => {
    estimateTokens(text)
    const startedAt = performance.now()
    const tokens = estimateTokens(text)
    expect(performance.now() - startedAt).toBeLessThan(20)
    const scaled = estimateTokens(text.slice(0, 60_000)) * (text.length / 60_000)
    expect(tokens / scaled).toBeGreaterThan(0.95)
    expect(tokens / scaled).toBeLessThan(1.05)
  })
})
