/**
 * Fences: what people wrote is data, and stays what it is, wherever it stands in what a model is sent.
 *
 * Into the system prompt it comes as JSON between two lines. Whatever could end those lines, begin a turn, or hide is
 * written as an escape there, in keys as in values, so the text between them has not one `<`, `[` within a string, line
 * break, or invisible character. In a turn of its own it is left as it is, but for the control tokens of chat
 * templates: a space behind their first character makes plain text of them.
 */

/**
 * Borders of turns, and of whole texts, in the templates of ChatML, Llama, Mistral, Gemma, DeepSeek, Phi, Command R,
 * Kimi, EXAONE, MiniMax, ChatGLM, Baichuan, Seed, Nemotron. As their tokenizers take them: to the letter. HTML's `<s>`
 * is one of them, so struck-out text gets a space; headings such as "### Instruction:" are ordinary Markdown and stay.
 */
const controlToken = new RegExp(
  [
    // One character, then a look ahead: a token that begins within another one is found too.
    /<(?=[|｜][\w.:/▁-]{1,64}[|｜]?>)/,
    /<(?=\/?[\w.:/▁-]{1,64}[|｜]>)/,
    /<(?=<\/?SYS>>)/,
    /<(?=\/?(?:s|bos|eos|sop|eop|start_of_turn|end_of_turn|(?:beginning|end)_of_sentence|seed:[a-z_]{1,32})>)/,
    /<(?=(?:reserved_|extra_id_|SPECIAL_)\d{1,6}>)/,
    /\[(?=\/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|gMASK)\])/,
    /\[(?=\|(?:system|user|assistant|tool|endofturn)\|\])/,
    /\](?=~!?b(?:\[|\]))/,
    /\[(?=e~\[)/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'g',
)

/** Text for a turn of its own. Ordinary text, code and markup come back as they are. */
export function withoutControlTokens(text: string): string {
  // Most messages have none of these, and to look for them costs next to nothing.
  if (!text.includes('<') && !text.includes('[') && !text.includes(']')) return text
  return text.replaceAll(controlToken, '$& ')
}

/** Marks, what a tokenizer's normalisation makes them of, and what nobody sees. */
const unsafe = /[<>[\]＜＞［］﹤﹥\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\u{E0100}-\u{E01EF}]/gu

const escape = (text: string): string =>
  text.replaceAll(unsafe, (character) => {
    let escaped = ''
    for (let index = 0; index < character.length; index++)
      escaped += `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`
    return escaped
  })

const depthMax = 32

/**
 * A JSON value that stands on one line, cut after `charsMax`. Texts and levels beyond that are not looked at. A map is
 * printed as an object whose keys keep their order: an object's own would begin with those that look like numbers.
 *
 * @returns the text, which is JSON unless it was cut, and whether it was.
 */
export function printData(value: unknown, charsMax: number): { text: string; cut: boolean } {
  let text = ''
  const isFull = () => text.length > charsMax

  function printText(raw: string): void {
    // No escape is shorter than what it stands for: what comes behind would be cut anyway.
    const seen = raw.slice(0, Math.max(charsMax - text.length, 0) + 1)
    text += `"${escape(JSON.stringify(seen).slice(1, -1))}"`
  }

  function print(node: unknown, depth: number): void {
    if (isFull()) return
    if (typeof node === 'string') {
      printText(node)
      return
    }
    if (typeof node !== 'object' || node === null) {
      text += JSON.stringify(node)
      return
    }
    if (depth >= depthMax) {
      text += '"…"'
      return
    }
    const isList = Array.isArray(node)
    text += isList ? '[' : '{'
    let first = true
    for (const [key, item] of node instanceof Map ? (node as Map<string, unknown>) : entriesOf(node)) {
      if (isFull()) return
      if (!first) text += ', '
      first = false
      if (!isList) {
        printText(key)
        text += ': '
      }
      print(item, depth + 1)
    }
    text += isList ? ']' : '}'
  }

  print(value, 0)
  return isFull() ? { text: cutAt(text, charsMax), cut: true } : { text, cut: false }
}

/** One by one: of an object with a million keys only those that are printed. */
function* entriesOf(node: object): Generator<[string, unknown]> {
  for (const key in node) if (Object.hasOwn(node, key)) yield [key, (node as Record<string, unknown>)[key]]
}

/** Neither half of an escape nor half of a character stays behind. */
function cutAt(text: string, charsMax: number): string {
  let end = charsMax
  if (/[\uD800-\uDBFF]/.test(text.charAt(end - 1))) end--
  const escapeAt = text.lastIndexOf('\\', end - 1)
  if (escapeAt >= end - 5 && text.charAt(escapeAt - 1) !== '\\') end = escapeAt
  return text.slice(0, Math.max(end, 0))
}

/** Printed data as a paragraph of the system prompt. @param name ours, never the user's. */
export const fence = (name: string, printed: string): string => `<${name}>\n${printed}\n</${name}>`
