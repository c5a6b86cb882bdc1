/**
 * How many tokens a text has, about, from its characters alone. The count itself is made later (`counts.ts`), with the
 * vocabulary o200k.
 *
 * Measured with the 20 texts of `test/context/texts.ts`: this estimate is 0.78 (Base64) to 1.34 (Vietnamese) of o200k's
 * count, over all of them 1.06; four bytes a token, the usual rule of thumb, 0.34 (numbers) to 2.28 (Hindi). The count is
 * exact for models of OpenAI; what other vocabularies make of the same texts, as multiples of it:
 *
 * | vocabulary     | English | code | German | Indonesian | Russian | Hindi | Chinese | emoji |
 * | -------------- | ------- | ---- | ------ | ---------- | ------- | ----- | ------- | ----- |
 * | Llama 3        | 1.00    | 1.00 | 1.17   | 1.32       | 1.21    | 1.85  | 1.03    | 1.46  |
 * | cl100k         | 1.00    | 1.00 | 1.17   | 1.32       | 1.82    | 3.50  | 1.53    | 1.53  |
 * | Mistral 7B     | 1.03    | 1.15 | 1.46   | 1.75       | 1.47    | 3.96  | 1.47    | 1.44  |
 *
 * Hence `windowShare`: a window is counted by the model's own vocabulary. A third more than o200k's count fits; where
 * even that is too little, the upstream says so, and the context is built again with a smaller share.
 */

/** Of a model's window, what may be filled as we count. */
export const windowShare = 0.75

/** What a chat template puts around a message: the border, the role, the end. */
export const messageOverheadTokens = 4

/** Text up to so many UTF-16 units is looked at whole, longer text by as much of it in `samples` places. */
const wholeCharsMax = 65_536
const samples = 16

export function estimateTokens(text: string): number {
  if (text.length <= wholeCharsMax) return Math.ceil(weigh(text, 0, text.length))
  const sampleChars = wholeCharsMax / samples
  let weight = 0
  for (let sample = 0; sample < samples; sample++) {
    const from = Math.floor(((text.length - sampleChars) * sample) / (samples - 1))
    weight += weigh(text, from, from + sampleChars)
  }
  return Math.ceil((weight * text.length) / wholeCharsMax)
}

const lower = 1
const upper = 2
const digit = 3
const mark = 4
const space = 5
const lineBreak = 6
const beyondAscii = 7

const kinds = Uint8Array.from({ length: 128 }, (_, code) => kindOf(String.fromCharCode(code)))

function kindOf(character: string): number {
  if (/[a-z]/.test(character)) return lower
  if (/[A-Z]/.test(character)) return upper
  if (/[0-9]/.test(character)) return digit
  if (/[ \t]/.test(character)) return space
  return /[\r\n]/.test(character) ? lineBreak : mark
}

/** A token is about a short word, three digits, or a mark or two: what begins one weighs most. */
function weigh(text: string, from: number, to: number): number {
  let weight = 0
  let before = space
  for (let index = from; index < to; index++) {
    const code = text.charCodeAt(index)
    const kind = code < 128 ? (kinds[code] ?? mark) : beyondAscii
    switch (kind) {
      case lower:
        weight += before === lower ? 0.13 : before === upper || before === beyondAscii ? 0.25 : 0.62
        break
      case upper:
        weight += before === upper ? 0.4 : 0.75
        break
      case digit:
        weight += before === digit ? 0.36 : 0.95
        break
      case mark:
        weight += before === mark ? 0.6 : 0.85
        break
      case space:
        weight += before === space ? 0.1 : 0.03
        break
      case lineBreak:
        weight += before === lineBreak ? 0.2 : 0.7
        break
      default:
        weight += weighBeyondAscii(code)
    }
    before = kind
  }
  return weight
}

/** By script, tokens a UTF-16 unit. */
function weighBeyondAscii(code: number): number {
  if (code < 0x250 || (code >= 0x1e00 && code < 0x1f00)) return 0.65 // Latin with marks
  if (code < 0x530) return 0.32 // Greek, Cyrillic
  if (code < 0xe00) return 0.4 // Hebrew, Arabic, scripts of India
  if (code < 0x1100) return 0.45 // Thai, Lao, Tibetan, Burmese
  if (code >= 0x3040 && code < 0x3100) return 0.8 // Kana
  if (code >= 0x3400 && code < 0xa000) return 0.85 // Han
  if (code >= 0xac00 && code < 0xd7b0) return 0.65 // Hangul
  return 1.05 // symbols, halves of an emoji, and what is rare
}
