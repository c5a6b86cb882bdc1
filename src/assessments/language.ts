/** Which of our two languages texts are in, by their commonest words. */

export type Language = 'en' | 'id'

/** Words that the other one, and their neighbours (Malay but for Indonesian), do not have. */
const words: Record<Language, ReadonlySet<string>> = {
  en: setOf(`the and of my you your are what how which who why when where with this that these can could would should
    has they their it not from about because want like enjoy love need help please thanks thank hello career careers
    job jobs work working people strong strengths skills person good best suit there been were tell`),
  id: setOf(`yang dan untuk saya aku anda kamu kami kita ini itu dengan tidak bukan dari pada dalam adalah akan bisa dapat
    apa apakah bagaimana mengapa kenapa siapa gimana juga atau lebih sudah belum ingin mau tolong halo karier karir
    pekerjaan kerja bekerja cocok orang seorang sangat minat bakat memiliki sebagai oleh karena suka senang jurusan
    kuliah sekolah kekuatan kepribadian nggak gak enggak banget terima kasih selamat seperti serta para mereka agar
    jadi menjadi punya ada hasil tes arah hidup`),
}

function setOf(list: string): ReadonlySet<string> {
  return new Set(list.split(/\s+/))
}

/** Of each text, UTF-16 units: a language shows early. */
const charsMax = 2_000
const textsMax = 50

/** @returns undefined where neither language shows, or both alike. */
export function languageOf(texts: readonly string[]): Language | undefined {
  const counts = { en: 0, id: 0 }
  for (const text of texts.slice(0, textsMax))
    for (const [word] of text
      .slice(0, charsMax)
      .toLowerCase()
      .matchAll(/\p{L}+/gu)) {
      if (words.en.has(word)) counts.en++
      if (words.id.has(word)) counts.id++
    }
  if (counts.en === counts.id) return undefined
  return counts.en > counts.id ? 'en' : 'id'
}
