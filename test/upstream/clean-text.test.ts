/** Text as it can be stored: the same, however its UTF-16 units were cut into tokens. Pure. */
import { describe, expect, it } from 'vitest'
import { createTextCleaner } from '../../src/upstream/clean-text.ts'

describe('the text cleaner', () => {
  it('makes every cut of a text in UTF-16 units the same text', () => {
    const text = 'a🙂\ufeff𝒻é\r\n🏳️‍🌈z'
    for (let one = 0; one <= text.length; one++)
      for (let two = one; two <= text.length; two++) {
        const pieces: string[] = []
        const cleaner = createTextCleaner((piece) => void pieces.push(piece))
        for (const piece of [text.slice(0, one), text.slice(one, two), text.slice(two)]) cleaner.push(piece)
        cleaner.end()
        expect(pieces.join('')).toBe(text)
        expect(pieces.every((piece) => piece !== '' && piece.isWellFormed())).toBe(true)
      }
  })

  it('never emits nothing', () => {
    const pieces: string[] = []
    const cleaner = createTextCleaner((piece) => void pieces.push(piece))
    for (const piece of ['', '\0', '\ud83d', '']) cleaner.push(piece)
    cleaner.end()
    cleaner.end()
    expect(pieces).toEqual(['\ufffd'])
  })
})
