/** What a model answered → a title: one line of plain text, or none. */
import { shorten } from './title.ts'

/** Longest title that is taken from a model, in code points. */
const titleCharsMax = 80
/** A title stands at the beginning of an answer or not at all, UTF-16 units. */
const readCharsMax = 2_000

/** Undefined: nothing that could be read as a title. */
export function titleOf(answer: string): string | undefined {
  const lines = answer
    .slice(0, readCharsMax)
    .toWellFormed()
    // Some models think aloud, and may not come to an end.
    .replaceAll(/<think>.*?(?:<\/think>|$)/gis, '\n')
    .split(/[\n\r\v\f\u0085\u2028\u2029]/u)
    .filter(isTelling)
  // "Here is a title:" announces one.
  const line = lines.find((candidate) => !/[:：][\s*_`"“”]*$/u.test(candidate)) ?? lines[0] ?? ''
  const title = shorten(unwrap(plain(line)), titleCharsMax).replace(/\u200d…$/u, '…')
  return isTelling(title) ? title : undefined
}

/** Something that can be read, or seen. */
const isTelling = (text: string) => /[\p{L}\p{N}\p{Extended_Pictographic}]/u.test(text)

/** Without markup, quotation marks, and what nobody sees but the joiners of emoji and of some scripts. */
const plain = (line: string): string =>
  line
    .replaceAll(/<\|[^|<>]{0,64}\|>|<[/!]?[a-z][^<>]{0,200}>/gi, ' ')
    .replaceAll(/!?\[([^\]]{1,200})\]\([^)]{0,500}\)/g, '$1')
    .replaceAll(/[\p{Cc}\p{Zs}]/gu, ' ')
    .replaceAll(/(?![\u200c\u200d])[\p{Cf}\p{Co}\p{Cs}]/gu, '')
    .replaceAll(/[*_`|~"“”„‟«»＂]+/g, '')
    .replace(/^[\s#>•+-]+/, '')
    .replaceAll(/ {2,}/g, ' ')
    .trim()

const label =
  /^(?:(?:chat|conversation|suggested|the|thread)\s)*(?:title|titel|titre|titolo|título|titulo|judul|标题|標題|タイトル)\s*[:：]\s*/iu

/** "Title: 'Plans.'" is a title in its wrapping; each layer is shorter than the last. */
function unwrap(text: string): string {
  const inner = text
    .replace(label, '')
    .replace(/^['‘‚‹「『《](.*)['’›」』》]$/u, '$1')
    .replace(/[\s.。]+$/u, '')
    .trim()
  return inner === text ? text : unwrap(inner)
}
