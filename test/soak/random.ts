/** Chance from a seed: the same seed, part and case give the same choices, whatever else runs beside it. */

export interface Random {
  /** 0 ≤ x < 1 */
  next(): number
  /** A whole number, both ends included. */
  int(min: number, max: number): number
  chance(probability: number): boolean
  pick<T>(choices: readonly [T, ...T[]]): T
}

/** One stream of chance for each case of each part: a case is replayed without those before it. */
export function randomOf(seed: number, part: string, caseNumber: number): Random {
  let state = hash(`${seed}/${part}/${caseNumber}`)
  // Mulberry32: a few lines, and good enough for where to cut.
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  return {
    next,
    int: (min, max) => min + Math.floor(next() * (max - min + 1)),
    chance: (probability) => next() < probability,
    pick: (choices) => choices[Math.floor(next() * choices.length)] ?? choices[0],
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  return value
}

const words = [
  'and',
  ' so',
  ' it',
  ' is',
  ' perhaps',
  '.\n\n',
  ' é',
  ' ñandú',
  ' Ünïcödé',
  ' 你好',
  '世界',
  ' привет',
  ' 🙂',
  '👩‍👩‍👧‍👦',
  '🇮🇩',
  'e\u0301',
  ' مرحبا',
  '\u2028',
  '\r\n',
  '\t',
  '"',
  '\\n',
  ' data: ',
  '\n\ndata: {}\n\n',
  '\n\nid: 7\n',
  '  ',
  '</script>',
  '\ufeff',
  '\u0007',
  '0',
] as const

/** An answer's tokens: any script, line ends and what looks like a frame; now and then half a character. */
export function tokensOf(random: Random, count: number): string[] {
  const text = Array.from({ length: count }, () => random.pick(words))
  // A pair of surrogates may arrive as two tokens.
  return text.flatMap((word) => {
    const cut = word.search(/[\ud800-\udbff][\udc00-\udfff]/)
    return cut >= 0 && random.chance(0.3) ? [word.slice(0, cut + 1), word.slice(cut + 1)] : [word]
  })
}
