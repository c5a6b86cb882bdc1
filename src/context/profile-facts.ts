/**
 * A person's profile, as an auth service tells it → the few plain facts of it that a model may know.
 *
 * It knows users by a pseudonym: ids, addresses and whatever opens a door stay here.
 */

/** A model reads a few facts, and a profile has a small share of what it is sent. */
const factsMax = 20
/** UTF-16 units. */
const keyCharsMax = 60
/** A longer text is no fact, UTF-16 units. */
const textCharsMax = 200
/** A longer list is no fact either. */
const itemsMax = 10

const secret = /password|token|secret|hash|email|phone/i
const idKey = /^_?(?:id|uuid|sub)$|_(?:id|uuid)$|[a-z](?:Id|ID|Uuid)$/
const inherited: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype'])
const address = /\S@\S+\.\S/

/** @returns undefined where there is none. @throws where it is no object. */
export function pickFacts(answer: unknown): Readonly<Record<string, unknown>> | undefined {
  if (!isObject(answer)) throw new Error('a profile that is no object')
  const inner = inside(inside(answer, 'data'), 'user')
  const facts = new Map<string, Fact>()
  // What is told beside a profile of its own counts too.
  for (const [key, value] of [...Object.entries(inner), ...Object.entries(inside(inner, 'profile'))]) {
    const fact = isTellable(key) ? factIn(value) : undefined
    if (fact !== undefined && facts.size < factsMax && !facts.has(key)) facts.set(key, fact)
  }
  return facts.size === 0 ? undefined : Object.fromEntries(facts)
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function inside(value: Record<string, unknown>, key: string): Record<string, unknown> {
  const inner = Object.hasOwn(value, key) ? value[key] : undefined
  return isObject(inner) ? inner : value
}

const isTellable = (key: string): boolean =>
  key !== '' &&
  key.length <= keyCharsMax &&
  key !== 'success' &&
  !secret.test(key) &&
  !idKey.test(key) &&
  !inherited.has(key)

type PlainFact = string | number | boolean
type Fact = PlainFact | PlainFact[]

function factIn(value: unknown): Fact | undefined {
  if (!Array.isArray(value)) return plainFact(value)
  if (value.length === 0 || value.length > itemsMax) return undefined
  const items = value.map(plainFact)
  return items.every((item) => item !== undefined) ? items : undefined
}

function plainFact(value: unknown): PlainFact | undefined {
  if (typeof value === 'boolean') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  if (typeof value !== 'string') return undefined
  const text = value.toWellFormed().replaceAll('\0', '').trim()
  return text === '' || text.length > textCharsMax || address.test(text) ? undefined : text
}
