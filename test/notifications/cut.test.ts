/** Cutting text: by characters or by bytes, and never through one. */
import { describe, expect, it } from 'vitest'
import { cutChars, cutJsonBytes, oneLine } from '../../src/notifications/cut.ts'

const texts = ['', 'a', 'word word word', 'é'.repeat(50), '🎉'.repeat(50), 'a🎉"\\\n\u0001é'.repeat(9)]

describe('cutChars', () => {
  it.each(texts)('leaves what fits, and else cuts %j to exactly what fits', (text) => {
    const chars = [...text].length
    for (let charsMax = 1; charsMax <= chars + 1; charsMax++) {
      const cut = cutChars(text, charsMax)
      if (chars <= charsMax) expect(cut).toBe(text)
      else {
        expect(cut).toBe(
          `${[...text]
            .slice(0, charsMax - 1)
            .join('')
            .trimEnd()}…`,
        )
        expect(cut.isWellFormed()).toBe(true)
      }
    }
  })
})

describe('cutJsonBytes', () => {
  it.each(texts)('leaves what fits, and else cuts %j between characters', (text) => {
    const bytesOf = (value: string) => Buffer.byteLength(JSON.stringify(value)) - 2
    for (let bytesMax = 3; bytesMax <= bytesOf(text) + 1; bytesMax++) {
      const cut = cutJsonBytes(text, bytesMax)
      expect(bytesOf(cut)).toBeLessThanOrEqual(bytesMax)
      if (bytesOf(text) <= bytesMax) expect(cut).toBe(text)
      else {
        expect(text.startsWith(cut.slice(0, -1))).toBe(true)
        expect(cut).toMatch(/…$/)
        expect(cut.isWellFormed()).toBe(true)
      }
    }
  })
})

it('puts a text on one line, whatever broke it', () => {
  expect(oneLine(' a\r\nb\tc\u0000\u0085d\u2028e  f ')).toBe('a b c d e f')
})
