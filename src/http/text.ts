/** The wire's text and JSON values: what can be stored, and nothing that could be stored differently. */
import { z } from 'zod'

/** Deepest nesting of a JSON value that is accepted. PostgreSQL and JSON.stringify recurse; nobody needs more. */
const depthMax = 32

const storable = (text: string) => !text.includes('\0') && text.isWellFormed()
const unstorable = 'must not contain NUL or half of a surrogate pair'

/** Characters are code points, as PostgreSQL counts them. Trimmed. */
export const text = (charsMin: number, charsMax: number) =>
  z
    .string()
    .trim()
    .refine(storable, unstorable)
    .refine((value) => {
      // Counting is linear in the text: only where the cheap bounds do not decide.
      if (value.length < charsMin || value.length > charsMax * 2) return false
      const chars = value.length <= charsMax ? value.length : [...value].length
      return chars >= charsMin && chars <= charsMax
    }, `must have ${charsMin} to ${charsMax} characters`)

const userCharsMax = 255

/** As a token's `sub` may be: it is not trimmed, since nobody trims that. */
export const userId = z
  .string()
  .min(1)
  .refine(
    (id) => id.length <= userCharsMax || [...id].length <= userCharsMax,
    `must have at most ${userCharsMax} characters`,
  )
  .refine(storable, unstorable)

/** A JSON object of the client's own, stored as it is. */
export const jsonObject = z
  .record(z.string(), z.unknown())
  .refine(
    isStorable,
    `must be nested at most ${depthMax} levels deep, hold no number beyond 1.8e308, and ${unstorable}`,
  )

/** Without recursion: the value comes from outside and may be nested 100,000 levels deep. */
function isStorable(root: unknown): boolean {
  let level: unknown[] = [root]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > depthMax) return false
    const next: unknown[] = []
    for (const value of level) {
      if (typeof value === 'string' && !storable(value)) return false
      // 1e400 is Infinity here, and would be stored as null.
      if (typeof value === 'number' && !Number.isFinite(value)) return false
      if (typeof value !== 'object' || value === null) continue
      if (Array.isArray(value)) for (const item of value) next.push(item)
      else
        for (const [key, item] of Object.entries(value)) {
          if (!storable(key)) return false
          next.push(item)
        }
    }
    level = next
  }
  return true
}
