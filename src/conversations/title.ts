/** A title from the first exchange, by rule: the question's first sentence, or the answer's where that says little. */

export const defaultTitle = 'New Conversation'

/** Longest title that is made, in characters. */
const titleCharsMax = 60
const tellingCharsMin = 12

export function titleFrom(question: string, answer: string): string {
  const asked = firstSentence(question)
  const told = asked.length >= tellingCharsMin ? asked : firstSentence(answer)
  return shorten(told.length > asked.length && told !== '' ? told : asked, titleCharsMax) || defaultTitle
}

/** Markdown marks and line breaks are no part of a title. */
function firstSentence(text: string): string {
  const plain = text
    .slice(0, 2_000)
    .toWellFormed()
    .replaceAll(/```[^`]*```/g, ' ')
    .replaceAll(/^[#>\s-]+|[*_`|]+/gm, '')
    .trim()
  const line = plain.split(/\n/, 1)[0] ?? ''
  const sentence = /^.*?[.!?。！？](?=\s|$)/u.exec(line)?.[0] ?? line
  // "Hi!" is no title: what follows the greeting says more.
  const told = sentence.length < tellingCharsMin ? line : sentence
  return told
    .replaceAll(/\s+/g, ' ')
    .replace(/[.。]+$/, '')
    .trim()
}

/** At most `charsMax` code points, cut at a word where there is one near the end. */
export function shorten(text: string, charsMax: number): string {
  const characters = [...text]
  if (characters.length <= charsMax) return text
  const cut = characters.slice(0, charsMax - 1).join('')
  const endsInAWord = characters[charsMax - 1] !== ' '
  const space = cut.lastIndexOf(' ')
  return `${(endsInAWord && space > charsMax / 2 ? cut.slice(0, space) : cut).trimEnd()}…`
}
