/**
 * What things are called that results name: the 24 strengths of VIA in both languages, and whatever else a name may be
 * (a strength that we do not know, a career, a person), as plain text.
 */
import type { Language } from './language.ts'

/** With the other names that tests give the same strength. */
const known: readonly (readonly [names: readonly string[], en: string, id: string])[] = [
  [['creativity', 'originality'], 'creativity', 'kreativitas'],
  [['curiosity'], 'curiosity', 'rasa ingin tahu'],
  [['judgment', 'judgement', 'critical_thinking', 'open_mindedness'], 'judgment', 'daya timbang'],
  [['love_of_learning'], 'love of learning', 'kecintaan belajar'],
  [['perspective', 'wisdom'], 'perspective', 'kebijaksanaan'],
  [['bravery', 'courage'], 'bravery', 'keberanian'],
  [['perseverance', 'persistence', 'industry'], 'perseverance', 'ketekunan'],
  [['honesty', 'integrity', 'authenticity'], 'honesty', 'kejujuran'],
  [['zest', 'vitality', 'enthusiasm'], 'zest', 'semangat'],
  [['love', 'capacity_to_love'], 'love', 'kasih sayang'],
  [['kindness', 'generosity'], 'kindness', 'kebaikan hati'],
  [['social_intelligence'], 'social intelligence', 'kecerdasan sosial'],
  [['teamwork', 'citizenship'], 'teamwork', 'kerja sama tim'],
  [['fairness'], 'fairness', 'sikap adil'],
  [['leadership'], 'leadership', 'kepemimpinan'],
  [['forgiveness', 'mercy'], 'forgiveness', 'sikap pemaaf'],
  [['humility', 'modesty'], 'humility', 'kerendahan hati'],
  [['prudence', 'caution'], 'prudence', 'kehati-hatian'],
  [['self_regulation', 'self_control'], 'self-regulation', 'pengendalian diri'],
  [
    ['appreciation_of_beauty', 'appreciation_of_beauty_and_excellence', 'appreciation_of_excellence'],
    'appreciation of beauty',
    'apresiasi terhadap keindahan',
  ],
  [['gratitude'], 'gratitude', 'rasa syukur'],
  [['hope', 'optimism'], 'hope', 'rasa optimis'],
  [['humor', 'humour', 'playfulness'], 'humor', 'rasa humor'],
  [['spirituality', 'religiousness'], 'spirituality', 'spiritualitas'],
]

/** In English each keeps the name that the test gave it. */
const byName = new Map(
  known.flatMap(([names, en, id]) =>
    names.map((name, index) => [name, { en: index === 0 ? en : name.replaceAll('_', ' '), id }] as const),
  ),
)

/** Those of the 24, as results name them. */
export const strengthNames: readonly string[] = known.flatMap(([[name]]) =>
  name === undefined ? [] : [name],
)

/** Empty where nothing of it can be printed. @param name as results have it. */
export const strengthName = (name: string, language: Language): string =>
  byName.get(name)?.[language] ?? plainName(name)

/** Of a name, UTF-16 units: longer ones are no names. */
const nameCharsMax = 40

/**
 * One line without a character that means something to Markdown or HTML: letters, digits, emoji, and what stands in the
 * names of careers and people (C++, UI/UX, R&D). What looks like an address is none.
 */
export function plainName(name: string): string {
  const plain = name
    // What is left out may be longer than what stays.
    .slice(0, nameCharsMax * 8)
    .replace(/[^\p{L}\p{M}\p{N}\p{Emoji_Presentation} '’.,&/()+#-]+/gu, ' ')
    .replace(/\bwww\./gi, ' ')
    .replace(/\s+/g, ' ')
    .trim()
  // By code point: no half of a pair.
  let cut = ''
  for (const char of plain) {
    if (cut.length + char.length >= nameCharsMax && plain.length > nameCharsMax) return `${cut.trim()}…`
    cut += char
  }
  return cut
}
