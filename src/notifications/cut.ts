/** Text that has to fit: cut between characters (code points, as PostgreSQL counts them), and it shows. */

/** @returns at most so many characters, the mark of the cut included. */
export function cutChars(text: string, charsMax: number): string {
  // Counting is linear in the text: only where the cheap bound does not decide.
  if (text.length <= charsMax) return text
  let kept = ''
  let chars = 0
  for (const char of text) {
    if (++chars < charsMax) kept += char
    else if (chars > charsMax) return `${kept.trimEnd()}…`
  }
  return text
}

/** @returns what takes at most so many bytes inside a JSON string, the mark of the cut included. */
export function cutJsonBytes(text: string, bytesMax: number): string {
  if (jsonBytes(text) <= bytesMax) return text
  const markBytes = 3
  let kept = ''
  let bytes = 0
  for (const char of text) {
    bytes += jsonBytes(char)
    if (bytes > bytesMax - markBytes) break
    kept += char
  }
  return `${kept.trimEnd()}…`
}

const jsonBytes = (text: string) => Buffer.byteLength(JSON.stringify(text)) - 2

/** Line breaks and other control characters become spaces: for titles, subjects and previews. */
export const oneLine = (text: string): string => text.replace(/[\s\p{Cc}]+/gu, ' ').trim()
