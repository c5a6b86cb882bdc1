/** The sentences of the demo model, in its two languages. */

export type Topic = 'interview' | 'resume' | 'study' | 'change' | 'direction'

type Some<T> = readonly [T, ...T[]]

export interface Phrases {
  /** stands for the question when there is nothing to quote */
  nothing: string
  openings: Some<(quoted: string) => string>
  scores: (named: string) => string
  and: string
  topics: Readonly<Record<Topic, { reasoning: string; advice: Some<string> }>>
  closings: Some<string>
  introduction: string
}

export const ENGLISH: Phrases = {
  nothing: 'your career',
  openings: [
    (quoted) => `You asked: “${quoted}” — a good place to start.`,
    (quoted) => `Let's look at “${quoted}” together, one step at a time.`,
    (quoted) => `Thanks for bringing this up: “${quoted}”. Here is how I would approach it.`,
  ],
  scores: (named) => `Your assessment points to ${named}, so let that weigh in what follows.`,
  and: ' and ',
  topics: {
    interview: {
      reasoning: 'An interview is coming. Evidence and rehearsal help more than general encouragement.',
      advice: [
        '**Prepare three stories**: a problem you solved, a conflict you handled, something you learned.',
        '**Read the posting twice** and find proof from your own past for each thing it asks.',
        '**Rehearse aloud** with a friend; the first answer is always the worst one.',
      ],
    },
    resume: {
      reasoning: 'They need a document that is read in seconds. Results first, then the rest.',
      advice: [
        '**Lead with results**: a number says more in a résumé than an adjective.',
        '**Cut it to one page** and keep only what this job asks for.',
        '**Link two projects** that somebody can open and understand in a minute.',
      ],
    },
    study: {
      reasoning: 'A choice of study. Interest, daily work afterwards and cost are what to compare.',
      advice: [
        '**Look at the work behind the subject**: talk to two people who do it every day.',
        '**Try it cheaply first** with a free course or a small project this month.',
        '**Compare three options** by interest, cost and the doors each one opens.',
      ],
    },
    change: {
      reasoning: 'They think of leaving. First what is wrong, then what can be tested without risk.',
      advice: [
        '**Name what drains you**: the tasks, the people or the field itself?',
        '**List what carries over**; most skills travel further than job names do.',
        '**Test the new path** on weekends before you give up the old one.',
      ],
    },
    direction: {
      reasoning: 'An open question about direction. Start from energy and strengths, then small tests.',
      advice: [
        '**Notice your energy**: which tasks make you forget the time?',
        '**Write down three strengths** that other people come to you for.',
        '**Run one small experiment** this week, such as an hour with somebody in that field.',
      ],
    },
  },
  closings: [
    'Which of these feels most within reach right now? 🌱',
    'What would you like to try first? 🙂',
    'Tell me a little more about your situation, and we can make this concrete ✨',
  ],
  introduction:
    "*I am Rivulet's built-in demo model, so this answer was prepared; set `OPENROUTER_API_KEY` to talk to a real one.*",
}

export const INDONESIAN: Phrases = {
  nothing: 'kariermu',
  openings: [
    (quoted) => `Kamu bertanya: “${quoted}” — awal yang bagus.`,
    (quoted) => `Mari kita lihat “${quoted}” bersama, langkah demi langkah.`,
    (quoted) => `Terima kasih sudah bercerita: “${quoted}”. Begini saran saya.`,
  ],
  scores: (named) => `Hasil asesmenmu menonjol di ${named}, jadi pertimbangkan itu juga.`,
  and: ' dan ',
  topics: {
    interview: {
      reasoning: 'Ada wawancara sebentar lagi. Bukti dan latihan lebih berguna daripada semangat saja.',
      advice: [
        '**Siapkan tiga cerita**: masalah yang selesai, konflik, dan satu pelajaran.',
        '**Baca lowongannya dua kali**, lalu cari buktinya dari pengalamanmu.',
        '**Latihan bersuara** dengan teman; jawaban pertama selalu paling kaku.',
      ],
    },
    resume: {
      reasoning: 'CV dibaca dalam hitungan detik. Hasil dulu, sisanya belakangan.',
      advice: [
        '**Mulai dari hasil**: satu angka lebih kuat daripada banyak kata sifat.',
        '**Cukup satu halaman**, hanya yang diminta posisi ini.',
        '**Tautkan dua proyek** yang bisa dipahami dalam satu menit.',
      ],
    },
    study: {
      reasoning: 'Soal pilihan studi. Bandingkan minat, pekerjaan sehari-hari, dan biaya.',
      advice: [
        '**Lihat pekerjaannya**: tanya dua orang yang menjalaninya tiap hari.',
        '**Coba dulu** lewat kursus gratis atau proyek kecil bulan ini.',
        '**Bandingkan tiga pilihan** dari minat, biaya, dan peluangnya.',
      ],
    },
    change: {
      reasoning: 'Ada keinginan pindah. Cari dulu sebabnya, lalu uji tanpa risiko besar.',
      advice: [
        '**Sebutkan yang melelahkan**: tugasnya, orangnya, atau bidangnya?',
        '**Catat keahlian yang terbawa**; biasanya lebih banyak dari dugaan.',
        '**Uji jalur baru** di akhir pekan sebelum melepas yang lama.',
      ],
    },
    direction: {
      reasoning: 'Pertanyaan terbuka soal arah. Mulai dari energi dan kekuatan, lalu uji kecil.',
      advice: [
        '**Perhatikan energimu**: tugas apa yang membuatmu lupa waktu?',
        '**Tulis tiga kekuatan** yang sering dicari orang lain darimu.',
        '**Coba satu hal kecil** minggu ini, misalnya ngobrol dengan orang di bidang itu.',
      ],
    },
  },
  closings: [
    'Mana yang paling mungkin kamu mulai sekarang? 🌱',
    'Kamu ingin mencoba yang mana dulu? 🙂',
    'Ceritakan sedikit lagi situasimu, biar sarannya lebih pas ✨',
  ],
  introduction:
    '*Saya model demo bawaan Rivulet, jadi jawaban ini sudah disiapkan; isi `OPENROUTER_API_KEY` untuk model sungguhan.*',
}
