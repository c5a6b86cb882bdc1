/** The words of the demo archive's persona profiles, in its two languages, and the 24 strengths of VIA. */

export type Letter = 'R' | 'I' | 'A' | 'S' | 'E' | 'C'

interface Persona {
  summary: (kind: string, likes: string, alsoLikes: string) => string
  types: Readonly<
    Record<
      Letter,
      {
        kind: string
        likes: string
        style: string
        place: string
        growth: string
        careers: readonly [string, string, string]
      }
    >
  >
}

/** As the archive names them, in either language. */
export const STRENGTHS = [
  'creativity',
  'curiosity',
  'judgment',
  'love_of_learning',
  'perspective',
  'bravery',
  'perseverance',
  'honesty',
  'zest',
  'love',
  'kindness',
  'social_intelligence',
  'teamwork',
  'fairness',
  'leadership',
  'forgiveness',
  'humility',
  'prudence',
  'self_regulation',
  'appreciation_of_beauty',
  'gratitude',
  'hope',
  'humor',
  'spirituality',
] as const

export const ENGLISH_PERSONA: Persona = {
  summary: (kind, likes, alsoLikes) =>
    `You are ${kind}: you like to ${likes}. You also like to ${alsoLikes}, and work that allows both will hold your interest.`,
  types: {
    R: {
      kind: 'a practical maker',
      likes: 'work with tools and things that can be touched',
      style: 'Learns by doing, and trusts what has been tried.',
      place: 'A workshop, a laboratory or the outdoors, with a visible result at the end of the day.',
      growth: 'Explain your solutions to others before you move on to the next problem.',
      careers: ['Mechanical Engineer', 'Architect', 'Agricultural Technologist'],
    },
    I: {
      kind: 'an analytical explorer',
      likes: 'find out why things are as they are',
      style: 'Collects evidence first, and decides late but well.',
      place: 'A place with hard questions, quiet hours and colleagues who argue with facts.',
      growth: 'Share half-finished ideas earlier: others can make them better.',
      careers: ['Data Scientist', 'Research Scientist', 'Software Engineer'],
    },
    A: {
      kind: 'an imaginative creator',
      likes: 'give ideas a form of their own',
      style: 'Works in bursts, from a picture of the whole.',
      place: 'A studio or a team that gives room for drafts and leaves the how to you.',
      growth: 'Finish one piece in public each month, however small it is.',
      careers: ['UX Designer', 'Content Strategist', 'Film Editor'],
    },
    S: {
      kind: 'a supportive teacher',
      likes: 'help people to grow',
      style: 'Listens before advising, and remembers what people care about.',
      place: 'A school, a clinic or a community, where the effect on people can be seen.',
      growth: 'Set limits to your availability, so that your energy lasts.',
      careers: ['School Counsellor', 'Human Resources Partner', 'Occupational Therapist'],
    },
    E: {
      kind: 'a persuasive initiator',
      likes: 'lead people towards a goal',
      style: 'Decides fast, and corrects the course on the way.',
      place: 'A young company or a growing team with goals that can be measured.',
      growth: 'Ask for the strongest argument against a plan before you announce it.',
      careers: ['Product Manager', 'Entrepreneur', 'Business Development Lead'],
    },
    C: {
      kind: 'a reliable organiser',
      likes: 'bring order into complicated matters',
      style: 'Plans in steps, and keeps what was promised.',
      place: 'An organisation with clear responsibilities, where accuracy is valued.',
      growth: 'Take on one task without instructions, and design the way yourself.',
      careers: ['Financial Analyst', 'Operations Manager', 'Database Administrator'],
    },
  },
}

export const INDONESIAN_PERSONA: Persona = {
  summary: (kind, likes, alsoLikes) =>
    `Anda adalah ${kind}: Anda senang ${likes}. Anda juga senang ${alsoLikes}, sehingga pekerjaan yang memadukan keduanya akan terasa menarik.`,
  types: {
    R: {
      kind: 'seorang pembuat yang praktis',
      likes: 'bekerja dengan alat dan benda nyata',
      style: 'Belajar dengan praktik, dan percaya pada hal yang sudah terbukti.',
      place: 'Bengkel, laboratorium, atau lapangan, dengan hasil yang terlihat setiap hari.',
      growth: 'Jelaskan solusi Anda kepada orang lain sebelum beralih ke masalah berikutnya.',
      careers: ['Insinyur Mesin', 'Arsitek', 'Ahli Teknologi Pertanian'],
    },
    I: {
      kind: 'seorang penjelajah yang analitis',
      likes: 'mencari tahu mengapa sesuatu terjadi',
      style: 'Mengumpulkan bukti dulu, lalu memutuskan dengan matang.',
      place: 'Tempat dengan pertanyaan sulit, suasana tenang, dan rekan yang berdiskusi dengan data.',
      growth: 'Bagikan gagasan setengah jadi lebih awal agar orang lain dapat menyempurnakannya.',
      careers: ['Ilmuwan Data', 'Peneliti', 'Insinyur Perangkat Lunak'],
    },
    A: {
      kind: 'seorang pencipta yang imajinatif',
      likes: 'memberi bentuk pada gagasan',
      style: 'Bekerja dengan semangat, dari gambaran besar menuju rincian.',
      place: 'Studio atau tim yang memberi ruang untuk mencoba dan membebaskan caranya.',
      growth: 'Selesaikan satu karya setiap bulan dan tunjukkan, sekecil apa pun.',
      careers: ['Desainer UX', 'Perancang Konten', 'Penyunting Film'],
    },
    S: {
      kind: 'seorang pendidik yang suportif',
      likes: 'membantu orang lain berkembang',
      style: 'Mendengarkan sebelum memberi saran, dan peka terhadap kebutuhan orang.',
      place: 'Sekolah, klinik, atau komunitas, tempat dampaknya pada manusia terlihat.',
      growth: 'Batasi waktu untuk orang lain agar energi Anda tetap terjaga.',
      careers: ['Konselor Sekolah', 'Mitra Sumber Daya Manusia', 'Terapis Okupasi'],
    },
    E: {
      kind: 'seorang penggerak yang persuasif',
      likes: 'memimpin orang menuju tujuan',
      style: 'Cepat memutuskan, dan memperbaiki arah sambil berjalan.',
      place: 'Perusahaan rintisan atau tim yang bertumbuh dengan target yang terukur.',
      growth: 'Minta kritik terkuat atas suatu rencana sebelum mengumumkannya.',
      careers: ['Manajer Produk', 'Wirausahawan', 'Pengembang Bisnis'],
    },
    C: {
      kind: 'seorang penata yang andal',
      likes: 'menata hal-hal yang rumit',
      style: 'Merencanakan langkah demi langkah, dan menepati janji.',
      place: 'Organisasi dengan tanggung jawab yang jelas dan menghargai ketelitian.',
      growth: 'Ambil satu tugas tanpa panduan, dan rancang sendiri caranya.',
      careers: ['Analis Keuangan', 'Manajer Operasional', 'Administrator Basis Data'],
    },
  },
}
