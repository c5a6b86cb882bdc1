/** The sentences of the demo model's welcome, in its two languages. */

export type RiasecLetter = 'R' | 'I' | 'A' | 'S' | 'E' | 'C'
export type OceanLetter = 'O' | 'C' | 'E' | 'A' | 'N'

export interface WelcomePhrases {
  reasoning: string
  greetings: readonly [string, ...string[]]
  and: string
  riasec: Readonly<Record<RiasecLetter, { name: string; likes: string }>>
  ocean: Readonly<Record<OceanLetter, { name: string; means: string }>>
  types: (named: string, likes: string) => string
  trait: (named: string, means: string) => string
  strengths: (named: string) => string
  /** instead of insights */
  nothingKnown: string
  beforeQuestions: string
  /** `sides`: empty where none is known */
  askCareers: (sides: string) => string
  askStrength: (strength: string | undefined) => string
  askNext: readonly [string, ...string[]]
}

export const ENGLISH_WELCOME: WelcomePhrases = {
  reasoning: 'A new profile. Greet, name what stands out, and offer three ways to begin.',
  greetings: [
    'Hello and welcome! 👋 Your assessment is ready, and it already tells a story worth talking about.',
    'Welcome! 🌱 I have looked at your assessment results, and here is what stands out.',
    'Hi, good to meet you! ✨ Your results are in, so we can start right away.',
  ],
  and: ' and ',
  riasec: {
    R: { name: 'Realistic', likes: 'to build things that can be touched' },
    I: { name: 'Investigative', likes: 'to find out how things work' },
    A: { name: 'Artistic', likes: 'to give ideas a form of your own' },
    S: { name: 'Social', likes: 'to help people grow' },
    E: { name: 'Enterprising', likes: 'to lead people towards a goal' },
    C: { name: 'Conventional', likes: 'to bring order into complicated matters' },
  },
  ocean: {
    O: { name: 'Openness', means: 'new ideas give you energy' },
    C: { name: 'Conscientiousness', means: 'others can rely on what you promise' },
    E: { name: 'Extraversion', means: 'you gather energy among people' },
    A: { name: 'Agreeableness', means: 'you make cooperation easy for others' },
    N: { name: 'Emotional sensitivity', means: 'you notice early what does not feel right' },
  },
  types: (named, likes) => `Your interests point most clearly to ${named}: you like ${likes}.`,
  trait: (named, means) => `In the Big Five your highest score is ${named}, which often means that ${means}.`,
  strengths: (named) =>
    `Your character strengths begin with ${named}. Work that calls for that every day will suit you.`,
  nothingKnown:
    'I do not have your scores in front of me yet, but we can begin with what you enjoy and what comes easily to you.',
  beforeQuestions: 'You could begin by asking me:',
  askCareers: (sides) =>
    sides === '' ? 'What careers would suit me?' : `What careers would suit my ${sides} side?`,
  askStrength: (strength) =>
    `How can I use ${strength === undefined ? 'my strengths' : `my ${strength}`} at work?`,
  askNext: [
    'What small step could I take this month?',
    'Which skills should I develop first?',
    'How can I find out whether a career really fits me?',
  ],
}

export const INDONESIAN_WELCOME: WelcomePhrases = {
  reasoning: 'Profil baru. Sapa dulu, sebutkan yang menonjol, lalu tawarkan tiga cara memulai.',
  greetings: [
    'Halo, selamat datang! 👋 Hasil asesmenmu sudah siap, dan banyak hal menarik untuk dibahas.',
    'Selamat datang! 🌱 Saya sudah melihat hasil asesmenmu, dan inilah yang menonjol.',
    'Hai, senang bertemu denganmu! ✨ Hasilmu sudah ada, jadi kita bisa langsung mulai.',
  ],
  and: ' dan ',
  riasec: {
    R: { name: 'Realistis', likes: 'membuat sesuatu yang nyata' },
    I: { name: 'Investigatif', likes: 'mencari tahu cara kerja sesuatu' },
    A: { name: 'Artistik', likes: 'memberi bentuk pada gagasanmu sendiri' },
    S: { name: 'Sosial', likes: 'membantu orang lain berkembang' },
    E: { name: 'Wirausaha', likes: 'memimpin orang menuju tujuan' },
    C: { name: 'Konvensional', likes: 'menata hal-hal yang rumit' },
  },
  ocean: {
    O: { name: 'Keterbukaan', means: 'gagasan baru memberimu energi' },
    C: { name: 'Kesungguhan', means: 'janjimu bisa diandalkan' },
    E: { name: 'Ekstraversi', means: 'kamu mendapat energi saat bersama orang lain' },
    A: { name: 'Keramahan', means: 'kamu membuat kerja sama terasa mudah' },
    N: { name: 'Kepekaan emosi', means: 'kamu cepat merasakan saat ada yang tidak beres' },
  },
  types: (named, likes) => `Minatmu paling kuat di ${named}: kamu senang ${likes}.`,
  trait: (named, means) => `Dalam Big Five, skor tertinggimu adalah ${named}; biasanya itu berarti ${means}.`,
  strengths: (named) =>
    `Kekuatan karaktermu yang paling menonjol: ${named}. Carilah pekerjaan yang membutuhkannya setiap hari.`,
  nothingKnown:
    'Skormu belum ada di hadapan saya, tetapi kita bisa mulai dari hal yang kamu sukai dan yang mudah bagimu.',
  beforeQuestions: 'Kamu bisa mulai dengan bertanya:',
  askCareers: (sides) =>
    sides === ''
      ? 'Karier apa yang cocok untuk saya?'
      : `Karier apa yang cocok untuk sisi ${sides} dalam diri saya?`,
  askStrength: (strength) =>
    strength === undefined
      ? 'Bagaimana saya bisa memakai kekuatan saya di tempat kerja?'
      : `Bagaimana saya bisa memakai kekuatan ${strength} di tempat kerja?`,
  askNext: [
    'Langkah kecil apa yang bisa saya ambil bulan ini?',
    'Keterampilan apa yang sebaiknya saya kembangkan dulu?',
    'Bagaimana saya tahu bahwa sebuah karier benar-benar cocok untuk saya?',
  ],
}
