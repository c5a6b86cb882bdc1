/** What a welcome that no model has written says, in English and Indonesian. */
import type { Language } from './language.ts'
import type { OceanLetter, RiasecLetter } from './results.ts'

/** Names that are put in are plain text, in the language already. */
export interface WelcomeTexts {
  greeting: (name: string | undefined) => string
  introduction: string
  /** Where there are no results. */
  general: string
  interests: {
    label: string
    two: (first: string, second: string) => string
    one: (side: string) => string
    even: (names: string) => string
  }
  /** What the highest interest says, as a sentence. */
  likes: Record<RiasecLetter, string>
  personality: string
  trait: Record<OceanLetter, { high: string; low: string }>
  balanced: string
  strengths: { label: string; several: (names: string) => string; one: (name: string) => string }
  profile: { label: string; text: string; careers: (names: string) => string }
  questions: string
  closing: string
  generalClosing: string
}

const en: WelcomeTexts = {
  greeting: (name) => (name === undefined ? 'Welcome!' : `Welcome, ${name}!`),
  introduction:
    'It is good to have you here. Your assessment is done, and this is what stands out in your results:',
  general:
    'It is good to have you here. I can help you with questions about careers, strengths, study and your next steps. The more you tell me about what you like and what you are good at, the more concrete I can be.',
  interests: {
    label: 'Your interests',
    two: (first, second) => `Your ${first} and ${second} sides are the strongest.`,
    one: (side) => `Your ${side} side is the strongest.`,
    even: (names) =>
      `Your interests lie close together, with ${names} just in front: many fields are open to you.`,
  },
  likes: {
    R: 'You like to get things done with your hands, tools or machines, and to see a result.',
    I: 'You like to find out how things work, and to think hard problems through.',
    A: 'You want room for imagination and for ideas of your own.',
    S: 'You like to help, teach and support people.',
    E: 'You like to take the lead, to convince others and to get things moving.',
    C: 'You like order, clear rules and work that is done with care.',
  },
  personality: 'Your personality',
  trait: {
    O: {
      high: 'You score high on openness: new ideas and new surroundings draw you.',
      low: 'You score low on openness: you rely on what has proved itself, and on clear routines.',
    },
    C: {
      high: 'You score high on conscientiousness: you plan, and people can count on you.',
      low: 'You score low on conscientiousness: you stay flexible, and do best where not everything is planned ahead.',
    },
    E: {
      high: 'You score high on extraversion: being with people gives you energy.',
      low: 'You score low on extraversion: you do your best thinking in quiet surroundings and small groups.',
    },
    A: {
      high: 'You score high on agreeableness: you care about others, and make working together easy.',
      low: 'You score low on agreeableness: you say what you think, and can hold your own in a discussion.',
    },
    N: {
      high: 'You score high on neuroticism: you notice tension early, so a place with support and clear expectations may do you good.',
      low: 'You score low on neuroticism: you tend to stay calm where others feel the pressure.',
    },
  },
  balanced: 'Your Big Five scores are balanced: you can adapt to many ways of working.',
  strengths: {
    label: 'Your strengths',
    several: (names) => `Your top strengths are ${names}: what you do with them rarely feels like a duty.`,
    one: (name) => `Your top strength is ${name}: what you do with it rarely feels like a duty.`,
  },
  profile: {
    label: 'Your career profile',
    text: 'It is ready too, and we can go through it together.',
    careers: (names) => `It names careers such as ${names}. We can look at how well they fit you.`,
  },
  questions: 'You could begin with one of these questions:',
  closing:
    'Results are a starting point and not a verdict. You know yourself best, so tell me where they miss the mark.',
  generalClosing: 'Or simply tell me what is on your mind.',
}

const id: WelcomeTexts = {
  greeting: (name) => (name === undefined ? 'Selamat datang!' : `Selamat datang, ${name}!`),
  introduction:
    'Senang bertemu dengan Anda. Tes Anda sudah selesai, dan inilah yang paling menonjol dari hasilnya:',
  general:
    'Senang bertemu dengan Anda. Saya bisa membantu menjawab pertanyaan tentang karier, kekuatan, studi, dan langkah Anda selanjutnya. Semakin banyak Anda bercerita tentang hal yang Anda sukai dan kuasai, semakin jelas jawaban saya.',
  interests: {
    label: 'Minat Anda',
    two: (first, second) => `Sisi ${first} dan ${second} Anda paling kuat.`,
    one: (side) => `Sisi ${side} Anda paling kuat.`,
    even: (names) =>
      `Minat Anda hampir seimbang, dengan sisi ${names} sedikit di depan: banyak bidang terbuka untuk Anda.`,
  },
  likes: {
    R: 'Anda suka mengerjakan sesuatu dengan tangan, alat, atau mesin, dan melihat hasilnya.',
    I: 'Anda suka mencari tahu cara kerja sesuatu dan memikirkan masalah yang sulit.',
    A: 'Anda membutuhkan ruang untuk imajinasi dan ide Anda sendiri.',
    S: 'Anda suka membantu, mengajar, dan mendukung orang lain.',
    E: 'Anda suka memimpin, meyakinkan orang, dan menggerakkan sesuatu.',
    C: 'Anda suka keteraturan, aturan yang jelas, dan pekerjaan yang teliti.',
  },
  personality: 'Kepribadian Anda',
  trait: {
    O: {
      high: 'Skor keterbukaan Anda tinggi: ide dan suasana baru menarik bagi Anda.',
      low: 'Skor keterbukaan Anda rendah: Anda mengandalkan hal yang sudah teruji dan rutinitas yang jelas.',
    },
    C: {
      high: 'Skor ketelitian Anda tinggi: Anda terencana dan bisa diandalkan.',
      low: 'Skor ketelitian Anda rendah: Anda luwes, dan paling nyaman bila tidak semuanya direncanakan.',
    },
    E: {
      high: 'Skor ekstraversi Anda tinggi: berada di antara orang lain memberi Anda energi.',
      low: 'Skor ekstraversi Anda rendah: Anda berpikir paling baik di tempat yang tenang dan kelompok kecil.',
    },
    A: {
      high: 'Skor keramahan Anda tinggi: Anda peduli pada orang lain dan mudah diajak bekerja sama.',
      low: 'Skor keramahan Anda rendah: Anda berkata terus terang dan berani berbeda pendapat.',
    },
    N: {
      high: 'Skor neurotisisme Anda tinggi: Anda cepat merasakan ketegangan, jadi tempat dengan dukungan dan harapan yang jelas bisa baik untuk Anda.',
      low: 'Skor neurotisisme Anda rendah: Anda cenderung tetap tenang ketika orang lain merasa tertekan.',
    },
  },
  balanced: 'Skor Big Five Anda seimbang: Anda bisa menyesuaikan diri dengan banyak cara kerja.',
  strengths: {
    label: 'Kekuatan Anda',
    several: (names) => `Kekuatan utama Anda adalah ${names}: memakainya jarang terasa seperti beban.`,
    one: (name) => `Kekuatan utama Anda adalah ${name}: memakainya jarang terasa seperti beban.`,
  },
  profile: {
    label: 'Profil karier Anda',
    text: 'Profil ini juga sudah siap, dan kita bisa membahasnya bersama.',
    careers: (names) =>
      `Di sana disebut karier seperti ${names}. Kita bisa melihat seberapa cocok untuk Anda.`,
  },
  questions: 'Anda bisa mulai dengan salah satu pertanyaan ini:',
  closing:
    'Hasil tes adalah titik awal, bukan keputusan akhir. Anda yang paling mengenal diri sendiri, jadi katakan saja bila ada yang kurang tepat.',
  generalClosing: 'Atau ceritakan saja apa yang sedang Anda pikirkan.',
}

export const welcomeTexts: Record<Language, WelcomeTexts> = { en, id }
