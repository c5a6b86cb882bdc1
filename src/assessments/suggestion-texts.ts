/** The questions that are suggested, in English and Indonesian, as the person would ask them. */
import type { ContextType } from '../conversations/schemas.ts'
import type { Language } from './language.ts'
import type { OceanLetter, RiasecLetter } from './results.ts'

/** Names that are put in are in the language already. */
export interface SuggestionTexts {
  side: Record<RiasecLetter, string>
  trait: Record<OceanLetter, string>
  and: (names: readonly string[]) => string
  or: (names: readonly string[]) => string
  careersForSides: (sides: readonly string[]) => string
  /** Where no interests are known. */
  careersForResults: string
  /** A career question for the strongest interest, and a development one for the second. */
  workWith: Record<RiasecLetter, string>
  growIn: (side: string) => string
  strengthsAtWork: (names: string) => string
  strengthFirst: (names: string) => string
  /** Where no strengths are known. */
  strengthsInResults: string
  traitAtWork: (trait: string) => string
  careersCompared: (one: string, other: string) => string
  careerFits: (career: string) => string
  develop: string
  nextSteps: Record<ContextType, string>
  tryOut: (side: string) => string
  /** Where nothing is known: careers, strengths, development and next steps first, then what anybody may ask. */
  general: Record<ContextType, readonly string[]>
}

const en: SuggestionTexts = {
  side: {
    R: 'realistic',
    I: 'investigative',
    A: 'artistic',
    S: 'social',
    E: 'enterprising',
    C: 'conventional',
  },
  trait: {
    O: 'openness',
    C: 'conscientiousness',
    E: 'extraversion',
    A: 'agreeableness',
    N: 'sensitivity to stress',
  },
  and: (names) => listed(names, ', ', ' and '),
  or: (names) => listed(names, ', ', ' or '),
  careersForSides: ([first = '', second]) =>
    second === undefined
      ? `What careers suit my ${first} side?`
      : `What careers suit my ${first} and ${second} sides?`,
  careersForResults: 'Which careers fit my results best, and why?',
  workWith: {
    R: 'In which jobs could I work with my hands, with tools or with machines?',
    I: 'In which fields could I do research and solve hard problems?',
    A: 'Where could I earn a living with ideas and creative work of my own?',
    S: 'In which jobs could I help, teach or advise people every day?',
    E: 'Where could I lead people, sell ideas or build a business of my own?',
    C: 'In which jobs would my sense for order, numbers and detail count most?',
  },
  growIn: (side) => `Which skills should I learn to get ahead in ${side} work?`,
  strengthsAtWork: (names) => `How can I use my ${names} at work?`,
  strengthFirst: (names) => `Which of my strengths should I build on first: ${names}?`,
  strengthsInResults: 'Which strengths do you see in my results?',
  traitAtWork: (trait) => `What does my ${trait} score say about the way I work best?`,
  careersCompared: (one, other) => `Which would suit me better, “${one}” or “${other}”?`,
  careerFits: (career) => `How well does the career “${career}” fit me, and how would I get there?`,
  develop: 'What should I work on to grow, going by my results?',
  nextSteps: {
    general: 'What are my next steps from here?',
    assessment: 'Which three steps could I take this month, going by my results?',
    career_guidance: 'Can you make me a step-by-step career plan for the next twelve months?',
  },
  tryOut: (side) => `How can I try out ${side} work before I decide?`,
  general: {
    general: [
      'How do I find out which careers suit me?',
      'What are my strengths, and how do I recognise them?',
      'Which skills should I learn to find good work?',
      'What could my next step be?',
      'How can I tell whether I should change my job?',
      'How do I decide between two paths that I both like?',
      'How can I try out a career before I commit to it?',
    ],
    assessment: [
      'Which careers could suit my personality?',
      'How do I recognise my strengths, and use them at work?',
      'Which skills should I develop first?',
      'What could my next step be?',
      'What can an assessment tell me about my interests and strengths?',
      'What do RIASEC, the Big Five and VIA strengths say about me?',
      'How can I try out a career before I commit to it?',
    ],
    career_guidance: [
      'Which careers suit what I am good at?',
      'Which of my strengths do employers look for?',
      'Which skills am I missing for the career that I want?',
      'Can you make me a step-by-step career plan?',
      'How do I compare two careers that both interest me?',
      'How do I change to another field without starting from zero?',
      'How should I prepare for my next interview?',
    ],
  },
}

const id: SuggestionTexts = {
  side: {
    R: 'realistis',
    I: 'investigatif',
    A: 'artistik',
    S: 'sosial',
    E: 'wirausaha',
    C: 'konvensional',
  },
  trait: {
    O: 'keterbukaan',
    C: 'ketelitian',
    E: 'ekstraversi',
    A: 'keramahan',
    N: 'kepekaan terhadap stres',
  },
  and: (names) => listed(names, ', ', names.length > 2 ? ', dan ' : ' dan '),
  or: (names) => listed(names, ', ', names.length > 2 ? ', atau ' : ' atau '),
  careersForSides: ([first = '', second]) =>
    second === undefined
      ? `Karier apa yang cocok dengan sisi ${first} saya?`
      : `Karier apa yang cocok dengan sisi ${first} dan ${second} saya?`,
  careersForResults: 'Karier apa yang paling cocok dengan hasil tes saya, dan mengapa?',
  workWith: {
    R: 'Di pekerjaan apa saya bisa bekerja dengan tangan, alat, atau mesin?',
    I: 'Di bidang apa saya bisa meneliti dan memecahkan masalah yang sulit?',
    A: 'Di mana saya bisa hidup dari ide dan karya kreatif saya sendiri?',
    S: 'Di pekerjaan apa saya bisa membantu, mengajar, atau membimbing orang setiap hari?',
    E: 'Di mana saya bisa memimpin orang, menawarkan ide, atau membangun usaha sendiri?',
    C: 'Di pekerjaan apa kerapian dan ketelitian saya dengan angka paling dihargai?',
  },
  growIn: (side) => `Keterampilan apa yang perlu saya pelajari agar maju dalam pekerjaan ${side}?`,
  strengthsAtWork: (names) => `Bagaimana saya bisa memakai ${names} saya dalam pekerjaan?`,
  strengthFirst: (names) => `Kekuatan saya yang mana yang sebaiknya saya kembangkan lebih dulu: ${names}?`,
  strengthsInResults: 'Kekuatan apa saja yang terlihat dari hasil tes saya?',
  traitAtWork: (trait) => `Apa arti skor ${trait} saya bagi cara kerja yang paling cocok untuk saya?`,
  careersCompared: (one, other) => `Mana yang lebih cocok untuk saya, “${one}” atau “${other}”?`,
  careerFits: (career) =>
    `Seberapa cocok karier “${career}” untuk saya, dan bagaimana saya bisa mencapainya?`,
  develop: 'Apa yang perlu saya kembangkan menurut hasil tes saya?',
  nextSteps: {
    general: 'Apa langkah saya selanjutnya?',
    assessment: 'Tiga langkah apa yang bisa saya ambil bulan ini berdasarkan hasil tes saya?',
    career_guidance: 'Bisakah saya dibuatkan rencana karier bertahap untuk dua belas bulan ke depan?',
  },
  tryOut: (side) => `Bagaimana saya bisa mencoba pekerjaan ${side} sebelum memutuskan?`,
  general: {
    general: [
      'Bagaimana cara saya mengetahui karier yang cocok untuk saya?',
      'Apa saja kekuatan saya, dan bagaimana saya mengenalinya?',
      'Keterampilan apa yang perlu saya pelajari untuk mendapat pekerjaan yang baik?',
      'Apa langkah saya selanjutnya?',
      'Bagaimana saya tahu apakah saya perlu pindah kerja?',
      'Bagaimana saya memilih di antara dua jalan yang sama-sama saya sukai?',
      'Bagaimana saya bisa mencoba suatu karier sebelum memilihnya?',
    ],
    assessment: [
      'Karier apa yang cocok dengan kepribadian saya?',
      'Bagaimana saya mengenali kekuatan saya dan memakainya dalam pekerjaan?',
      'Keterampilan apa yang perlu saya kembangkan lebih dulu?',
      'Apa langkah saya selanjutnya?',
      'Apa yang bisa dikatakan tes tentang minat dan kekuatan saya?',
      'Apa yang dikatakan RIASEC, Big Five, dan kekuatan VIA tentang saya?',
      'Bagaimana saya bisa mencoba suatu karier sebelum memilihnya?',
    ],
    career_guidance: [
      'Karier apa yang cocok dengan keahlian saya?',
      'Kekuatan saya yang mana yang dicari perusahaan?',
      'Keterampilan apa yang masih kurang untuk karier yang saya inginkan?',
      'Bisakah saya dibuatkan rencana karier bertahap?',
      'Bagaimana saya membandingkan dua karier yang sama-sama menarik bagi saya?',
      'Bagaimana saya pindah ke bidang lain tanpa mulai dari nol?',
      'Bagaimana saya sebaiknya mempersiapkan wawancara berikutnya?',
    ],
  },
}

export const suggestionTexts: Record<Language, SuggestionTexts> = { en, id }

/** `a, b and c` */
function listed(names: readonly string[], between: string, beforeLast: string): string {
  const last = names.at(-1) ?? ''
  return names.length < 2 ? last : `${names.slice(0, -1).join(between)}${beforeLast}${last}`
}
